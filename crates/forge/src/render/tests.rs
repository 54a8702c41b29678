use serde_json::json;

use super::*;
use crate::document::RecordKind;
use crate::readers::{Kind, functions, openapi, records};
use crate::recipe::Input;

/// The documents of a small specification, of a function and of a record.
fn examples() -> Vec<Document> {
    let mut out = Vec::new();
    let spec = json!({
        "openapi": "3.1.0", "info": { "title": "Pets API", "version": "1.2.0" }, "servers": [{ "url": "https://api.pets.example/v1" }],
        "components": {
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
            "schemas": { "Pet": { "type": "object", "required": ["name"], "properties": {
                "name": { "type": "string", "description": "What it is called", "maxLength": 20 },
                "kind": { "type": "string", "enum": ["cat", "dog"], "default": "cat" },
                "owner": { "type": "object", "properties": { "mail": { "type": ["string", "null"], "format": "email" } } },
                "friends": { "type": "array", "items": { "$ref": "#/components/schemas/Pet" } },
            } } },
        },
        "security": [{ "token": [] }],
        "paths": { "/owners/{owner}/pets": { "post": {
            "operationId": "addPet", "summary": "Adds a pet.", "description": "<p>The pet is <b>added</b> at once.</p>",
            "parameters": [
                { "name": "owner", "in": "path", "required": true, "description": "Whose pet it is", "schema": { "type": "integer" }, "example": 7 },
                { "name": "notify", "in": "query", "schema": { "type": "boolean", "default": false }, "description": "Whether to send a mail." },
            ],
            "requestBody": { "required": true, "content": { "application/json": {
                "schema": { "$ref": "#/components/schemas/Pet" }, "example": { "name": "Rex's", "kind": "dog" },
            } } },
            "responses": {
                "201": { "description": "Created", "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Pet" }, "example": { "name": "Rex's", "kind": "dog", "friends": [] },
                } } },
                "404": { "description": "There is no such owner." },
            },
        } } },
    });
    let mut input = Input::new(Kind::Openapi, &[]);
    input.provider = Some("Pets Inc.".to_owned());
    openapi::documents("pets.json", spec.to_string().as_bytes(), &input, &mut out);
    let function = json!({
        "name": "weather.get", "description": "Get the weather of a place.",
        "parameters": { "type": "object", "required": ["place"], "properties": {
            "place": { "type": "string", "description": "The city, e.g. Oslo" },
            "days": { "type": "integer", "description": "Days ahead", "default": 1, "minimum": 1, "maximum": 14 },
            "options": { "type": "object", "properties": { "unit": { "type": "string", "enum": ["celsius", "fahrenheit"] } } },
        } },
        "returns": { "type": "object", "description": "The forecast", "properties": { "degrees": { "type": "number" } } },
    });
    functions::documents("tools.json", function, &input, &mut out);
    for (name, place) in [
        ("name", "api_name"),
        ("call", "api_call"),
        ("arguments", "api_arguments"),
        ("description", "/meta/description"),
        ("example", "code"),
        ("requirements", "needs"),
        ("questions", "questions"),
        ("performance", "performance"),
        ("required_roles", "roles"),
        ("functionality", "does"),
    ] {
        input.fields.insert(name.to_owned(), vec![place.to_owned()]);
    }
    let record = json!({
        "api_name": "mail.send", "api_call": "mail.send(to: str, body: str)", "does": "Send mail", "roles": ["sender", "admin"],
        "api_arguments": { "to": "[REQUIRED] string: Who gets it.", "body": { "description": "What it says", "data_type": "string" }, "retries": "integer" },
        "meta": { "description": "Sends a mail through the server that is configured." }, "needs": ["mailer"],
        "code": "import mailer \n mailer.connect() \n mailer.send('a', 'b')", "questions": ["How do I send a mail?"],
        "performance": { "dataset": "N/A", "rate": { "mails per second": 12.5 } },
    });
    out.push(records::document("apis.json#/3", record, &input));
    out.into_iter().map(Result::unwrap).collect()
}

fn by(name: &str) -> String {
    let templates = Templates::built_in();
    let kind = templates::kind(name).unwrap();
    let of_kind = |document: &Document| match &document.content {
        Content::Record { kind: its, fields } if *its == kind => Some(templates.render_by(name, kind, fields).unwrap()),
        _ => None,
    };
    examples().iter().find_map(of_kind).unwrap()
}

#[test]
fn an_operation_reads_well_in_every_phrasing() {
    insta::assert_snapshot!("reference.operation", by("reference.operation.j2"));
    insta::assert_snapshot!("manual.operation", by("manual.operation.j2"));
    insta::assert_snapshot!("guide.operation", by("guide.operation.j2"));
    insta::assert_snapshot!("exchange.operation", by("exchange.operation.j2"));
}

#[test]
fn a_function_reads_well_in_every_phrasing() {
    insta::assert_snapshot!("reference.function", by("reference.function.j2"));
    insta::assert_snapshot!("manual.function", by("manual.function.j2"));
    insta::assert_snapshot!("docstring.function", by("docstring.function.j2"));
    insta::assert_snapshot!("specification.function", by("specification.function.j2"));
}

#[test]
fn a_record_reads_well_in_every_phrasing() {
    insta::assert_snapshot!("reference.api", by("reference.api.j2"));
    insta::assert_snapshot!("card.api", by("card.api.j2"));
    insta::assert_snapshot!("guide.api", by("guide.api.j2"));
    insta::assert_snapshot!("answers.api", by("answers.api.j2"));
}

#[test]
fn every_built_in_template_compiles_and_there_are_several_a_kind() {
    let templates = Templates::built_in();
    for kind in [RecordKind::Operation, RecordKind::Function, RecordKind::Api] {
        assert_eq!(templates.names.get(&kind).map(Vec::len), Some(4), "{kind:?}");
    }
}

#[test]
fn the_phrasing_depends_on_seed_and_record_alone() {
    let documents: Vec<Document> = (0..400)
        .map(|at| {
            let mut document = examples().pop().unwrap();
            document.each_string(&mut |text| *text = text.replace("API", &format!("API {at}")));
            if let Content::Record { fields, .. } = &mut document.content {
                fields.insert("number".to_owned(), at.into());
            }
            document
        })
        .collect();
    let texts = |seed: u64, documents: &[Document]| {
        let renderer = Renderer::new(&Settings::default(), seed, "s", Path::new("t")).unwrap();
        documents.iter().map(|document| renderer.render(document).unwrap().text).collect::<Vec<_>>()
    };
    let (first, again, other) = (texts(1, &documents), texts(1, &documents[200..]), texts(2, &documents));
    assert_eq!(first[200..], again);
    assert_ne!(first, other);
    // A phrasing is told by how its text begins.
    let mut counts = std::collections::BTreeMap::new();
    first.iter().for_each(|text| *counts.entry(text.lines().next()).or_insert(0) += 1);
    assert!(counts.len() == 4 && counts.values().all(|count| *count > 60), "{counts:?}");
}

#[test]
fn what_is_known_stands_in_front_and_is_not_learned() {
    let settings = Settings { prefix: vec![Prefix::Provider, Prefix::Api, Prefix::Source], ..Settings::default() };
    let renderer = Renderer::new(&settings, 0, "web", Path::new("t")).unwrap();
    let mut document = Document::text("a.txt", "Text.  \n\n\nMore");
    document.facts.provider = Some("Pets\nInc.".to_owned());
    let text = renderer.render(&document).unwrap();
    let prefix = "provider: Pets Inc.\nsource: web\n\n";
    assert_eq!(text.text, format!("{prefix}Text.  \n\n\nMore"));
    assert_eq!(text.weights, [(prefix.len(), 0), (prefix.len() + 14, LEARNED)]);
    assert_eq!(Renderer::plain().render(&document).unwrap(), Text::from("Text.  \n\n\nMore".to_owned()));
}

#[test]
fn weights_and_special_tokens_move_with_the_prefix() {
    let text = Text { text: "<s>ab".to_owned(), weights: vec![(3, 0), (5, LEARNED)], special: vec![0..3, 4..5] };
    let moved = prefixed("p\n".to_owned(), text);
    assert_eq!(
        moved,
        Text { text: "p\n<s>ab".to_owned(), weights: vec![(5, 0), (7, LEARNED)], special: vec![2..5, 6..7] }
    );
}

#[test]
fn templates_of_a_folder_replace_those_of_their_kind_and_import_the_rows() {
    let folder = tempfile::tempdir().unwrap();
    let text =
        "{% from \"rows.j2\" import bullets %}\n{{ name }}   \n\n\n{{ bullets(parameters) }}\n{{ nothing.at.all }}";
    fs_err::write(folder.path().join("mine.function.j2"), text).unwrap();
    let settings = Settings { templates: Some(folder.path().to_owned()), ..Settings::default() };
    let renderer = Renderer::new(&settings, 0, "s", Path::new("t")).unwrap();
    let texts: Vec<String> = examples().iter().map(|document| renderer.render(document).unwrap().text).collect();
    insta::assert_snapshot!(texts[1], @r"
    weather.get

    - `place` (string, required): The city, e.g. Oslo
    - `days` (integer): Days ahead. Default: `1`. Limits: 1 to 14.
    - `options` (object)
      - `unit` (string): One of `celsius`, `fahrenheit`.
    ");
    assert_eq!(texts[0], Renderer::plain().render(&examples()[0]).unwrap().text);
}

#[test]
fn a_broken_template_is_named_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let new = |files: &[(&str, &str)]| {
        let at = tempfile::tempdir_in(folder.path()).unwrap();
        files.iter().for_each(|(name, text)| fs_err::write(at.path().join(name), text).unwrap());
        let settings = Settings { templates: Some(at.path().to_owned()), ..Settings::default() };
        let renderer = Renderer::new(&settings, 0, "s", Path::new("t"));
        let result = renderer.map(|renderer| renderer.render(&examples()[1]).map(|text| text.text));
        match result {
            Ok(result) => format!("{result:?}"),
            Err(error) => error.to_string().replace(&at.path().display().to_string(), "FOLDER"),
        }
    };
    let errors = [
        new(&[]),
        new(&[("a.tool.j2", "")]),
        new(&[("a.function.j2", "x\n{% if %}")]),
        new(&[("a.function.j2", "x\n\n{{ name | no_such_filter }}")]),
        new(&[("a.function.j2", "  \n")]),
    ];
    insta::assert_snapshot!(errors.join("\n"), @r#"
    FOLDER: no template here: expected files NAME.KIND.j2, KIND being operation, function or api
    FOLDER/a.tool.j2: tool is no kind of record: name it NAME.KIND.j2, KIND being operation, function or api
    FOLDER/a.function.j2:2: syntax error: unexpected end of block
    Err("template a.function.j2:3: unknown filter: filter no_such_filter is unknown")
    Err("template a.function.j2: nothing comes of it")
    "#);
}

#[test]
fn rendering_is_the_same_on_every_thread() {
    use rayon::prelude::*;
    let renderer = Renderer::plain();
    let documents: Vec<Document> = std::iter::repeat_with(examples).take(20).flatten().collect();
    let one: Vec<Text> = documents.iter().map(|document| renderer.render(document).unwrap()).collect();
    let many: Vec<Text> = documents.par_iter().map(|document| renderer.render(document).unwrap()).collect();
    assert_eq!(one, many);
}

#[test]
fn values_that_say_nothing_leave_no_noise() {
    let mut input = Input::new(Kind::Records, &[]);
    input.fields.insert("name".to_owned(), vec!["n".to_owned()]);
    let document = records::document("a", json!({ "n": "x", "d": null }), &input).unwrap();
    let Content::Record { kind, fields } = &document.content else { panic!("a record") };
    for name in ["reference", "card", "guide", "answers"] {
        let text = Templates::built_in().render_by(&format!("{name}.api.j2"), *kind, fields).unwrap();
        assert!(
            !text.to_lowercase().contains("none") && !text.contains("null") && !text.contains("undefined"),
            "{text}"
        );
        assert!(text.ends_with('\n') && !text.contains("\n\n\n"), "{text:?}");
    }
}
