//! The corpora: whether they open, fit the tokenizer and the model, and how many rows they make.

use std::path::Path;

use super::findings::Findings;
use super::model::Tokens;
use super::{DataPlan, ModelPlan, SourcePlan};
use crate::corpus::format::path_of;
use crate::corpus::source::{self, Settings};
use crate::corpus::{Corpus, CorpusError};
use crate::recipe::Recipe;
use crate::recipe::sections::Source;
use hephaestus_core::vocabulary::VocabularyError;

/// Documents looked at, at either end of a corpus.
const LOOKED_AT: u64 = 4;

/// A corpus that opened, before its rows are counted.
struct Opened<'a> {
    name: &'a str,
    key: String,
    source: &'a Source,
    corpus: Corpus,
    /// The last token of a few documents.
    last: Vec<i64>,
}

/// The data; `None` where a corpus or the tokenizer is refused.
pub(super) fn data(
    recipe: &Recipe,
    model: Option<&ModelPlan>,
    tokens: Option<&Tokens>,
    findings: &mut Findings,
) -> Option<DataPlan> {
    let section = &recipe.data;
    let before = findings.problems.len();
    let length = section.sequence_length.0;
    if let Some(model) = model.filter(|model| length > model.config.max_positions as u64) {
        let most = model.config.max_positions;
        let message = format!("is {length}, longer than the {most} positions of the model (max_position_embeddings)");
        findings.complain("data.sequence_length", message);
    }
    let mut opened = Vec::new();
    for (name, source) in &section.sources {
        let key = format!("data.sources.{name}.path");
        match open(name, &key, source) {
            Ok(source) => {
                if let (Some(tokens), Some(model)) = (tokens, model) {
                    fit(&source, tokens, model, findings);
                }
                opened.push(source);
            }
            Err(message) => findings.complain(&key, message),
        }
    }
    let unknown: Vec<_> =
        opened.iter().filter(|source| source.corpus.manifest().is_none()).map(|source| source.name).collect();
    if !unknown.is_empty() {
        findings.remark(format!(
            "without a manifest it cannot be told whether this tokenizer made {}; `hephaestus-forge inspect` shows the text",
            unknown.join(", ")
        ));
    }
    let end_of_document = end_of_document(&section.end_of_document, &opened, tokens?, findings);
    let sequence_length = usize::try_from(length).ok()?;
    let mut sources = Vec::new();
    for Opened { name, key, source, corpus, .. } in &opened {
        let settings = Settings {
            held_out: source.held_out.0,
            packing: section.packing,
            length: sequence_length,
            end: end_of_document,
            vocab_size: model.map_or(u32::MAX, |model| model.config.vocab_size as u32),
            document_mask: section.document_mask,
        };
        match source::Source::open(&source.path, &settings) {
            Ok(rows) => {
                match rows.predicts() {
                    Ok(true) => {}
                    // Without a training row there is another message.
                    Ok(false) if rows.rows() == 0 => {}
                    Ok(false) => findings.complain(key, unpredictable(source, end_of_document)),
                    Err(error) => findings.complain(key, error.to_string()),
                }
                let (rows, held_out_rows) = (rows.rows(), rows.held_out_rows());
                if held_out_rows == 0 {
                    findings.remark(format!("{name} holds nothing out: its loss is not measured in validation"));
                }
                sources.push(SourcePlan {
                    name: (*name).to_owned(),
                    prefix: source.path.clone(),
                    held_out: source.held_out.0,
                    max_epochs: source.max_epochs,
                    documents: corpus.documents(),
                    tokens: corpus.tokens(),
                    rows,
                    held_out_rows,
                });
            }
            Err(error) => findings.complain(key, error.to_string()),
        }
    }
    (findings.problems.len() == before).then_some(DataPlan {
        sequence_length,
        packing: section.packing,
        document_mask: section.document_mask,
        end_of_document,
        sources,
    })
}

fn open<'a>(name: &'a str, key: &str, source: &'a Source) -> Result<Opened<'a>, String> {
    let prefix = &source.path;
    let (idx, bin) = (path_of(prefix, "idx"), path_of(prefix, "bin"));
    if !idx.is_file() || !bin.is_file() {
        return Err(missing(prefix, &if idx.is_file() { bin } else { idx }));
    }
    let corpus = Corpus::open(prefix).map_err(|error| error.to_string())?;
    if corpus.tokens() == 0 {
        return Err(format!("{}: the corpus holds no token", prefix.display()));
    }
    let last = last_tokens(&corpus).map_err(|error| error.to_string())?;
    Ok(Opened { name, key: key.to_owned(), source, corpus, last })
}

/// The message for a corpus of which nothing can be predicted.
fn unpredictable(source: &Source, end: Option<u32>) -> String {
    let path = source.path.display();
    let advice = if end.is_none() { ", or set data.end_of_document to a token to be predicted after each" } else { "" };
    format!(
        "{path}: no document to train on has a token after its first, so there is nothing to predict: give documents of two \
         tokens or more{advice}"
    )
}

fn missing(prefix: &Path, file: &Path) -> String {
    let told = format!("{}: no such file", file.display());
    if prefix.extension().is_some_and(|end| end == "bin" || end == "idx") && prefix.is_file() {
        return format!("{told}: write the path without its ending, {}", prefix.with_extension("").display());
    }
    format!("{told}: a corpus is a .bin and an .idx, made by `hephaestus-forge build` or Megatron-LM")
}

/// The last token of the first and the last few documents that have one.
fn last_tokens(corpus: &Corpus) -> Result<Vec<i64>, CorpusError> {
    let documents = corpus.documents();
    let behind = documents.saturating_sub(LOOKED_AT).max(LOOKED_AT.min(documents));
    let mut last = Vec::new();
    for document in (0..LOOKED_AT.min(documents)).chain(behind..documents) {
        let range = corpus.document_range(document)?;
        if range.start < range.end {
            corpus.read(range.end - 1..range.end, &mut last)?;
        }
    }
    Ok(last)
}

/// Whether a corpus was made with this tokenizer, and its tokens have rows in the model's embedding.
fn fit(source: &Opened, tokens: &Tokens, model: &ModelPlan, findings: &mut Findings) {
    let Opened { key, source: Source { path, .. }, corpus, last, .. } = source;
    let rows = model.config.vocab_size;
    let path = path.display();
    let Some(manifest) = corpus.manifest() else {
        if let Some(token) = last.iter().find(|token| **token >= rows as i64) {
            findings.complain(key, format!("{path}: holds token {token}, and the model has {rows} (vocab_size)"));
        }
        return;
    };
    if manifest.tokenizer != tokens.vocabulary.fingerprint {
        let short = |hash: &str| hash.chars().take(12).collect::<String>();
        let message = format!(
            "{path}: tokenized with another tokenizer (SHA-256 {}… of its tokenizer.json) than {} ({}…): tokenize it again, or give \
             its own tokenizer",
            short(&manifest.tokenizer),
            tokens.folder.display(),
            short(&tokens.vocabulary.fingerprint)
        );
        findings.complain(key, message);
    }
    if manifest.vocab_size as usize > rows {
        let message =
            format!("{path}: a vocabulary of {}, more than the model's {rows} (vocab_size)", manifest.vocab_size);
        findings.complain(key, message);
    }
}

/// The token to add after each document: none where the corpora's documents end with it already.
fn end_of_document(asked: &str, sources: &[Opened], tokens: &Tokens, findings: &mut Findings) -> Option<u32> {
    let key = "data.end_of_document";
    let vocabulary = &tokens.vocabulary;
    let token = match asked {
        "none" => return None,
        "auto" => vocabulary.end_of_document(),
        text => vocabulary.token(text, key),
    };
    let token = match token {
        Ok(token) => token,
        Err(VocabularyError::NoEnd(folder)) => {
            let message = format!(
                "is auto, and {} names no eos_token (tokenizer_config.json, special_tokens_map.json): give the token itself, or none",
                folder.display()
            );
            findings.complain(key, message);
            return None;
        }
        Err(error) => {
            findings.complain(key, error.to_string());
            return None;
        }
    };
    let ends = |source: &&Opened| source.last.iter().filter(|last| **last == i64::from(token)).count();
    // A token given by its text may end some documents by chance; the tokenizer's own ends all of them or none.
    let enough = |source: &&Opened| if asked == "auto" { 1 } else { source.last.len() };
    let (ended, open): (Vec<_>, Vec<_>) =
        sources.iter().filter(|source| !source.last.is_empty()).partition(|source| ends(source) >= enough(source));
    let names = |sources: &[&Opened]| sources.iter().map(|source| source.name).collect::<Vec<_>>().join(", ");
    let text = vocabulary.tokenizer.id_to_token(token).unwrap_or_default();
    let mut agree = true;
    for source in ended.iter().filter(|source| ends(source) < source.last.len()) {
        let (some, all) = (ends(source), source.last.len());
        let message = format!(
            "of {all} documents looked at in {}, {some} end with {text} and the others do not: tokenize it again, or set none",
            source.name
        );
        findings.complain(key, message);
        agree = false;
    }
    if agree && !ended.is_empty() && !open.is_empty() {
        let (ended, open) = (names(&ended), names(&open));
        let message = format!(
            "documents of {ended} end with {text}, those of {open} do not: tokenize {open} again with `--end-of-document {text}`, or \
             set none to train them as they are"
        );
        findings.complain(key, message);
    }
    if ended.is_empty() { Some(token) } else { None }
}
