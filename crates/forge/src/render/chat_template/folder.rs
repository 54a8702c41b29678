//! What a tokenizer's folder says of chats: its templates, the tokens that they name, and which tokens are special.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::jinja::Templates;
use crate::render::conversation::ChatError;

/// The part of `tokenizer.json` that matters here.
#[derive(Deserialize)]
struct Tokenizer {
    #[serde(default)]
    added_tokens: Vec<Added>,
}

#[derive(Deserialize)]
struct Added {
    content: String,
    #[serde(default)]
    special: bool,
}

/// The templates of a folder and its special tokens.
pub(super) fn read(folder: &Path) -> Result<(Templates, Vec<String>), ChatError> {
    let path = folder.join("tokenizer.json");
    let tokenizer: Tokenizer = serde_json::from_slice(&fs_err::read(&path)?)
        .map_err(|error| ChatError::Malformed { path, reason: error.to_string() })?;
    let special = tokenizer.added_tokens.into_iter().filter(|token| token.special).map(|token| token.content).collect();

    let config = object(folder, "tokenizer_config.json")?;
    // What the configuration says counts; the older map fills in.
    let mut tokens = named_tokens(&object(folder, "special_tokens_map.json")?);
    tokens.extend(named_tokens(&config));

    let mut sources = sources(&config, &folder.join("tokenizer_config.json"))?;
    // As in transformers, files win over the configuration.
    for (name, file) in [("default", "chat_template.jinja"), ("tool_use", "additional_chat_templates/tool_use.jinja")] {
        let path = folder.join(file);
        if path.is_file() {
            sources.insert(name.to_owned(), fs_err::read_to_string(path)?);
        }
    }
    if sources.is_empty() {
        return Err(ChatError::Missing(folder.to_owned()));
    }
    Ok((Templates::new(sources, tokens, folder)?, special))
}

/// The `chat_template` of a configuration: one, or a list of named ones.
fn sources(config: &Map<String, Value>, path: &Path) -> Result<BTreeMap<String, String>, ChatError> {
    let malformed = |reason: &str| ChatError::Malformed { path: path.to_owned(), reason: reason.to_owned() };
    match config.get("chat_template") {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::String(one)) => Ok(BTreeMap::from([("default".to_owned(), one.clone())])),
        Some(Value::Array(named)) => named
            .iter()
            .map(|one| match (one.get("name"), one.get("template")) {
                (Some(Value::String(name)), Some(Value::String(template))) => Ok((name.clone(), template.clone())),
                _ => Err(malformed("a chat_template in the list lacks `name` or `template`")),
            })
            .collect(),
        Some(_) => Err(malformed("chat_template is neither a string nor a list of named templates")),
    }
}

/// A file's object; empty where there is no such file.
fn object(folder: &Path, file: &str) -> Result<Map<String, Value>, ChatError> {
    let path = folder.join(file);
    if !path.is_file() {
        return Ok(Map::new());
    }
    serde_json::from_slice(&fs_err::read(&path)?)
        .map_err(|error| ChatError::Malformed { path, reason: error.to_string() })
}

/// `bos_token` and its like, as strings or as objects with their `content`.
fn named_tokens(map: &Map<String, Value>) -> BTreeMap<String, String> {
    map.iter()
        .filter(|(key, _)| key.ends_with("_token"))
        .filter_map(|(key, value)| {
            let token = value.as_str().or_else(|| value.get("content")?.as_str())?;
            Some((key.clone(), token.to_owned()))
        })
        .collect()
}
