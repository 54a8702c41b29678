//! The model, its weights and its tokenizer.

use std::path::{Path, PathBuf};

use super::findings::Findings;
use super::{ModelPlan, Weights};
use crate::checkpoint::manifest::Manifest;
use crate::checkpoint::{find, load};
use crate::hf;
use crate::hf::companions::{Companions, Sources};
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

/// What a folder without `config.json` is, and what to give instead.
fn no_model(folder: &Path) -> String {
    let shown = folder.display();
    if let Some(adapter) = hf::folder::adapter(folder) {
        return adapter;
    }
    let checkpoints = find::all(folder).unwrap_or_default();
    match checkpoints.iter().rev().find(|(_, checkpoint)| Manifest::read(checkpoint).is_ok()) {
        Some((_, newest)) => {
            format!(
                "{shown}: the folder of a run: give one of its checkpoints, of which {} is the newest",
                newest.display()
            )
        }
        None => format!("{shown}: no config.json in this folder, so it is not a model in the Hugging Face layout"),
    }
}

/// The model and its weights, if they are sound as far as configuration and headers tell.
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
        findings.complain(key, no_model(&folder));
        return None;
    }
    let config = hf::config::read(&folder).map_err(|error| findings.complain(key, error.to_string())).ok();
    let (mut weights, mut source) = (Weights::Fresh, folder.clone());
    if fresh && folder.is_dir() {
        // Its shape is wanted, and not what goes with its weights.
        source = folder.join("config.json");
    }
    if !fresh {
        let checked = match &config {
            Some(config) => hf::headers::open(&folder, config).map(drop),
            None => hf::folder::require_weights(&folder),
        };
        if let Err(error) = checked {
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
    Some(ModelPlan { recompute: vec![recompute; config.layers], config, source, weights, base })
}

/// The tokenizer, if it loads and the model has a row for each of its tokens.
pub(super) fn vocabulary(recipe: &Recipe, model: Option<&ModelPlan>, findings: &mut Findings) -> Option<Tokens> {
    let (key, path) = match (&recipe.tokenizer, &recipe.model.from) {
        (Some(path), _) => ("tokenizer", path.clone()),
        (None, Some(from)) if from.is_file() || hugging_face(from).join("config.json").is_file() => {
            ("model.from", hugging_face(from))
        }
        // What is no model, or not given, has been complained of.
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
    if let Some(model) = model {
        let sources = Sources { model: Some(&model.source), tokenizer: Some(&folder) };
        match sources.companions() {
            Ok(Companions { left_out, .. }) if left_out.is_empty() => {}
            Ok(Companions { left_out, .. }) => {
                findings.remark(format!(
                    "not carried into checkpoints, of what is beside the model: {}",
                    left_out.join("; ")
                ));
            }
            Err(error) => findings.complain(key, error.to_string()),
        }
    }
    Some(Tokens { vocabulary, folder })
}
