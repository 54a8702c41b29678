//! The weight files of a Hugging Face folder by name, and whether there are any.

use std::path::Path;

use super::error::HfError;

/// Name of an unsharded weight file.
pub const SINGLE: &str = "model.safetensors";
/// Name of the index of sharded weights.
pub const INDEX: &str = "model.safetensors.index.json";

/// Refuses a folder without weights in safetensors.
///
/// # Errors
/// [`HfError::NoWeights`], or [`HfError::Io`] where the folder cannot be listed.
pub fn require_weights(folder: &Path) -> Result<(), HfError> {
    if folder.join(SINGLE).is_file() || folder.join(INDEX).is_file() {
        return Ok(());
    }
    let mut legacy = false;
    for entry in fs_err::read_dir(folder)? {
        let name = entry?.file_name();
        legacy |= Path::new(&name).extension().is_some_and(|end| end == "bin")
            && name.to_string_lossy().starts_with("pytorch_model");
    }
    Err(HfError::NoWeights { folder: folder.to_owned(), legacy })
}
