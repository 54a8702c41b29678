//! Files of a folder in a stable order.

use std::path::Path;

use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};

use super::{File, InputError, Kind, Reader, stream};

/// Adds `input` itself when it is a file, else every file under it with a wanted extension, sorted by path. Packed files
/// count by the extension of what they pack.
///
/// Source trees honour `.gitignore` (in a repository or not) and skip hidden files; other folders are taken whole.
pub(super) fn list(input: &Path, reader: &Reader, defaults: &[&str], out: &mut Vec<File>) -> Result<(), InputError> {
    let before = out.len();
    let given = reader.input.extensions.iter().map(|extension| stream_extension(extension));
    let wanted: Vec<&str> = if reader.input.extensions.is_empty() { defaults.to_vec() } else { given.collect() };
    files(input, reader, reader.input.reader == Kind::Source, &mut |file, depth| {
        let extension = stream::extension(&file.path);
        if depth == 0 || (!extension.is_empty() && wanted.iter().any(|known| known.eq_ignore_ascii_case(&extension))) {
            out.push(file);
        }
    })?;
    if out.len() == before {
        let extensions: Vec<String> = wanted.iter().map(|extension| format!("*.{extension}")).collect();
        let (path, reader) = (input.to_owned(), reader.input.reader.name().to_owned());
        return Err(InputError::Nothing { path, reader, takes: extensions.join(", ") });
    }
    Ok(())
}

/// An extension as a user may write it: `jsonl`, `.jsonl`, `jsonl.gz`.
fn stream_extension(written: &str) -> &str {
    let bare = written.trim_start_matches('.');
    match stream::unpacked_name(Path::new(bare)).to_str() {
        Some(extension) if !extension.is_empty() => extension,
        _ => bare,
    }
}

/// Visits every file under `root` (or `root` itself, at depth 0) with its depth, sorted by path.
pub(super) fn files(
    root: &Path,
    reader: &Reader,
    source_rules: bool,
    visit: &mut dyn FnMut(File, usize),
) -> Result<(), InputError> {
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .hidden(source_rules)
        .git_ignore(source_rules)
        .git_exclude(source_rules)
        .ignore(source_rules)
        .parents(source_rules)
        .require_git(false)
        .overrides(excludes(root, reader)?)
        .sort_by_file_path(|a, b| a.cmp(b))
        .build();
    for entry in walk {
        let entry = entry.map_err(|error| InputError::Walk(error.to_string()))?;
        let metadata = entry.metadata().map_err(|error| InputError::Walk(error.to_string()))?;
        if metadata.is_file() {
            visit(File::new(entry.path(), &metadata), entry.depth());
        }
    }
    Ok(())
}

fn excludes(root: &Path, reader: &Reader) -> Result<Override, InputError> {
    let bad = |glob: &str, error: ignore::Error| {
        // The library quotes the glob with a mark of its own in front; ours names it already.
        let text = error.to_string();
        let reason = text.rsplit("': ").next().unwrap_or(&text).to_owned();
        InputError::Glob { glob: glob.to_owned(), reason }
    };
    let mut overrides = OverrideBuilder::new(root);
    for glob in &reader.input.exclude {
        overrides.add(&format!("!{glob}")).map_err(|error| bad(glob, error))?;
    }
    overrides.build().map_err(|error| bad("(all)", error))
}
