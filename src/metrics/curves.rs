//! The picture of a run: each source's loss on held-out documents, in `losses.svg`.

use std::io;
use std::path::Path;

use super::{Validation, chart};

/// Draws `validations` into `output`; nothing where there are fewer than two.
///
/// # Errors
/// A file that cannot be written.
pub fn draw(output: &Path, name: &str, validations: &[Validation]) -> io::Result<()> {
    if validations.len() < 2 {
        return Ok(());
    }
    let title = format!("{name}: loss on held-out documents");
    let picture = chart::svg(&chart::held_out_losses(validations), &title, "tokens trained", "nats a token");
    let (to, beside) = (output.join("losses.svg"), output.join(".losses.svg.writing"));
    fs_err::write(&beside, picture)?;
    fs_err::rename(beside, to)
}
