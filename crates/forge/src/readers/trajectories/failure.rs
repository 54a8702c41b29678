//! Whether what a tool returned is an error.
//!
//! Errors are told by how tools spell them, not by what they are about: a message of the shape `Error: …`, a Python
//! traceback, a JSON object that says so, an HTTP status with its phrase. What only mentions an error is none.

use serde_json::Value;

/// The phrases that follow a status in an HTTP error's body (RFC 9110, section 15), and those of Python's `requests`.
const PHRASES: [&str; 14] = [
    "Bad Request",
    "Unauthorized",
    "Payment Required",
    "Forbidden",
    "Not Found",
    "Method Not Allowed",
    "Conflict",
    "Unprocessable",
    "Too Many Requests",
    "Internal Server Error",
    "Bad Gateway",
    "Service Unavailable",
    "Client Error",
    "Server Error",
];

/// Whether a tool's result says that the call failed.
pub(super) fn is_failure(result: &str) -> bool {
    let text = result.trim_start();
    if text.starts_with('{') {
        return match serde_json::from_str::<Value>(text) {
            Ok(value) => says_so(&value),
            // A Python dictionary, as `str` prints it.
            Err(_) => text.strip_prefix("{'error': ").is_some_and(|rest| {
                !["''", "\"\"", "None", "False", "{}", "[]"].iter().any(|empty| rest.starts_with(empty))
            }),
        };
    }
    exception(text) || text.lines().any(|line| line.starts_with("Traceback (most recent call last):")) || status(text)
}

/// A JSON object that names an error, denies success or carries an HTTP error's status.
fn says_so(value: &Value) -> bool {
    let set = |key: &str| match value.get(key) {
        Some(Value::Bool(yes)) => *yes,
        Some(Value::String(text)) => !text.trim().is_empty(),
        Some(Value::Object(map)) => !map.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::Null) | None => false,
    };
    let yes = |key: &str| value.get(key) == Some(&Value::Bool(true));
    let code = |key: &str| match value.get(key) {
        Some(Value::Number(number)) => number.as_u64().is_some_and(|code| (400..600).contains(&code)),
        _ => false,
    };
    set("error")
        || yes("isError")
        || yes("is_error")
        || value.get("success") == Some(&Value::Bool(false))
        || value.get("status").and_then(Value::as_str).is_some_and(|status| status.eq_ignore_ascii_case("error"))
        || ["status", "status_code", "statusCode"].iter().any(|key| code(key))
}

/// `Error: …`, `KeyError: …`, `java.io.IOException: …`, `Error executing …`.
fn exception(text: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    if ["Error executing ", "Error calling ", "Error while "].iter().any(|start| line.starts_with(start)) {
        return true;
    }
    let Some((name, _)) = line.split_once(':') else { return false };
    ["Error", "ERROR", "error", "Exception"].iter().any(|end| name.ends_with(end))
        && name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.')
}

/// `HTTP/1.1 404 …`, `404 Not Found`, `503 Server Error: …`.
fn status(text: &str) -> bool {
    let (named, rest) = match text.strip_prefix("HTTP") {
        Some(rest) => (true, rest.trim_start_matches(['/', '.', ' ', ':'])),
        None => (false, text),
    };
    // The version, where there is one, is before the status.
    let rest = match (named, rest.split_once(' ')) {
        (true, Some((version, rest))) if version.len() <= 3 && version.contains('.') => rest,
        _ => rest,
    };
    let Some((code, phrase)) = rest.split_at_checked(3) else { return false };
    let is_error = code.starts_with(['4', '5']) && code.bytes().all(|byte| byte.is_ascii_digit());
    if named {
        return is_error && !phrase.starts_with(|c: char| c.is_ascii_digit());
    }
    let phrase = phrase.trim_start_matches([' ', ':', '-']);
    is_error && PHRASES.iter().any(|known| phrase.starts_with(known))
}

#[cfg(test)]
mod tests {
    use super::is_failure;

    #[test]
    fn errors_are_told_by_how_tools_spell_them() {
        for failed in [
            "Error: payment method not found",
            "KeyError: 'user_id'",
            "requests.exceptions.HTTPError: 404 Client Error",
            "out\nTraceback (most recent call last):\n  File \"x.py\", line 1",
            r#"{"error": "Rate limit", "response": ""}"#,
            r#"{"error": {"code": 7}}"#,
            r#"{"isError": true, "content": []}"#,
            r#"{"status": 503, "message": "later"}"#,
            r#"{"success": false}"#,
            "{'error': 'no such user'}",
            "HTTP/1.1 404 Not Found",
            "HTTP 500: oops",
            "404 Not Found",
            "503 Service Unavailable: try later",
        ] {
            assert!(is_failure(failed), "{failed}");
        }
        for fine in [
            "",
            "450 items",
            "404 rooms are free",
            r#"{"error": "", "response": "{'a': 1}"}"#,
            r#"{"error": null, "status": 200}"#,
            r#"{"error": 0, "status": "pending"}"#,
            "{'error': '', 'response': 'ok'}",
            "Errors are rare: none today",
            "The last error: none",
            "HTTP/1.1 200 OK",
            "HTTP",
            "4",
            "ééé",
        ] {
            assert!(!is_failure(fine), "{fine}");
        }
    }
}
