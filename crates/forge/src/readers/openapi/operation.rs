//! One operation of a specification as the fields of a record.

use serde_json::{Map, Value, json};

use crate::readers::example;
use crate::readers::prose;
use crate::readers::schema::{Schemas, Side};

/// Longest description of an operation, in bytes.
const DESCRIPTION: usize = 12_000;
/// Longest description of a response or body, in bytes.
const SHORT: usize = 1_200;
/// Longest heading, in bytes.
const HEADING: usize = 120;
/// Most parameters, responses and code samples.
const PARAMETERS: usize = 120;
const RESPONSES: usize = 16;
const SAMPLES: usize = 6;
/// Longest code sample, in bytes.
const SAMPLE: usize = 3_000;
/// Most names in a list: tags, content types, servers, scopes.
const NAMES: usize = 12;

/// Where an operation stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) root: &'a Value,
    pub(super) path: &'a str,
    /// In lower case, as it is a key.
    pub(super) method: &'a str,
    pub(super) item: &'a Map<String, Value>,
    pub(super) webhook: bool,
    pub(super) provider: Option<&'a str>,
}

/// An operation, and what it is read with.
pub(super) struct Operation<'a> {
    schemas: Schemas<'a>,
    place: Place<'a>,
    operation: &'a Map<String, Value>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(schemas: Schemas<'a>, place: Place<'a>, operation: &'a Value) -> Result<Self, String> {
        let operation =
            operation.as_object().ok_or_else(|| "expected an object that describes an operation".to_owned())?;
        Ok(Self { schemas, place, operation })
    }

    /// The record's fields, in the order in which a person asks for them.
    pub(super) fn fields(&self) -> Result<Map<String, Value>, String> {
        let mut fields = Map::new();
        let info = self.place.root.get("info");
        let set = |fields: &mut Map<String, Value>, key: &str, value: Option<Value>| {
            if let Some(value) = value.filter(|value| !example::is_absent(value)) {
                fields.insert(key.to_owned(), value);
            }
        };
        let text = |from: Option<&'a Value>, key: &str| from.and_then(|from| from.get(key)).and_then(text);
        set(&mut fields, "title", text(info, "title").map(|title| prose::short(title, HEADING).into()));
        set(&mut fields, "version", info.and_then(|info| info.get("version")).and_then(plain).map(Value::String));
        set(&mut fields, "provider", self.place.provider.map(|name| prose::short(name, HEADING).into()));
        set(&mut fields, "method", Some(self.place.method.to_ascii_uppercase().into()));
        set(&mut fields, "path", Some(prose::cut(self.place.path, SHORT).into()));
        set(&mut fields, "url", Some(self.url().into()));
        let id = self.text("operationId").map(|id| prose::cut(id, HEADING));
        set(&mut fields, "operation_id", id.clone().map(Value::String));
        self.describe(id.as_deref(), &mut fields);
        set(&mut fields, "tags", self.operation.get("tags").map(names));
        set(
            &mut fields,
            "documentation",
            text(self.operation.get("externalDocs"), "url").map(|url| prose::cut(url, SHORT).into()),
        );
        for (key, is) in [
            ("deprecated", self.operation.get("deprecated") == Some(&Value::Bool(true))),
            ("webhook", self.place.webhook),
        ] {
            set(&mut fields, key, is.then_some(Value::Bool(true)));
        }
        set(&mut fields, "auth", Some(self.auth()));
        set(&mut fields, "parameters", Some(self.parameters()?));
        let body = self.body()?;
        set(&mut fields, "responses", Some(self.responses(body.as_ref())?));
        set(&mut fields, "body", body);
        set(&mut fields, "samples", Some(self.samples()));
        Ok(fields)
    }

    fn text(&self, key: &str) -> Option<&'a str> {
        self.operation.get(key).and_then(text)
    }

    /// `heading`, and of `summary` and `description` what the heading does not say already.
    fn describe(&self, id: Option<&str>, fields: &mut Map<String, Value>) {
        let of_path = |key: &str| self.place.item.get(key).and_then(text);
        let summary = self.text("summary").or_else(|| of_path("summary"));
        let summary = summary.map(|text| prose::short(text, SHORT).split_whitespace().collect::<Vec<_>>().join(" "));
        let description =
            self.text("description").or_else(|| of_path("description")).map(|text| prose::short(text, DESCRIPTION));
        let short = summary
            .as_deref()
            .map(|text| text.trim_end_matches('.'))
            .filter(|text| !text.is_empty() && text.len() <= HEADING);
        let heading = match (short, id) {
            (Some(summary), _) => summary.to_owned(),
            (None, Some(id)) => worded(id),
            (None, None) => {
                format!("{} {}", self.place.method.to_ascii_uppercase(), prose::cut(self.place.path, HEADING))
            }
        };
        if let Some(summary) = &summary
            && short.is_none()
            && description.as_ref() != Some(summary)
        {
            fields.insert("summary".to_owned(), summary.as_str().into());
        }
        if let Some(description) = description.filter(|text| text.trim_end_matches('.') != heading) {
            fields.insert("description".to_owned(), description.into());
        }
        fields.insert("heading".to_owned(), heading.into());
    }

    /// The first server's address, its variables at their defaults, and the path.
    fn url(&self) -> String {
        if self.place.webhook {
            return String::new();
        }
        let lists = [self.operation.get("servers"), self.place.item.get("servers"), self.place.root.get("servers")];
        let server = lists.into_iter().flatten().find_map(|list| list.get(0));
        let mut base = server
            .and_then(|server| server.get("url"))
            .and_then(text)
            .unwrap_or_default()
            .trim_end_matches('/')
            .to_owned();
        let variables = server.and_then(|server| server.get("variables")).and_then(Value::as_object);
        for (name, variable) in variables.into_iter().flatten().take(NAMES) {
            if let Some(value) = variable.get("default").and_then(plain)
                && base.len() + value.len() < SHORT
            {
                base = base.replacen(&format!("{{{name}}}"), &value, 1);
            }
        }
        prose::cut(&format!("{base}{}", self.place.path), SHORT)
    }

    /// The ways to authenticate, of which one suffices: for each what it takes, in words and for a request.
    fn auth(&self) -> Value {
        let ways = self.operation.get("security").or_else(|| self.place.root.get("security")).and_then(Value::as_array);
        let schemes = self.place.root.pointer("/components/securitySchemes");
        let way = |way: &'a Value| {
            let (mut texts, mut kinds) = (Vec::new(), Vec::new());
            for (name, scopes) in way.as_object()?.iter().take(NAMES) {
                let scheme = schemes.and_then(|all| all.get(name)).and_then(|scheme| self.schemas.follow(scheme).ok());
                let (text, kind, key) = scheme.map_or_else(|| (prose::cut(name, HEADING), "other", None), described);
                let scopes: Vec<_> = scopes.as_array().into_iter().flatten().filter_map(plain).take(NAMES).collect();
                let scopes =
                    if scopes.is_empty() { String::new() } else { format!(" with the scopes {}", scopes.join(", ")) };
                texts.push(format!("{text}{scopes}"));
                kinds.push(match key {
                    Some(key) => json!({ "kind": kind, "name": key }),
                    None => json!({ "kind": kind }),
                });
            }
            let text = if texts.is_empty() { "none".to_owned() } else { texts.join(", together with ") };
            Some(json!({ "text": text, "schemes": kinds }))
        };
        ways.into_iter().flatten().take(NAMES).filter_map(way).collect()
    }

    /// The operation's parameters; those of the path come first and are overridden by name and place.
    fn parameters(&self) -> Result<Value, String> {
        let mut found: Vec<(&'a str, &'a str, &'a Value)> = Vec::new();
        for list in [self.place.item.get("parameters"), self.operation.get("parameters")].into_iter().flatten() {
            let list = match list {
                Value::Array(list) => list,
                Value::Null => continue,
                _ => return Err("parameters: expected a list".to_owned()),
            };
            for (at, parameter) in list.iter().enumerate().take(PARAMETERS) {
                let parameter =
                    self.schemas.follow(parameter).map_err(|reason| format!("parameters/{at}: {reason}"))?;
                let key = |key: &str| {
                    let value = parameter.get(key).and_then(Value::as_str);
                    value.ok_or_else(|| {
                        format!("parameters/{at}: it has no `{key}`: expected a parameter with `name` and `in`")
                    })
                };
                let (name, place) = (key("name")?, key("in")?);
                match found.iter_mut().find(|(other, its, _)| (*other, *its) == (name, place)) {
                    Some(same) => same.2 = parameter,
                    None => found.push((name, place, parameter)),
                }
            }
        }
        Ok(found.into_iter().map(|(name, place, parameter)| self.parameter(name, place, parameter)).collect())
    }

    fn parameter(&self, name: &str, place: &str, parameter: &'a Value) -> Value {
        let content = parameter.get("content").and_then(Value::as_object).and_then(|content| content.values().next());
        let schema = parameter.get("schema").or_else(|| content.and_then(|media| media.get("schema")));
        let mut row = schema.map(|schema| self.schemas.facts(schema)).unwrap_or_default();
        row.insert("name".to_owned(), prose::cut(name, HEADING).into());
        row.insert("in".to_owned(), prose::cut(place, HEADING).into());
        row.insert("depth".to_owned(), 0.into());
        if let Some(description) = parameter.get("description").and_then(text) {
            row.insert("description".to_owned(), prose::short(description, SHORT).into());
        }
        if let Some(value) = self.example(parameter).filter(|value| !value.is_object()) {
            row.insert("example".to_owned(), value);
        }
        for key in ["required", "deprecated"] {
            if parameter.get(key) == Some(&Value::Bool(true)) {
                row.insert(key.to_owned(), true.into());
            }
        }
        Value::Object(row)
    }

    fn body(&self) -> Result<Option<Value>, String> {
        let Some(body) = self.operation.get("requestBody").filter(|body| !body.is_null()) else { return Ok(None) };
        let body = self.schemas.follow(body).map_err(|reason| format!("requestBody: {reason}"))?;
        let mut fields = self.content(body, Side::Request);
        if body.get("required") == Some(&Value::Bool(true)) {
            fields.insert("required".to_owned(), true.into());
        }
        Ok(Some(Value::Object(fields)))
    }

    fn responses(&self, body: Option<&Value>) -> Result<Value, String> {
        let responses = match self.operation.get("responses") {
            Some(Value::Object(responses)) => responses,
            None | Some(Value::Null) => return Ok(Value::Null),
            Some(_) => return Err("responses: expected an object of responses by status".to_owned()),
        };
        let mut list: Vec<Map<String, Value>> = Vec::new();
        for (status, response) in responses.iter().take(RESPONSES).filter(|(status, _)| !status.starts_with("x-")) {
            let response = self.schemas.follow(response).map_err(|reason| format!("responses/{status}: {reason}"))?;
            let mut fields = Map::new();
            fields.insert("status".to_owned(), prose::cut(status, HEADING).into());
            fields.extend(self.content(response, Side::Response));
            // What is sent comes back, and errors look alike: what they look like is said once.
            let same =
                |other: &Map<String, Value>| ["type", "rows"].iter().all(|key| other.get(*key) == fields.get(*key));
            let before = list.iter().any(same) || body.and_then(Value::as_object).is_some_and(same);
            if before && fields.remove("rows").is_some() {
                fields.insert("repeated".to_owned(), true.into());
            }
            list.push(fields);
        }
        Ok(list.into_iter().map(Value::Object).collect())
    }

    /// Description, content types, and the schema and example of the content type that says most.
    fn content(&self, holder: &'a Value, side: Side) -> Map<String, Value> {
        let mut fields = Map::new();
        if let Some(description) = holder.get("description").and_then(text) {
            fields.insert("description".to_owned(), prose::short(description, SHORT).into());
        }
        let Some(content) = holder.get("content").and_then(Value::as_object) else { return fields };
        let types: Vec<&str> = content.keys().map(|name| name.as_str()).take(NAMES).collect();
        let Some(first) = ["application/json", "application/x-www-form-urlencoded", "multipart/form-data"]
            .into_iter()
            .find(|name| types.contains(name))
            .or_else(|| types.iter().copied().find(|name| name.contains("json")))
            .or_else(|| types.first().copied())
        else {
            return fields;
        };
        let rest = types.iter().copied().filter(|name| *name != first);
        fields.insert(
            "types".to_owned(),
            std::iter::once(first).chain(rest).map(|name| prose::cut(name, HEADING)).collect(),
        );
        let media = &content[first];
        if let Some(schema) = media.get("schema") {
            fields.insert("type".to_owned(), self.schemas.type_of(schema).into());
            let rows = self.schemas.outline(schema, side);
            if !rows.is_empty() {
                fields.insert("rows".to_owned(), rows.into());
            }
        }
        if let Some(value) = self.example(media).or_else(|| self.example(media.get("schema")?)) {
            fields.insert("example".to_owned(), value);
        }
        fields
    }

    /// The first example of a media type, parameter or schema.
    fn example(&self, holder: &'a Value) -> Option<Value> {
        let holder = self.schemas.follow(holder).ok()?;
        let listed = || match holder.get("examples")? {
            Value::Array(list) => list.first(),
            Value::Object(map) => {
                map.values().take(NAMES).find_map(|example| self.schemas.follow(example).ok()?.get("value"))
            }
            _ => None,
        };
        holder.get("example").or_else(listed).and_then(example::short)
    }

    /// Code that the specification's makers wrote, by the extensions in use: `x-codeSamples` and `x-oaiMeta`.
    fn samples(&self) -> Value {
        let mut samples = Vec::new();
        let mut push = |title: Option<&str>, language: &str, code: &Value| {
            let code = code.as_str().map(str::trim).filter(|code| !code.is_empty() && code.len() <= SAMPLE);
            if let (Some(code), true) = (code, samples.len() < SAMPLES) {
                let mut sample = json!({ "language": prose::cut(language, 40), "code": code });
                if let Some(title) = title {
                    sample["title"] = prose::short(title, HEADING).into();
                }
                samples.push(sample);
            }
        };
        for key in ["x-codeSamples", "x-code-samples"] {
            for sample in self.operation.get(key).and_then(Value::as_array).into_iter().flatten().take(NAMES) {
                push(
                    sample.get("label").and_then(text),
                    sample.get("lang").and_then(text).unwrap_or_default(),
                    &sample["source"],
                );
            }
        }
        let examples = self.operation.get("x-oaiMeta").and_then(|meta| meta.get("examples"));
        let several = examples
            .and_then(Value::as_array)
            .map_or_else(|| examples.into_iter().collect(), |list| list.iter().collect::<Vec<_>>());
        for example in several.into_iter().take(NAMES) {
            let title = example.get("title").and_then(text);
            for (language, code) in example.get("request").and_then(Value::as_object).into_iter().flatten().take(NAMES)
            {
                if ["curl", "python", "javascript", "node.js"].contains(&language.as_str()) {
                    let language = if language == "node.js" { "javascript" } else { language };
                    push(title, if language == "curl" { "bash" } else { language }, code);
                }
            }
            push(Some("Response"), "json", &example["response"]);
        }
        Value::Array(samples)
    }
}

/// Text that says something.
fn text(value: &Value) -> Option<&str> {
    value.as_str().map(str::trim).filter(|text| !text.is_empty())
}

/// A short text, number or switch as text.
fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(prose::cut(text.trim(), HEADING)),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(is) => Some(is.to_string()),
        _ => None,
    }
}

fn names(list: &Value) -> Value {
    list.as_array().into_iter().flatten().take(NAMES).filter_map(plain).collect()
}

/// A security scheme: in words, its kind, and the header, query parameter or cookie it goes by.
fn described(scheme: &Value) -> (String, &'static str, Option<String>) {
    let key = |key: &str| scheme.get(key).and_then(plain).unwrap_or_default();
    match key("type").as_str() {
        "http" => match key("scheme").to_ascii_lowercase().as_str() {
            "basic" => ("HTTP basic authentication".to_owned(), "basic", None),
            "bearer" => ("a bearer token in the header `Authorization`".to_owned(), "bearer", None),
            other => (format!("HTTP authentication of the scheme {other}"), "other", None),
        },
        "apiKey" => {
            let name = key("name");
            let (place, kind) = match key("in").as_str() {
                "query" => ("query parameter", "query"),
                "cookie" => ("cookie", "cookie"),
                _ => ("header", "header"),
            };
            (format!("an API key in the {place} `{name}`"), kind, Some(name))
        }
        "oauth2" => ("OAuth 2.0".to_owned(), "bearer", None),
        "openIdConnect" => ("OpenID Connect".to_owned(), "bearer", None),
        "mutualTLS" => ("a client certificate (mutual TLS)".to_owned(), "other", None),
        other => (other.to_owned(), "other", None),
    }
}

/// `FetchAddressList`, `fetch_address_list` and `fetchAddressList` as `Fetch address list`.
fn worded(id: &str) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for letter in id.chars() {
        let starts = letter.is_uppercase() && (before.is_lowercase() || before.is_ascii_digit());
        if (starts || ['_', '-', '.', '/', ' '].contains(&letter)) && !out.is_empty() && !out.ends_with(' ') {
            out.push(' ');
        }
        if !['_', '-', '.', '/', ' '].contains(&letter) {
            out.extend(letter.to_lowercase());
        }
        before = letter;
    }
    let mut letters = out.trim_end().chars();
    letters.next().map(|first| first.to_uppercase().collect::<String>() + letters.as_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operations_name_reads_as_words() {
        for (id, words) in [
            ("FetchAddressList", "Fetch address list"),
            ("pets_list-all", "Pets list all"),
            ("getV2", "Get v2"),
            ("", ""),
        ] {
            assert_eq!(worded(id), words);
        }
    }
}
