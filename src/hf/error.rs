//! What can be wrong with a Hugging Face folder.

use std::path::PathBuf;

/// A Hugging Face folder that cannot be read or written; every variant names the file and, where there is one, the fix.
#[derive(Debug, thiserror::Error)]
pub enum HfError {
    /// The file system refused; the inner error names the path.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A JSON file that is no JSON, or no object.
    #[error("{}: not a JSON object: {reason}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        reason: String,
    },
    /// A configuration that asks for what is not there, out of bounds, or not implemented; every problem at once.
    #[error("{}: {}{}", path.display(), plural(problems.len(), "problem"), bullets(problems))]
    Config {
        /// The file.
        path: PathBuf,
        /// One line a problem, each naming the key and the value found.
        problems: Vec<String>,
    },
    /// A folder with a configuration and no weights.
    #[error(
        "{}: no weights: expected model.safetensors or model.safetensors.index.json{}",
        folder.display(),
        if *legacy { "; only pickled .bin weights are there, which are never loaded: convert them to safetensors" } else { "" }
    )]
    NoWeights {
        /// The folder.
        folder: PathBuf,
        /// Whether `pytorch_model*.bin` files lie there instead.
        legacy: bool,
    },
    /// A safetensors file that is cut short or lies about its layout.
    #[error("{}: not a valid safetensors file: {reason}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Tensors that do not fit the configuration; every one at once.
    #[error(
        "{}: the weights do not fit config.json: {}{}",
        folder.display(), plural(problems.len(), "problem"), bullets(problems)
    )]
    Weights {
        /// The folder.
        folder: PathBuf,
        /// One line a tensor.
        problems: Vec<String>,
    },
    /// A file whose tensors are not those expected; every one at once.
    #[error("{}: {}{}", path.display(), plural(problems.len(), "problem"), bullets(problems))]
    Tensors {
        /// The file.
        path: PathBuf,
        /// One line a tensor.
        problems: Vec<String>,
    },
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
}

/// Lines shown of a long list; the count says how many there are in all.
const SHOWN: usize = 20;

fn plural(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn bullets(lines: &[String]) -> String {
    let mut text = String::new();
    for line in lines.iter().take(SHOWN) {
        text.push_str("\n  - ");
        text.push_str(line);
    }
    if lines.len() > SHOWN {
        text.push_str(&format!("\n  - and {} more", lines.len() - SHOWN));
    }
    text
}
