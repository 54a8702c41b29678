//! The request of an operation, composed of what is known of it: as a curl command and as HTTP.

use serde_json::{Map, Value};

use super::filters::pretty;

/// Optional query parameters and form fields that a request shows, where they have examples.
const OPTIONAL: usize = 4;

/// `curl` and `http`, in this order; none where there is no address.
pub(super) fn of(fields: &Map<String, Value>) -> Vec<(&'static str, String)> {
    match Request::of(fields) {
        Some(request) => vec![("curl", request.curl()), ("http", request.http())],
        None => Vec::new(),
    }
}

struct Request<'a> {
    method: &'a str,
    url: String,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    basic: bool,
    body: Body<'a>,
}

enum Body<'a> {
    None,
    /// A content type, and fields as they are typed.
    Form(&'a str, Vec<(String, String)>),
    /// A content type and a text.
    Text(&'a str, String),
    /// A content type of which no example is known.
    Unknown(&'a str),
}

impl<'a> Request<'a> {
    fn of(fields: &'a Map<String, Value>) -> Option<Self> {
        let method = fields.get("method")?.as_str()?;
        let mut url = fields.get("url")?.as_str()?.to_owned();
        let (mut query, mut headers, mut basic) = (Vec::new(), Vec::new(), false);
        for parameter in fields.get("parameters").and_then(Value::as_array).into_iter().flatten() {
            let (Some(name), Some(place)) = (text(parameter, "name"), text(parameter, "in")) else { continue };
            let required = parameter.get("required").is_some();
            match place {
                "path" => {
                    if let Some(value) = known(parameter) {
                        url = url.replacen(&format!("{{{name}}}"), &value, 1);
                    }
                }
                "query" if required || (parameter.get("example").is_some() && query.len() < OPTIONAL) => {
                    query.push((name.to_owned(), value_of(parameter, name)));
                }
                "header" if required => headers.push((name.to_owned(), value_of(parameter, name))),
                _ => {}
            }
        }
        let schemes = fields
            .get("auth")
            .and_then(|auth| auth.get(0))
            .and_then(|way| way.get("schemes"))
            .and_then(Value::as_array);
        for scheme in schemes.into_iter().flatten() {
            match (text(scheme, "kind").unwrap_or_default(), text(scheme, "name")) {
                ("basic", _) => basic = true,
                ("bearer", _) => headers.push(("Authorization".to_owned(), "Bearer $TOKEN".to_owned())),
                ("header", Some(name)) => headers.push((name.to_owned(), "$API_KEY".to_owned())),
                ("query", Some(name)) => query.push((name.to_owned(), "$API_KEY".to_owned())),
                ("cookie", Some(name)) => headers.push(("Cookie".to_owned(), format!("{name}=$API_KEY"))),
                _ => {}
            }
        }
        Some(Self { method, url, query, headers, basic, body: body(fields) })
    }

    fn address(&self) -> String {
        let pairs: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if pairs.is_empty() { self.url.clone() } else { format!("{}?{}", self.url, pairs.join("&")) }
    }

    fn curl(&self) -> String {
        // What the shell is to fill in stands in double quotes.
        let quoted = |text: &str| {
            if text.contains("$TOKEN") || text.contains("$API_KEY") {
                format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
            } else {
                format!("'{}'", text.replace('\'', "'\\''"))
            }
        };
        let mut parts = Vec::new();
        let method = if self.method == "GET" { String::new() } else { format!("-X {} ", self.method) };
        parts.push(format!("curl {method}{}", quoted(&self.address())));
        if self.basic {
            parts.push("-u \"$USERNAME:$PASSWORD\"".to_owned());
        }
        parts.extend(self.headers.iter().map(|(name, value)| format!("-H {}", quoted(&format!("{name}: {value}")))));
        match &self.body {
            Body::None => {}
            Body::Form(kind, pairs) => {
                let flag = if kind.starts_with("multipart") { "-F" } else { "--data-urlencode" };
                parts
                    .extend(pairs.iter().map(|(name, value)| format!("{flag} {}", quoted(&format!("{name}={value}")))));
            }
            Body::Text(kind, text) => {
                parts.push(format!("-H {}", quoted(&format!("Content-Type: {kind}"))));
                parts.push(format!("-d {}", quoted(text)));
            }
            Body::Unknown(kind) => {
                parts.push(format!("-H {}", quoted(&format!("Content-Type: {kind}"))));
                parts.push("--data-binary @request".to_owned());
            }
        }
        parts.join(" \\\n  ")
    }

    fn http(&self) -> String {
        let address = self.address();
        let (host, path) = match address.split_once("://") {
            Some((_, rest)) => rest.find('/').map_or((rest, "/"), |at| (&rest[..at], &rest[at..])),
            None => ("", address.as_str()),
        };
        let mut lines = vec![format!("{} {path} HTTP/1.1", self.method)];
        if !host.is_empty() {
            lines.push(format!("Host: {host}"));
        }
        if self.basic {
            lines.push("Authorization: Basic $CREDENTIALS".to_owned());
        }
        lines.extend(self.headers.iter().map(|(name, value)| format!("{name}: {value}")));
        match &self.body {
            Body::None => {}
            Body::Form(kind, pairs) if !kind.starts_with("multipart") => {
                let pairs: Vec<String> =
                    pairs.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
                lines.extend([format!("Content-Type: {kind}"), String::new(), pairs.join("&")]);
            }
            Body::Text(kind, text) => lines.extend([format!("Content-Type: {kind}"), String::new(), text.clone()]),
            Body::Form(kind, _) | Body::Unknown(kind) => lines.push(format!("Content-Type: {kind}")),
        }
        lines.join("\n")
    }
}

fn body(fields: &Map<String, Value>) -> Body<'_> {
    let Some(body) = fields.get("body") else { return Body::None };
    let Some(kind) = body.get("types").and_then(|types| types.get(0)).and_then(Value::as_str) else {
        return Body::None;
    };
    let example = body.get("example");
    if kind == "application/x-www-form-urlencoded" || kind.starts_with("multipart") {
        let mut pairs = Vec::new();
        if let Some(Value::Object(example)) = example {
            pairs.extend(example.iter().map(|(name, value)| (name.clone(), shown(value))));
            return Body::Form(kind, pairs);
        }
        let rows = body.get("rows").and_then(Value::as_array).into_iter().flatten();
        for row in rows.filter(|row| row.get("depth").and_then(Value::as_u64) == Some(0)) {
            let Some(name) = text(row, "name") else { continue };
            if row.get("required").is_some() || (row.get("example").is_some() && pairs.len() < OPTIONAL) {
                pairs.push((name.to_owned(), value_of(row, name)));
            }
        }
        return Body::Form(kind, pairs);
    }
    match example {
        Some(example) => Body::Text(kind, pretty(example)),
        None => Body::Unknown(kind),
    }
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key).and_then(Value::as_str)
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}

/// A parameter's example, default or first choice.
fn known(parameter: &Value) -> Option<String> {
    let value =
        parameter.get("example").or_else(|| parameter.get("default")).or_else(|| parameter.get("enum")?.get(0))?;
    Some(shown(value)).filter(|text| !text.is_empty())
}

/// The same, or the parameter's name in braces for whoever sends it to fill in.
fn value_of(parameter: &Value, name: &str) -> String {
    known(parameter).unwrap_or_else(|| format!("{{{name}}}"))
}

/// A form's value as it travels: spaces, `&`, `=`, `+` and `%` encoded; braces to fill in stay.
fn encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            ' ' => out.push('+'),
            '&' | '=' | '+' | '%' | '#' | '\n' | '"' => out += &format!("%{:02X}", u32::from(letter)),
            letter => out.push(letter),
        }
    }
    out
}

/// The reason phrase of a status (RFC 9110, section 15), empty where it has none.
pub(super) fn reason(status: &str) -> &'static str {
    match status {
        "200" => "OK",
        "201" => "Created",
        "202" => "Accepted",
        "204" => "No Content",
        "206" => "Partial Content",
        "301" => "Moved Permanently",
        "302" => "Found",
        "303" => "See Other",
        "304" => "Not Modified",
        "307" => "Temporary Redirect",
        "308" => "Permanent Redirect",
        "400" => "Bad Request",
        "401" => "Unauthorized",
        "403" => "Forbidden",
        "404" => "Not Found",
        "405" => "Method Not Allowed",
        "406" => "Not Acceptable",
        "408" => "Request Timeout",
        "409" => "Conflict",
        "410" => "Gone",
        "412" => "Precondition Failed",
        "413" => "Content Too Large",
        "415" => "Unsupported Media Type",
        "422" => "Unprocessable Content",
        "429" => "Too Many Requests",
        "500" => "Internal Server Error",
        "501" => "Not Implemented",
        "502" => "Bad Gateway",
        "503" => "Service Unavailable",
        "504" => "Gateway Timeout",
        _ => "",
    }
}
