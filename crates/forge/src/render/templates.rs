//! The templates: built in, or of a folder of the user's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment, UndefinedBehavior, Value};
use serde_json::Map;

use super::{catalogue, filters, request};
use crate::document::RecordKind;

/// Name and text of each built-in template.
const BUILT_IN: &[(&str, &str)] = &[
    ("reference.operation.j2", include_str!("templates/reference.operation.j2")),
    ("manual.operation.j2", include_str!("templates/manual.operation.j2")),
    ("guide.operation.j2", include_str!("templates/guide.operation.j2")),
    ("exchange.operation.j2", include_str!("templates/exchange.operation.j2")),
    ("reference.function.j2", include_str!("templates/reference.function.j2")),
    ("manual.function.j2", include_str!("templates/manual.function.j2")),
    ("docstring.function.j2", include_str!("templates/docstring.function.j2")),
    ("specification.function.j2", include_str!("templates/specification.function.j2")),
    ("reference.api.j2", include_str!("templates/reference.api.j2")),
    ("card.api.j2", include_str!("templates/card.api.j2")),
    ("guide.api.j2", include_str!("templates/guide.api.j2")),
    ("answers.api.j2", include_str!("templates/answers.api.j2")),
];

/// Macros that any template may import.
const MACROS: (&str, &str) = ("rows.j2", include_str!("templates/rows.j2"));

/// Why templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// A folder or file that cannot be read.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A folder without templates.
    #[error("{}: no template here: expected files NAME.KIND.j2, KIND being operation, function or api", .0.display())]
    Nothing(PathBuf),
    /// A file whose name says no kind.
    #[error("{}: {found} is no kind of record: name it NAME.KIND.j2, KIND being operation, function or api", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// What its name says.
        found: String,
    },
    /// A template that is broken.
    #[error("{}:{line}: {reason}", path.display())]
    Template {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
}

/// Compiled templates by the kind of record they are for.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    pub(super) names: BTreeMap<RecordKind, Vec<String>>,
}

impl Templates {
    pub(super) fn built_in() -> Self {
        let mut environment = environment();
        let mut names: BTreeMap<RecordKind, Vec<String>> = BTreeMap::new();
        for (name, text) in BUILT_IN.iter().chain([&MACROS]) {
            // A test renders every one of them: none is broken.
            let added = environment.add_template(name, text);
            if let (Ok(()), Some(kind)) = (added, kind(name)) {
                names.entry(kind).or_default().push((*name).to_owned());
            }
        }
        Self { environment, names }
    }

    /// The built-in templates, those of a kind replaced by the folder's where it has any.
    pub(super) fn with(folder: &Path) -> Result<Self, TemplateError> {
        let mut files = Vec::new();
        for entry in fs_err::read_dir(folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "j2") {
                files.push(path);
            }
        }
        files.sort();
        let mut templates = Self::built_in();
        let mut own: BTreeMap<RecordKind, Vec<String>> = BTreeMap::new();
        for path in &files {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let text = fs_err::read_to_string(path)?;
            // What has no kind is there to be imported.
            match name.split('.').collect::<Vec<_>>().as_slice() {
                [_, _] => {}
                [.., found, _] => match kind(&name) {
                    Some(kind) => own.entry(kind).or_default().push(name.clone()),
                    None => return Err(TemplateError::Kind { path: path.clone(), found: (*found).to_owned() }),
                },
                _ => {}
            }
            templates.environment.add_template_owned(name, text).map_err(|error| TemplateError::Template {
                path: path.clone(),
                line: error.line().unwrap_or(1),
                reason: reason(&error),
            })?;
        }
        if own.is_empty() {
            return Err(TemplateError::Nothing(folder.to_owned()));
        }
        templates.names.extend(own);
        Ok(templates)
    }

    /// The text of a record, by the template that `choice` picks.
    pub(super) fn render(
        &self,
        kind: RecordKind,
        choice: u64,
        fields: &Map<String, serde_json::Value>,
    ) -> Result<String, String> {
        let names = self.names.get(&kind).map_or(&[][..], Vec::as_slice);
        let at =
            choice.checked_rem(names.len() as u64).ok_or_else(|| "no template for this kind of record".to_owned())?;
        self.render_by(&names[usize::try_from(at).unwrap_or_default()], kind, fields)
    }

    /// The text of a record by the template called `name`.
    pub(super) fn render_by(
        &self,
        name: &str,
        kind: RecordKind,
        fields: &Map<String, serde_json::Value>,
    ) -> Result<String, String> {
        let failed = |error: minijinja::Error| {
            let line = error.line().map(|line| format!(":{line}")).unwrap_or_default();
            format!("template {}{line}: {}", error.name().unwrap_or(name), reason(&error))
        };
        let template = self.environment.get_template(name).map_err(failed)?;
        let mut context: BTreeMap<&str, Value> =
            fields.iter().map(|(key, value)| (key.as_str(), Value::from(Serde(value)))).collect();
        if kind == RecordKind::Operation {
            for (key, text) in request::of(fields) {
                context.insert(key, Value::from(text));
            }
        } else if kind == RecordKind::Api {
            context.insert("others", catalogue::others(fields));
        }
        let text = tidy(&template.render(context).map_err(failed)?);
        if text.is_empty() { Err(format!("template {name}: nothing comes of it")) } else { Ok(text) }
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::default();
    if let Ok(trimmed) = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build() {
        syntax = trimmed;
    }
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    // What is not there is not written.
    environment.set_formatter(|out, state, value| {
        if value.is_none() || value.is_undefined() { Ok(()) } else { minijinja::escape_formatter(out, state, value) }
    });
    minijinja_contrib::add_to_environment(&mut environment);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    filters::add(&mut environment);
    environment
}

/// The kind that a template's name says.
pub(super) fn kind(name: &str) -> Option<RecordKind> {
    match name.strip_suffix(".j2")?.rsplit_once('.')?.1 {
        "operation" => Some(RecordKind::Operation),
        "function" => Some(RecordKind::Function),
        "api" => Some(RecordKind::Api),
        _ => None,
    }
}

/// What an error of minijinja says, without the position that stands before it already.
fn reason(error: &minijinja::Error) -> String {
    let kind = error.kind().to_string();
    error.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}"))
}

/// No spaces at line ends, no two empty lines together, none at either end, a line break at the end.
fn tidy(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut empty = false;
    for line in text.lines().map(str::trim_end) {
        if line.is_empty() {
            empty = !out.is_empty();
            continue;
        }
        if std::mem::take(&mut empty) {
            out.push('\n');
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}
