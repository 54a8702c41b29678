//! Documentation comments of Rust, JavaScript and TypeScript sources, a page for each public item: its qualified name, its
//! signature, what the comment says. Sources are parsed by tree-sitter, which makes what it can of broken ones.

use std::path::Path;

use tree_sitter::{Language, Node, Parser};

use super::{Document, Read, Reader, read_text, stream};
use crate::document::Facts;

/// Extensions taken from a folder.
pub const EXTENSIONS: &[&str] = &["rs", "js", "mjs", "cjs", "jsx", "ts", "mts", "cts", "tsx"];
/// Fewest bytes of prose worth a page.
const LEAST_PROSE: usize = 24;
/// Longest signature, in bytes, that is shown with its body, such as a struct's fields.
const LONGEST_BODY: usize = 1_500;
/// Modules, classes and namespaces inside each other that are looked into.
const DEPTH: usize = 16;

/// Something documented.
struct Item {
    /// Behind the module's name.
    name: Vec<String>,
    signature: String,
    comment: String,
}

/// The pages of one file.
pub fn documents(path: &Path, reader: &Reader) -> Vec<Read> {
    let source = match read_text(path, reader.limit()) {
        Ok(source) => source,
        Err(bad) => return vec![Err(bad)],
    };
    let rust = stream::extension(path) == "rs";
    let module = module(path, rust);
    let items = items(&source, &stream::extension(path));
    let (separator, fence) = if rust { ("::", "rust") } else { (".", "typescript") };
    let provider = reader.input.provider.clone().or_else(|| module.first().cloned());
    let pages = items.into_iter().filter(|item| item.comment.len() >= LEAST_PROSE);
    let pages = pages.map(|item| {
        let name = [module.as_slice(), item.name.as_slice()].concat().join(separator);
        let signature = match item.signature.as_str() {
            "" => String::new(),
            signature => format!("```{fence}\n{signature}\n```\n\n"),
        };
        let text = format!("# {name}\n\n{signature}{}\n", item.comment);
        let facts = Facts { api: Some(name), provider: provider.clone() };
        Ok(Document { facts, ..Document::text(path.display().to_string(), text) })
    });
    pages.collect()
}

/// What a file's module is called, by its path: `serde-1.0.2/src/de/value.rs` is `serde::de::value`.
fn module(path: &Path, rust: bool) -> Vec<String> {
    let path = stream::unpacked_name(path).with_extension("");
    let own = path.file_name().and_then(|name| name.to_str()).unwrap_or("").to_owned();
    let folders: Vec<&str> = path.parent().into_iter().flat_map(Path::iter).filter_map(|name| name.to_str()).collect();
    let root = folders.iter().rposition(|name| matches!(*name, "src" | "lib" | "dist" | "node_modules"));
    let (package, inside) = match root {
        Some(at) if folders.get(at) == Some(&"node_modules") => (folders.get(at + 1), folders.get(at + 2..)),
        Some(at) => (at.checked_sub(1).and_then(|above| folders.get(above)), folders.get(at + 1..)),
        None => (folders.last(), None),
    };
    let mut names = Vec::new();
    if let Some(package) = package {
        // A folder of a registry has the version behind the name.
        let versioned =
            package.rsplit_once('-').filter(|(_, version)| version.starts_with(|c: char| c.is_ascii_digit()));
        let package = versioned.map_or(*package, |(name, _)| name);
        names.push(if rust { package.replace('-', "_") } else { package.to_owned() });
    }
    names.extend(inside.unwrap_or_default().iter().map(|name| (*name).to_owned()));
    if !matches!(own.as_str(), "lib" | "main" | "mod" | "index" | "index.d") {
        names.push(own.trim_end_matches(".d").to_owned());
    }
    names
}

/// The documented items of a source, in order.
fn items(source: &str, extension: &str) -> Vec<Item> {
    let language: Language = match extension {
        "rs" => tree_sitter_rust::LANGUAGE.into(),
        "ts" | "mts" | "cts" => tree_sitter_typescript::LANGUAGE_TYPESCRIPT.into(),
        "tsx" => tree_sitter_typescript::LANGUAGE_TSX.into(),
        _ => tree_sitter_javascript::LANGUAGE.into(),
    };
    let mut parser = Parser::new();
    if parser.set_language(&language).is_err() {
        return Vec::new();
    }
    let Some(tree) = parser.parse(source, None) else { return Vec::new() };
    let mut found = Vec::new();
    if extension == "rs" {
        let lines = source.lines().map(str::trim_start).filter(|line| !line.is_empty());
        let inner: Vec<&str> = lines.map_while(|line| line.strip_prefix("//!")).collect();
        if !inner.is_empty() {
            found.push(Item { name: Vec::new(), signature: String::new(), comment: prose(inner.into_iter()) });
        }
        rust(tree.root_node(), source, &mut Vec::new(), false, 0, &mut found);
    } else {
        script(tree.root_node(), source, &mut Vec::new(), 0, &mut found);
    }
    found
}

fn text<'a>(node: Node<'_>, source: &'a str) -> &'a str {
    source.get(node.byte_range()).unwrap_or("")
}

fn children<'a>(node: Node<'a>) -> Vec<Node<'a>> {
    node.named_children(&mut node.walk()).collect()
}

/// Lines of a comment as prose: what indentation they share is the comment's.
fn prose<'a>(lines: impl Iterator<Item = &'a str>) -> String {
    let lines: Vec<&str> = lines.map(str::trim_end).collect();
    let filled = lines.iter().filter(|line| !line.is_empty());
    let margin = filled.map(|line| line.len() - line.trim_start().len()).min().unwrap_or(0);
    let cut: Vec<&str> = lines.iter().map(|line| line.get(margin..).unwrap_or(line.trim_start())).collect();
    cut.join("\n").trim().to_owned()
}

/// An item up to its body, or with it where that is short and tells something.
fn signature(node: Node<'_>, source: &str, whole: bool) -> String {
    let all = text(node, source);
    if whole && all.len() <= LONGEST_BODY {
        return all.trim().to_owned();
    }
    let body = node.child_by_field_name("body").map(|body| body.start_byte().saturating_sub(node.start_byte()));
    let head = body.and_then(|end| all.get(..end)).unwrap_or(all);
    let end = head.floor_char_boundary(LONGEST_BODY);
    head.get(..end).unwrap_or(head).trim().trim_end_matches([';', '{']).trim_end().to_owned()
}

/// Rust's documented public items under a node. `public`: what is in it is as public as it is.
fn rust(node: Node<'_>, source: &str, above: &mut Vec<String>, public: bool, depth: usize, found: &mut Vec<Item>) {
    let mut comment: Vec<&str> = Vec::new();
    for child in children(node) {
        let kind = child.kind();
        match kind {
            "line_comment" => {
                if let Some(line) = text(child, source).strip_prefix("///") {
                    comment.push(line.trim_end());
                }
                continue;
            }
            "block_comment" => {
                if text(child, source).starts_with("/**") {
                    comment.extend(block_lines(text(child, source)));
                }
                continue;
            }
            "attribute_item" => continue,
            _ => {}
        }
        let comment = prose(std::mem::take(&mut comment).into_iter());
        let named = |field: &str| child.child_by_field_name(field).map(|name| text(name, source));
        let visible = public || children(child).iter().any(|part| text(*part, source) == "pub");
        let name = match kind {
            // `Vec<T>` has the methods of `Vec`.
            "impl_item" => named("type").map(|name| name.split('<').next().unwrap_or(name)),
            _ => named("name"),
        };
        let Some(name) = name else { continue };
        above.push(name.to_owned());
        let item = matches!(
            kind,
            "function_item"
                | "function_signature_item"
                | "struct_item"
                | "enum_item"
                | "union_item"
                | "trait_item"
                | "type_item"
                | "const_item"
                | "static_item"
                | "macro_definition"
                | "mod_item"
        );
        if item && !comment.is_empty() && (visible || kind == "macro_definition") {
            let whole = matches!(kind, "struct_item" | "enum_item" | "union_item" | "type_item" | "const_item");
            found.push(Item { name: above.clone(), signature: signature(child, source, whole), comment });
        }
        let looked_into = match kind {
            "trait_item" | "mod_item" => visible,
            // What implements a trait is documented with the trait.
            "impl_item" => named("trait").is_none(),
            _ => false,
        };
        if let (true, true, Some(body)) = (looked_into, depth < DEPTH, child.child_by_field_name("body")) {
            rust(body, source, above, kind == "trait_item", depth + 1, found);
        }
        above.pop();
    }
}

/// JavaScript's and TypeScript's items under a node that have a JSDoc comment.
fn script(node: Node<'_>, source: &str, above: &mut Vec<String>, depth: usize, found: &mut Vec<Item>) {
    let mut comment: Option<&str> = None;
    for child in children(node) {
        if child.kind() == "comment" {
            comment = Some(text(child, source)).filter(|text| text.starts_with("/**"));
            continue;
        }
        let comment = comment.take().map(|comment| prose(block_lines(comment)));
        let inner = match child.kind() {
            "export_statement" | "ambient_declaration" => children(child).into_iter().find(|part| {
                part.kind().ends_with("declaration") || matches!(part.kind(), "function_signature" | "internal_module")
            }),
            "expression_statement" => child.named_child(0).filter(|part| part.kind() == "internal_module"),
            _ => Some(child),
        };
        let Some(inner) = inner else { continue };
        let declared = match inner.kind() {
            "lexical_declaration" | "variable_declaration" => inner.named_child(0),
            _ => Some(inner),
        };
        let Some(declared) = declared else { continue };
        let name = ["name", "property"].iter().find_map(|field| declared.child_by_field_name(field));
        let Some(name) = name.map(|name| text(name, source)) else { continue };
        // What begins with an underscore or a hash is nobody else's.
        if name.starts_with(['_', '#']) {
            continue;
        }
        above.push(name.to_owned());
        let hidden = |comment: &str| ["@internal", "@private", "@ignore"].iter().any(|mark| comment.contains(mark));
        let Some(comment) = comment.or_else(|| Some(String::new())).filter(|comment| !hidden(comment)) else {
            above.pop();
            continue;
        };
        if !comment.is_empty() {
            let whole = matches!(inner.kind(), "interface_declaration" | "type_alias_declaration" | "enum_declaration");
            let mut signature = signature(inner, source, whole);
            if declared != inner {
                signature = shortened(inner, declared, source);
            }
            found.push(Item { name: above.clone(), signature, comment });
        }
        if let (true, Some(body)) = (depth < DEPTH, declared.child_by_field_name("body"))
            && matches!(body.kind(), "class_body" | "interface_body" | "object_type" | "statement_block")
            && !matches!(declared.kind(), "method_definition" | "function_declaration")
            && !declared.kind().contains("generator")
        {
            script(body, source, above, depth + 1, found);
        }
        above.pop();
    }
}

/// `const f = (x) => …` without what it does.
fn shortened(declaration: Node<'_>, declared: Node<'_>, source: &str) -> String {
    let body = declared.child_by_field_name("value").and_then(|value| value.child_by_field_name("body"));
    let all = text(declaration, source);
    let head = body.and_then(|body| all.get(..body.start_byte().saturating_sub(declaration.start_byte())));
    let head = head.unwrap_or(all.lines().next().unwrap_or(""));
    let end = head.floor_char_boundary(LONGEST_BODY);
    head.get(..end).unwrap_or(head).trim().trim_end_matches("=>").trim_end().to_owned()
}

/// The lines of a `/** … */` comment without their stars.
fn block_lines(comment: &str) -> impl Iterator<Item = &str> {
    let inside = comment.strip_prefix("/**").unwrap_or(comment);
    let inside = inside.strip_suffix("*/").unwrap_or(inside);
    inside.lines().map(|line| {
        let trimmed = line.trim_start();
        trimmed.strip_prefix('*').unwrap_or(trimmed)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::readers::Kind;
    use crate::recipe::Input;

    fn pages(name: &str, source: &str) -> Vec<(String, String)> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, source).unwrap();
        let read = documents(&path, &Reader::new(Input::new(Kind::CodeDocs, &[])));
        let page = |read: Read| {
            let document = read.unwrap();
            let crate::document::Content::Text(text) = document.content else { panic!("no text") };
            (document.facts.api.unwrap(), text)
        };
        read.into_iter().map(page).collect()
    }

    #[test]
    fn rust_items_have_their_path_signature_and_comment() {
        let source = "//! What this module is for, in a sentence.\n\n/// A point in the plane, nothing more.\n#[derive(Debug)]\npub struct Point<T> {\n    /// Abscissa.\n    pub x: T,\n}\n\nimpl<T> Point<T> {\n    /// Moves it by so much to the right.\n    ///\n    /// ```\n    /// p.shift(1);\n    /// ```\n    pub fn shift(&mut self, by: T) -> bool {\n        true\n    }\n    /// Nobody else needs to know of this one.\n    fn hidden(&self) {}\n}\n";
        let pages = pages("geo-metry-1.2.0/src/flat/mod.rs", source);
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["geo_metry::flat", "geo_metry::flat::Point", "geo_metry::flat::Point::shift"]);
        assert_eq!(
            pages[2].1,
            "# geo_metry::flat::Point::shift\n\n```rust\npub fn shift(&mut self, by: T) -> bool\n```\n\nMoves it by so much to the right.\n\n```\np.shift(1);\n```\n"
        );
        assert!(pages[1].1.contains("pub struct Point<T> {\n    /// Abscissa.\n    pub x: T,\n}"), "{}", pages[1].1);
    }

    #[test]
    fn typescript_items_have_their_path_signature_and_comment() {
        let source = "/**\n * A client of the service, one a process.\n */\nexport class Client {\n  /**\n   * Sends a message and waits for its answer.\n   * @param text - the message\n   */\n  async send(text: string): Promise<Answer> { return x; }\n  /** Nobody's business but its own. @private */\n  hide() {}\n}\n\n/** Adds two numbers, as one would expect. */\nexport const add = (a: number, b: number): number => a + b;\n\n// Not documentation, only a remark.\nexport function bare() {}\n";
        let pages = pages("node_modules/mail/lib/client.ts", source);
        let names: Vec<&str> = pages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["mail.client.Client", "mail.client.Client.send", "mail.client.add"]);
        assert_eq!(
            pages[1].1,
            "# mail.client.Client.send\n\n```typescript\nasync send(text: string): Promise<Answer>\n```\n\nSends a message and waits for its answer.\n@param text - the message\n"
        );
        assert!(pages[2].1.contains("const add = (a: number, b: number): number\n"), "{}", pages[2].1);
    }

    proptest! {
        #[test]
        fn no_source_makes_the_reader_panic(
            pieces in prop::collection::vec(
                prop::sample::select(vec![
                    "/// é doc", "//! d", "/**", " */", "*", "\n", "pub ", "fn f", "(", ")", "{", "}", "struct S", "impl ", "trait T ",
                    "mod m", "class A", "export ", "const x = ", "=>", "interface I ", "世", "\u{2003}", ";", "<", ">", "@private",
                ]),
                0..40,
            ),
            extension in prop::sample::select(EXTENSIONS.to_vec()),
        ) {
            let _ = items(&pieces.concat(), extension);
        }
    }
}
