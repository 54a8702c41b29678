//! Work folders of other machines into this one's.

use std::io;
use std::path::{Path, PathBuf};

use hephaestus_core::vocabulary::Vocabulary;
use hephaestus_core::whole::Whole;

use super::plan::Plan;
use super::work::Work;
use super::{BuildError, Options};
use crate::recipe::Recipe;

/// The files of a part, by phase; the last of a phase says that it is whole.
const FILES: [&[(&str, &str)]; 2] = [
    &[("documents", "jsonl.zst"), ("signatures", "parquet"), ("documents", "json")],
    &[("tokens", "bin"), ("tokens", "len"), ("tokens", "loss"), ("tokens", "json")],
];

/// Copies what the output folders `from` have finished of this recipe, and this one has not; returns how many phases of
/// parts that were. Files appear whole, so it may be killed and run again.
///
/// # Errors
/// A folder that holds no work of this recipe, or what cannot be read or written.
pub fn collect(recipe: &Recipe, vocabulary: &Vocabulary, from: &[PathBuf]) -> Result<u64, BuildError> {
    let plan = Plan::new(recipe, vocabulary)?;
    let work = Work::open(&recipe.output, &plan, &Options::default())?;
    let mut copied = 0;
    for output in from {
        let folder = output.join("work");
        let theirs: Plan = work.read_json(&folder.join("plan.json"))?;
        if let Some(difference) = plan.at_home(&theirs).differs(&theirs) {
            return Err(BuildError::OtherWork { folder, difference });
        }
        for part in &plan.parts {
            for files in FILES {
                let [.., (phase, marker)] = files else { continue };
                let name = |extension: &str| format!("{:08}.{extension}", part.number);
                let there = folder.join(phase).join(name(marker)).is_file();
                if !there || work.part(phase, part.number, marker).is_file() {
                    continue;
                }
                for (phase, extension) in files {
                    copy(&folder.join(phase).join(name(extension)), &work.part(phase, part.number, extension))?;
                }
                copied += 1;
            }
        }
    }
    Ok(copied)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut file = Whole::create(to)?;
    io::copy(&mut fs_err::File::open(from)?, &mut file)?;
    file.finish()
}
