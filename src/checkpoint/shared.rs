//! That all ranks see the same folder: what one of them writes there the others find.

use std::fmt::Display;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::CheckpointError;
use super::together::{Together, TogetherError};
use crate::distributed::join::{host, word};

/// The file by which ranks know that they see the same folder; gone when all have seen it.
const MARK: &str = ".shared";

/// How long a rank looks for what rank 0 has written: file systems over a network may show it later than at once.
const LOOKS: Duration = Duration::from_secs(60);

/// Has rank 0 make a folder, by `make`, and every rank see it.
///
/// # Errors
/// Whatever `make` returns, and [`CheckpointError::NotShared`] where a rank does not see it; the same on all.
pub fn folder<E>(folder: &Path, together: &Together<'_>, make: impl FnOnce() -> Result<(), E>) -> Result<(), E>
where
    E: Display + From<CheckpointError> + From<TogetherError>,
{
    if together.count() == 1 {
        return make();
    }
    let file = folder.join(MARK);
    let mark = together.first("make a folder", || -> Result<_, E> {
        make()?;
        Ok(leave(&file)?)
    })?;
    let look = || see(folder, together, || fs_err::read(&file).is_ok_and(|found| found == mark.as_bytes()));
    together.all(
        "find a folder that all share",
        || look().map_err(E::from),
        |seen: Result<Vec<()>, E>| {
            let gone = fs_err::remove_file(&file);
            seen?;
            gone.map_err(|error| CheckpointError::from(error).into())
        },
    )
}

/// Leaves a mark that no other start has left.
fn leave(file: &Path) -> Result<String, CheckpointError> {
    let mark = word(&host());
    fs_err::write(file, &mark)?;
    Ok(mark)
}

/// Waits until this rank sees what rank 0 sees in `folder`.
pub(super) fn see(folder: &Path, together: &Together<'_>, is_there: impl Fn() -> bool) -> Result<(), CheckpointError> {
    // Well within what the others wait.
    let deadline = Instant::now() + together.timeout().map_or(LOOKS, |timeout| (timeout / 2).min(LOOKS));
    while !is_there() {
        if Instant::now() > deadline {
            return Err(CheckpointError::NotShared(folder.to_owned()));
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}
