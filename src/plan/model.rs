//! The model, its weights and its tokenizer.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::{ModelPlan, Weights};
use crate::checkpoint::load;
use crate::hf;
use crate::model::config::Recompute;
use crate::recipe::Recipe;
use crate::recipe::sections::ActivationCheckpointing;
use hephaestus_core::vocabulary::Vocabulary;

/// The tokenizer, and the folder whose files go into every checkpoint.
pub(super) struct Tokens {
    pub(super) vocabulary: Vocabulary,
    pub(super) folder: PathBuf,
}

/// The Hugging Face folder of `from`: of a checkpoint of this trainer, the one inside it.
fn hugging_face(from: &Path) -> PathBuf {
    let inner = from.join("model");
    if inner.is_dir() && !from.join("config.json").exists() { inner } else { from.to_owned() }
}

/// The model and its weights, if they are sound as far as names and configuration tell.
pub(super) fn model(recipe: &Recipe, findings: &mut Findings) -> Option<ModelPlan> {
    let (key, path) = match (&recipe.model.from, &recipe.model.config) {
        (Some(from), _) => ("model.from", from),
        (None, Some(config)) => ("model.config", config),
        // The recipe's own rules have refused this.
        (None, None) => return None,
    };
    let fresh = key == "model.config";
    if !path.exists() || (!path.is_dir() && !fresh) {
        let what = if fresh {
            "no such file: give a config.json, or a folder with one"
        } else {
            "no such folder: give a Hugging Face folder on this machine, or a checkpoint of this trainer"
        };
        findings.complain(key, format!("{}: {what}", path.display()));
        return None;
    }
    let folder = if fresh { path.clone() } else { hugging_face(path) };
    if folder.is_dir() && !folder.join("config.json").is_file() {
        let message = format!(
            "{}: no config.json in this folder, so it is not a model in the Hugging Face layout",
            folder.display()
        );
        findings.complain(key, message);
        return None;
    }
    let config = hf::config::read(&folder).map_err(|error| findings.complain(key, error.to_string())).ok();
    let mut weights = Weights::Fresh;
    if !fresh {
        if let Err(error) = hf::folder::require_weights(&folder) {
            findings.complain(key, error.to_string());
        }
        weights = Weights::Folder(folder);
    }
    if recipe.model.keep_optimizer {
        if let Err(error) = load::files(path) {
            let message = format!(
                "{error}: give model.from a checkpoint of this trainer, or leave keep_optimizer out to begin with fresh moments"
            );
            findings.complain("model.keep_optimizer", message);
        }
        weights = Weights::WithOptimizer(path.clone());
    }
    let recompute = match recipe.model.activation_checkpointing {
        // To be chosen when all else is known.
        ActivationCheckpointing::Auto | ActivationCheckpointing::None => Recompute::None,
        ActivationCheckpointing::Selective => Recompute::Selective,
        ActivationCheckpointing::Full => Recompute::Full,
    };
    let folder = match &weights {
        Weights::Folder(folder) => Some(folder.clone()),
        Weights::WithOptimizer(checkpoint) => Some(hugging_face(checkpoint)),
        Weights::Fresh => None,
    };
    let base = folder.and_then(|folder| {
        hf::folder::fingerprint(&folder).map_err(|error| findings.complain(key, error.to_string())).ok()
    });
    let config = config?;
    Some(ModelPlan { recompute: vec![recompute; config.layers], config, weights, base })
}

/// The tokenizer, if it loads and the model has a row for each of its tokens.
pub(super) fn vocabulary(recipe: &Recipe, model: Option<&ModelPlan>, findings: &mut Findings) -> Option<Tokens> {
    let (key, path) = match (&recipe.tokenizer, &recipe.model.from) {
        (Some(path), _) => ("tokenizer", path.clone()),
        (None, Some(from)) if from.exists() => ("model.from", hugging_face(from)),
        // What is not there, or not given, has been complained of.
        (None, _) => return None,
    };
    let vocabulary = Vocabulary::load(&path).map_err(|error| findings.complain(key, error.to_string())).ok()?;
    if let Some(model) = model.filter(|model| vocabulary.size as usize > model.config.vocab_size) {
        let message = format!(
            "{}: a tokenizer of {} tokens, more than the {} of the model's embedding (vocab_size): use the model's own tokenizer",
            path.display(),
            vocabulary.size,
            model.config.vocab_size
        );
        findings.complain(key, message);
    }
    let folder = if path.is_file() { path.parent().unwrap_or(Path::new(".")).to_owned() } else { path };
    Some(Tokens { vocabulary, folder })
}
