//! The picture of a run: each source's loss on held-out documents, in `losses.svg`.

use std::io;
use std::path::Path;

use super::{chart, jsonl};

/// Draws what `metrics.jsonl` in `output` tells; nothing where it tells of fewer than two validations.
///
/// # Errors
/// Files that cannot be read or written.
pub fn draw(output: &Path, name: &str) -> io::Result<()> {
    let validations = jsonl::validations(&output.join("metrics.jsonl"))?;
    let Some(last) = validations.last().filter(|_| validations.len() > 1) else { return Ok(()) };
    let curve = |name: &str| {
        let of = |v: &super::Validation| v.sources.iter().find(|source| source.name == name).map(|source| source.loss);
        validations.iter().filter_map(|v| Some((v.tokens as f64 / 1e6, of(v)?))).collect::<Vec<_>>()
    };
    let curves: Vec<_> = last.sources.iter().map(|source| (source.name.clone(), curve(&source.name))).collect();
    let title = format!("{name}: loss on held-out documents");
    let picture = chart::svg(&curves, &title, "million tokens trained", "nats a token");
    let (to, beside) = (output.join("losses.svg"), output.join(".losses.svg.writing"));
    fs_err::write(&beside, picture)?;
    fs_err::rename(beside, to)
}
