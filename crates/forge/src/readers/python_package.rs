//! Installed Python packages: four sources in one folder, without running any of it.
//!
//! An input is a package folder (one with `__init__.py`) or a folder of packages, such as site-packages. The four kinds
//! are disjoint by construction: code comes without docstrings, documentation pages without `>>>` sessions, so what a
//! model learns from one is not already in another.

use std::path::Path;

use super::{BadRecord, Document, File, InputError, Kind, Read, Reader, read_text, walk};
use crate::document::Facts;
use crate::python::{docstr, entries, outline, pages, parse, strip};

/// Extensions of prose files.
const PROSE: &[&str] = &["md", "rst", "txt"];
/// Names of prose files, before any extension.
const PROSE_NAMES: &[&str] = &["LICENSE", "LICENCE", "NOTICE", "METADATA", "README", "CHANGELOG", "AUTHORS", "COPYING"];
/// Shortest module docstring that counts as prose, in bytes.
const LEAST_PROSE: usize = 200;
/// Bytes of a source that are parsed for its module docstring, which stands at the top.
const HEAD: usize = 64 << 10;

/// Adds the files of a package, or of every package in a folder, that the reader's kind draws on.
pub fn list(input: &Path, reader: &Reader, out: &mut Vec<File>) -> Result<(), InputError> {
    let is_package = |path: &Path| path.join("__init__.py").is_file();
    let mut roots = Vec::new();
    let no_package = || InputError::NoPackage(input.to_owned());
    if is_package(input) {
        roots.push(input.to_owned());
        if reader.input.reader == Kind::PythonText {
            roots.extend(distribution(input));
        }
    } else {
        let children = fs_err::read_dir(input).map_err(|_| no_package())?;
        let mut children: Vec<_> = children.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        children.sort();
        if !children.iter().any(|child| is_package(child)) {
            return Err(no_package());
        }
        let takes =
            |path: &Path| is_package(path) || (reader.input.reader == Kind::PythonText && is_distribution(path));
        roots.extend(children.into_iter().filter(|path| takes(path)));
    }
    for root in roots {
        let above = root.parent().unwrap_or(Path::new("")).to_owned();
        walk::files(&root, reader, false, &mut |file, _| {
            let module = module_name(file.path.strip_prefix(&above).unwrap_or(&file.path));
            if takes(reader, &file.path, file.bytes, module.as_deref()) {
                out.push(File { module, ..file });
            }
        })?;
    }
    Ok(())
}

/// The `.dist-info` folder beside a package.
fn distribution(package: &Path) -> Option<std::path::PathBuf> {
    let name = package.file_name()?.to_str()?.to_owned() + "-";
    let siblings = fs_err::read_dir(package.parent()?).ok()?;
    let mut found: Vec<_> = siblings.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
    found.sort();
    found.into_iter().find(|path| {
        is_distribution(path)
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|found| found.starts_with(&name))
    })
}

fn is_distribution(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "dist-info") && path.is_dir()
}

/// `torch/nn/__init__.py` is `torch.nn`; `None` for anything but Python sources.
fn module_name(inside: &Path) -> Option<String> {
    let stem = inside.to_str()?.strip_suffix(".py")?;
    Some(stem.strip_suffix("/__init__").unwrap_or(stem).replace('/', "."))
}

fn takes(reader: &Reader, path: &Path, bytes: u64, module: Option<&str>) -> bool {
    match (reader.input.reader, module) {
        (Kind::PythonCode, Some(_)) => bytes <= reader.limit(),
        // What a private folder holds is not documented for users; a private file often holds public functions.
        (Kind::PythonDocs | Kind::PythonCalls, Some(module)) => {
            let folders = module.rsplit_once('.').map_or("", |(folders, _)| folders);
            !folders.split('.').any(|folder| folder.starts_with('_'))
        }
        (Kind::PythonText, Some(_)) => true,
        (Kind::PythonText, None) => is_prose(path),
        _ => false,
    }
}

fn is_prose(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or("");
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("").to_ascii_uppercase();
    let listing = matches!(stem.as_str(), "SOURCES" | "TOP_LEVEL" | "ENTRY_POINTS" | "REQUIREMENTS" | "CMAKELISTS");
    // LICENSE, LICENSE.APACHE, but not license.h.
    let named = PROSE_NAMES.contains(&stem.as_str()) && !extension.contains(|letter: char| letter.is_ascii_lowercase());
    (PROSE.contains(&extension) && !listing) || named
}

/// The documents of one file.
pub fn documents(path: &Path, module: Option<&str>, reader: &Reader) -> Vec<Read> {
    let source = match read_text(path, reader.limit()) {
        Ok(source) => source,
        Err(bad) => return vec![Err(bad)],
    };
    let origin = path.display().to_string();
    let is_module = module.is_some();
    let module = module.unwrap_or("");
    let package = module.split('.').next().filter(|package| !package.is_empty()).map(str::to_owned);
    let texts: Vec<(String, String)> = match reader.input.reader {
        Kind::PythonCode => {
            // Files that only attach docstrings to C++ functions are documentation.
            let code =
                if docstr::is_documentation(&source) { String::new() } else { strip::without_docstrings(&source) };
            vec![(code, origin)]
        }
        Kind::PythonText if is_module => {
            let prose = module_docstring(&source).filter(|prose| prose.len() >= LEAST_PROSE);
            prose.map(|prose| (pages::plain_roles(&prose) + "\n", origin)).into_iter().collect()
        }
        Kind::PythonText => vec![(without_headers(path, &source).to_owned(), origin)],
        Kind::PythonDocs | Kind::PythonCalls => {
            // What a private file exports, users call through the package that holds it.
            let module = match module.rsplit_once('.') {
                Some((package, file)) if is_private(file) && source.contains("\n__all__") => package,
                _ => module,
            };
            // A module's own docstring is prose.
            let entries = entries(module, &source).into_iter().filter(|entry| entry.name != module);
            let render = if reader.input.reader == Kind::PythonDocs { pages::documentation } else { pages::trajectory };
            entries.filter_map(|entry| render(&entry).map(|text| (text, entry.name))).collect()
        }
        kind => {
            let reason = format!("the {} reader does not read Python packages", kind.name());
            return vec![Err(BadRecord { origin, reason })];
        }
    };
    let texts = texts.into_iter().filter(|(text, _)| !text.trim().is_empty());
    let of_an_api = matches!(reader.input.reader, Kind::PythonDocs | Kind::PythonCalls);
    let document = |(text, origin): (String, String)| {
        let facts = Facts { api: of_an_api.then(|| origin.clone()), provider: package.clone() };
        Ok(Document { facts, ..Document::text(origin, text) })
    };
    texts.map(document).collect()
}

/// A module's docstring; most sources have none, which shows before any parsing.
fn module_docstring(source: &str) -> Option<String> {
    let mut lines = source.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let first = lines.next()?.trim_start_matches(['r', 'R', 'u', 'U', '\u{feff}']);
    if !first.starts_with(['"', '\'']) {
        return None;
    }
    let head = source.get(..source.floor_char_boundary(HEAD))?;
    outline::docstring(parse(head)?.root_node(), head)
}

/// `_tensor`, but not `__config__`.
fn is_private(file: &str) -> bool {
    file.starts_with('_') && !file.starts_with("__")
}

/// METADATA opens with mail-like headers; the prose follows the first blank line.
fn without_headers<'a>(path: &Path, text: &'a str) -> &'a str {
    match path.file_name().is_some_and(|name| name == "METADATA") {
        true => text.split_once("\n\n").map_or("", |(_, prose)| prose),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_named_as_they_are_imported() {
        assert_eq!(module_name(Path::new("torch/nn/__init__.py")).as_deref(), Some("torch.nn"));
        assert_eq!(module_name(Path::new("torch/nn/modules/linear.py")).as_deref(), Some("torch.nn.modules.linear"));
        assert_eq!(module_name(Path::new("torch/README.md")), None);
    }

    #[test]
    fn a_module_s_docstring_is_found_behind_comments_and_nothing_else_is_taken_for_one() {
        let found = |source| module_docstring(source);
        assert_eq!(
            found("#!/usr/bin/python\n# mypy\n\nr\"\"\"Prose\\d.\"\"\"\nimport os\n").as_deref(),
            Some("Prose\\d.")
        );
        assert_eq!(found("import os\n'no'\n"), None);
        assert_eq!(found("x = 'no'\n"), None);
        assert_eq!(found("# only a comment"), None);
    }

    #[test]
    fn requirements_and_file_lists_are_no_prose() {
        assert!(
            is_prose(Path::new("x/LICENSE")) && is_prose(Path::new("LICENSE.APACHE")) && is_prose(Path::new("a.rst"))
        );
        assert!(
            !is_prose(Path::new("top_level.txt"))
                && !is_prose(Path::new("CMakeLists.txt"))
                && !is_prose(Path::new("a.py"))
        );
    }
}
