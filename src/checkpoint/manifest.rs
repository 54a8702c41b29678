//! What a checkpoint vouches with: size and SHA-256 of every file, in `manifest.json`, written last.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hephaestus_core::hashed::Entry;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{CheckpointError, MANIFEST, MODEL, RECIPE, STATE, optimizer};
use crate::hf::folder::{INDEX, SINGLE};

/// The files of a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this format, and of the layout it describes.
    pub version: u32,
    /// By path inside the checkpoint, with `/` between its parts.
    pub files: BTreeMap<String, Entry>,
}

impl Manifest {
    const VERSION: u32 = 1;

    /// Of these files.
    pub(super) fn new(files: BTreeMap<String, Entry>) -> Self {
        Self { version: Self::VERSION, files }
    }

    /// Reads the manifest of the checkpoint in `folder`.
    ///
    /// # Errors
    /// [`CheckpointError::NotOne`] where there is none, [`CheckpointError::Damaged`] where it is no manifest.
    pub fn read(folder: &Path) -> Result<Self, CheckpointError> {
        let file = folder.join(MANIFEST);
        if !file.is_file() {
            return Err(CheckpointError::NotOne(folder.to_owned()));
        }
        let damaged = |reason: String| CheckpointError::Damaged { file: file.clone(), reason };
        let manifest: Self =
            serde_json::from_slice(&fs_err::read(&file)?).map_err(|error| damaged(error.to_string()))?;
        if manifest.version != Self::VERSION {
            return Err(damaged(format!("version {}, this program reads version {}", manifest.version, Self::VERSION)));
        }
        let missing = manifest.missing();
        if !missing.is_empty() {
            return Err(damaged(format!("does not list {}, which a checkpoint needs", missing.join(", "))));
        }
        Ok(manifest)
    }

    /// What a checkpoint cannot be without, and is not listed.
    fn missing(&self) -> Vec<String> {
        let has = |name: &str| self.files.contains_key(name);
        let in_model = |name: &str| format!("{MODEL}/{name}");
        let weights = [SINGLE, INDEX].map(in_model);
        let mut missing: Vec<_> = [STATE.to_owned(), RECIPE.to_owned(), in_model("config.json")]
            .into_iter()
            .filter(|name| !has(name))
            .collect();
        if !weights.iter().any(|name| has(name)) {
            missing.extend(weights.into_iter().take(1));
        }
        if let Err(error) = optimizer::files(Path::new(""), self.files.keys()) {
            missing.push(error.to_string().trim_start_matches(": ").to_owned());
        }
        missing
    }

    /// Holds files in `folder` against their hashes: those that fall to one of so many readers, of which each reads about as
    /// many bytes.
    ///
    /// # Errors
    /// [`CheckpointError::Damaged`] with a file that is not what it was when it was written.
    pub fn verify(&self, folder: &Path, (reader, readers): (usize, usize)) -> Result<(), CheckpointError> {
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort_by_key(|(_, entry)| Reverse(entry.bytes));
        let own: Vec<_> = files.into_iter().skip(reader).step_by(readers.max(1)).collect();
        own.into_par_iter().try_for_each(|(name, expected)| {
            let file = inside(folder, name)?;
            let found = Entry::read(&file)?;
            if found == *expected {
                return Ok(());
            }
            let reason = format!(
                "its contents have changed since it was written (SHA-256 {}…, expected {}…)",
                &found.sha256[..12],
                expected.sha256.get(..12).unwrap_or(&expected.sha256)
            );
            Err(CheckpointError::Damaged { file, reason })
        })
    }

    /// Holds every file in `folder` against its size: it costs nothing, and most damage is a file cut short.
    pub(super) fn verify_sizes(&self, folder: &Path) -> Result<(), CheckpointError> {
        for (name, expected) in &self.files {
            let file = inside(folder, name)?;
            let bytes = fs_err::metadata(&file)?.len();
            if bytes != expected.bytes {
                return Err(CheckpointError::Damaged {
                    reason: format!("{bytes} bytes, expected {} (manifest.json)", expected.bytes),
                    file,
                });
            }
        }
        Ok(())
    }
}

/// The path of a file named in a manifest, which may not leave the checkpoint.
fn inside(folder: &Path, name: &str) -> Result<PathBuf, CheckpointError> {
    if name.split('/').all(|part| !part.is_empty() && part != "." && part != "..") {
        return Ok(folder.join(name));
    }
    let reason = format!("names {name:?}, which is no file inside the checkpoint");
    Err(CheckpointError::Damaged { file: folder.join(MANIFEST), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_file_falls_to_one_of_the_readers_and_each_reads_about_as_much() {
        let folder = tempfile::tempdir().unwrap();
        let sizes = [900, 10, 1000, 20, 1010, 910];
        let names: Vec<_> = (0..sizes.len()).map(|at| format!("part-{at}")).collect();
        for (name, size) in names.iter().zip(sizes) {
            fs_err::write(folder.path().join(name), vec![7; size]).unwrap();
        }
        let entry = |name: &String| (name.clone(), Entry::read(&folder.path().join(name)).unwrap());
        let manifest = Manifest::new(names.iter().map(entry).collect());
        let finds = |reader| manifest.verify(folder.path(), (reader, 2)).is_err();
        assert!(!finds(0) && !finds(1));
        let mut read = [0, 0];
        for (name, size) in names.iter().zip(sizes) {
            fs_err::write(folder.path().join(name), vec![8; size]).unwrap();
            let found = [finds(0), finds(1)];
            assert!(found[0] != found[1], "{name}: {found:?}");
            read[usize::from(found[1])] += size;
            fs_err::write(folder.path().join(name), vec![7; size]).unwrap();
        }
        assert!(read[0].abs_diff(read[1]) < 200, "{read:?}");
    }
}
