//! Paths in settings: `~` and variables are expanded, and what is no path on this machine is refused.
//!
//! A field is a path where its schema has the format `path`: `#[schemars(extend("format" = "path"))]`. What is expanded holds
//! nothing that is expanded again, so that a recipe written with its defaults loads as the same recipe.

/// `text` with `~` and each `$NAME` and `${NAME}` expanded by `variable`, or the reason why it is refused.
pub(super) fn expand(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    if text.trim().is_empty() {
        return Err("is empty: give a path".to_owned());
    }
    let value = |name: &str| {
        let value = variable(name).filter(|value| !value.is_empty());
        value.ok_or_else(|| format!("is `{text}`, and the variable {name} is not set: set it, or write the path out"))
    };
    let (mut path, mut rest) = match text.strip_prefix('~') {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => (value("HOME")?, rest),
        Some(_) => {
            return Err(format!("is `{text}`: the home folder of another user is not looked up; write the path out"));
        }
        None => (String::new(), text),
    };
    while let Some((before, after)) = rest.split_once('$') {
        path.push_str(before);
        let (name, behind) = name(after).ok_or_else(|| {
            format!(
                "is `{text}`: a $ begins a variable, $NAME or ${{NAME}}; a path with a $ in its name cannot be given"
            )
        })?;
        path.push_str(&value(name)?);
        rest = behind;
    }
    path.push_str(rest);
    if is_url(&path) {
        return Err(format!(
            "is `{path}`, a URL: only files on this machine are read and written; mount or copy it, and give its path"
        ));
    }
    if path.contains('$') || path.starts_with('~') {
        return Err(format!("is `{text}`, which expands to `{path}`: write the path out"));
    }
    Ok(path)
}

/// The name of the variable that `after`, what follows a `$`, begins with, and what follows it.
fn name(after: &str) -> Option<(&str, &str)> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let (name, behind) = match after.strip_prefix('{') {
        Some(inner) => inner.split_once('}')?,
        None => after.split_at(after.find(|letter| !is_part(letter)).unwrap_or(after.len())),
    };
    let named =
        name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_') && name.chars().all(is_part);
    named.then_some((name, behind))
}

/// Returns whether a text begins with a scheme, such as `s3://`.
fn is_url(text: &str) -> bool {
    text.split_once("://").is_some_and(|(scheme, _)| {
        scheme.starts_with(|letter: char| letter.is_ascii_alphabetic())
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        let known =
            [("HOME", "/home/ada"), ("SCRATCH", "/scratch/7"), ("EMPTY", ""), ("BUCKET", "s3://b"), ("ODD", "a$b")];
        known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn home_and_variables_are_expanded() {
        for (text, expected) in [
            ("runs/x", "runs/x"),
            ("~", "/home/ada"),
            ("~/runs", "/home/ada/runs"),
            ("a~/~", "a~/~"),
            ("$SCRATCH/x", "/scratch/7/x"),
            ("${SCRATCH}x/$HOME", "/scratch/7x//home/ada"),
            ("a:b//c", "a:b//c"),
        ] {
            assert_eq!(expand(text, variable).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_path_here_is_refused_with_the_reason() {
        for (text, reason) in [
            ("", "is empty: give a path"),
            ("  ", "is empty: give a path"),
            ("~bob/x", "is `~bob/x`: the home folder of another user is not looked up; write the path out"),
            ("$NONE/x", "is `$NONE/x`, and the variable NONE is not set: set it, or write the path out"),
            ("$EMPTY/x", "is `$EMPTY/x`, and the variable EMPTY is not set: set it, or write the path out"),
            (
                "a/$/x",
                "is `a/$/x`: a $ begins a variable, $NAME or ${NAME}; a path with a $ in its name cannot be given",
            ),
            ("$ODD", "is `$ODD`, which expands to `a$b`: write the path out"),
            (
                "$BUCKET/x",
                "is `s3://b/x`, a URL: only files on this machine are read and written; mount or copy it, and give its path",
            ),
        ] {
            assert_eq!(expand(text, variable), Err(reason.to_owned()));
        }
        for text in ["https://x.org/y", "hf://org/model", "file:///x", "${SCRATCH", "${SCRATCH:-/x}", "$1", "x$"] {
            assert!(expand(text, variable).is_err(), "{text}");
        }
    }
}
