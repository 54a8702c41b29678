//! The weight files of a Hugging Face folder by name, and whether there are any.

use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::error::HfError;
use crate::corpus::manifest::hex;

/// Name of an unsharded weight file.
pub const SINGLE: &str = "model.safetensors";
/// Name of the index of sharded weights.
pub const INDEX: &str = "model.safetensors.index.json";

/// What is said of a folder that holds an adapter and no model; `None` of any other.
#[must_use]
pub fn adapter(folder: &Path) -> Option<String> {
    let name = "adapter_config.json";
    let text = fs_err::read(folder.join(name)).ok()?;
    let settings: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    let base = settings.get("base_model_name_or_path").and_then(serde_json::Value::as_str);
    let base = base.map_or_else(|| "its base".to_owned(), |base| format!("its base, {base}"));
    let shown = folder.display();
    Some(format!(
        "{shown}: an adapter ({name} without config.json), not a model: merge it into {base} first (in Python, \
         AutoPeftModelForCausalLM.from_pretrained(FOLDER).merge_and_unload().save_pretrained(MERGED)), and give the merged model"
    ))
}

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

/// What the weights of a folder are known by, wherever it lies: a SHA-256 over names, sizes and a sample of each safetensors
/// file: its first 64 KiB, which hold its header, and 4 KiB at each of 64 places spread over the rest. Another fine-tune of
/// the same model has other bytes at nearly all of them; a few milliseconds instead of the minutes of a whole hash.
///
/// # Errors
/// A folder or file that cannot be read.
pub fn fingerprint(folder: &Path) -> io::Result<String> {
    const HEAD: u64 = 64 << 10;
    const BLOCK: u64 = 4 << 10;
    const BLOCKS: u64 = 64;
    let mut names = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") {
            names.push(name);
        }
    }
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in names {
        let mut file = fs_err::File::open(folder.join(&name))?;
        let bytes = file.metadata()?.len();
        hash.update(format!("{name} {bytes}\n"));
        let mut sample = Vec::new();
        let stride = (bytes.saturating_sub(HEAD) / BLOCKS).max(BLOCK);
        let blocks = (0..BLOCKS).map(|at| (HEAD + at * stride, BLOCK));
        for (from, length) in std::iter::once((0, HEAD)).chain(blocks).filter(|(from, _)| *from < bytes) {
            sample.clear();
            file.seek(SeekFrom::Start(from))?;
            file.by_ref().take(length).read_to_end(&mut sample)?;
            hash.update(&sample);
        }
    }
    Ok(hex(&hash.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_tells_other_weights_of_the_same_shape_and_not_another_place() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, last: u8| {
            let mut bytes = vec![7; 1_000_000];
            bytes[300_000..].fill(last);
            fs_err::create_dir_all(folder.path().join(name)).unwrap();
            fs_err::write(folder.path().join(name).join(SINGLE), bytes).unwrap();
            fingerprint(&folder.path().join(name)).unwrap()
        };
        assert_eq!(write("one", 1), write("two", 1));
        assert_ne!(write("one", 1), write("other", 2));
    }
}
