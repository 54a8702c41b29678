//! The work folder: what each phase has finished, a file a part.
//!
//! ```text
//! OUTPUT/work/
//!   plan.json                   what is being built
//!   classifiers/NAME.bin        trained, with NAME.json
//!   documents/00000012.jsonl.zst   what was kept of a part, with 00000012.json, its tally, written last
//!   signatures/00000012.parquet what tells duplicates
//!   dropped.parquet             which documents are duplicates, with dropped.json
//!   tokens/00000012.bin …       its tokens, .loss and .len, with 00000012.json, its tally, written last
//!   corpora/NAME.json           a corpus that is in its place
//! ```

use std::fs::TryLockError;
use std::path::{Path, PathBuf};

use hephaestus_core::whole;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::plan::Plan;
use super::{BuildError, Options};
use crate::duplicates;

/// Memory for grouping, in bytes.
const GROUPING: u64 = 256 << 20;

/// A work folder, open and locked.
#[derive(Debug)]
pub struct Work {
    folder: PathBuf,
    _lock: fs_err::File,
}

impl Work {
    /// Opens the work folder of `output` for `plan`, or begins it.
    ///
    /// # Errors
    /// Another process works there; it holds the work of another plan; it cannot be written.
    pub fn open(output: &Path, plan: &Plan, options: &Options) -> Result<Self, BuildError> {
        let folder = output.join("work");
        fs_err::create_dir_all(&folder)?;
        let name = options.shard.map_or("lock".to_owned(), |shard| format!("lock-{}-of-{}", shard.index, shard.of));
        let lock = fs_err::File::create(folder.join(name))?;
        // File systems without locks are not refused.
        if let Err(TryLockError::WouldBlock) = lock.file().try_lock() {
            return Err(BuildError::Busy(folder));
        }
        let work = Self { folder, _lock: lock };
        let path = work.folder.join("plan.json");
        if path.is_file() {
            let before: Plan = work.read_json(&path)?;
            match plan.differs(&before) {
                None => {}
                Some(_) if options.fresh => work.discard()?,
                Some(difference) => return Err(BuildError::OtherWork { folder: work.folder, difference }),
            }
        }
        for name in ["classifiers", "documents", "signatures", "tokens", "corpora"] {
            fs_err::create_dir_all(work.folder.join(name))?;
        }
        if !path.is_file() {
            whole::write(&path, &plan.to_json()?)?;
        }
        Ok(work)
    }

    /// The folder itself.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A file of a phase and a part.
    #[must_use]
    pub fn part(&self, phase: &str, part: u32, extension: &str) -> PathBuf {
        self.folder.join(phase).join(format!("{part:08}.{extension}"))
    }

    /// Whether a part is read.
    #[must_use]
    pub fn is_gathered(&self, part: u32) -> bool {
        self.part("documents", part, "json").is_file()
    }

    /// Whether a part is tokenized.
    #[must_use]
    pub fn is_tokenized(&self, part: u32) -> bool {
        self.part("tokens", part, "json").is_file()
    }

    /// The list of duplicates.
    #[must_use]
    pub fn dropped(&self) -> PathBuf {
        self.folder.join("dropped.parquet")
    }

    /// What grouping found.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn grouped(&self) -> Result<Option<duplicates::Summary>, BuildError> {
        let path = self.folder.join("dropped.json");
        if path.is_file() { self.read_json(&path).map(Some) } else { Ok(None) }
    }

    /// Refuses to go on while any part lacks a phase.
    ///
    /// # Errors
    /// Such a part.
    pub fn require(
        &self,
        plan: &Plan,
        phase: &'static str,
        done: impl Fn(&Self, u32) -> bool,
    ) -> Result<(), BuildError> {
        let missing: Vec<u32> = plan.parts.iter().map(|part| part.number).filter(|part| !done(self, *part)).collect();
        let Some(first) = missing.first() else { return Ok(()) };
        let file = plan.parts[*first as usize].slices.first().map(|slice| slice.path.display().to_string());
        Err(BuildError::Unfinished {
            missing: missing.len(),
            parts: plan.parts.len(),
            phase,
            first: *first,
            hint: file.map_or(String::new(), |file| format!(", from {file} on")),
        })
    }

    /// Groups the signatures of all parts.
    ///
    /// # Errors
    /// They cannot be read, or the result not be written.
    pub fn group(&self, plan: &Plan) -> Result<duplicates::Summary, BuildError> {
        let signatures: Vec<PathBuf> =
            plan.parts.iter().map(|part| self.part("signatures", part.number, "parquet")).collect();
        // What was found is known before the list has its name: with it both are there.
        let found = self.folder.join("grouping.parquet");
        let summary = duplicates::group(&signatures, &self.folder, &found, GROUPING)?;
        self.write_json(&self.folder.join("dropped.json"), &summary)?;
        fs_err::rename(found, self.dropped())?;
        Ok(summary)
    }

    /// Reads a file of the work folder.
    pub(super) fn read_json<T: DeserializeOwned>(&self, path: &Path) -> Result<T, BuildError> {
        serde_json::from_slice(&fs_err::read(path)?)
            .map_err(|error| BuildError::Damaged { path: path.to_owned(), reason: error.to_string() })
    }

    /// Writes a file of the work folder, whole.
    pub(super) fn write_json<T: Serialize>(&self, path: &Path, value: &T) -> Result<(), BuildError> {
        Ok(whole::write(path, &serde_json::to_vec(value).map_err(std::io::Error::from)?)?)
    }

    /// Ends the work: the folder goes, unless it is to stay.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn close(self, keep: bool) -> Result<(), BuildError> {
        if !keep {
            fs_err::remove_dir_all(&self.folder)?;
        }
        Ok(())
    }

    /// Empties the folder; the lock stays.
    fn discard(&self) -> std::io::Result<()> {
        for entry in fs_err::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.is_dir() {
                fs_err::remove_dir_all(path)?;
            } else if path.extension().is_some() {
                fs_err::remove_file(path)?;
            }
        }
        Ok(())
    }
}
