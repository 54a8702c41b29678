use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::readers::Kind;

fn read(bytes: &[u8]) -> Vec<Read> {
    let mut out = Vec::new();
    documents("api.json", bytes, &Input::new(Kind::Openapi, &[]), &mut out);
    out
}

fn fields(read: &Read) -> &Map<String, Value> {
    match &read.as_ref().unwrap().content {
        Content::Record { kind: RecordKind::Operation, fields } => fields,
        other => panic!("{other:?}"),
    }
}

/// The only operation of a specification.
fn only(spec: &Value) -> Map<String, Value> {
    let out = read(spec.to_string().as_bytes());
    assert_eq!(out.len(), 1, "{out:?}");
    fields(&out[0]).clone()
}

/// A specification of one operation that answers with `schema`.
fn answering(version: &str, schema: &Value, schemas: &Value) -> Value {
    let content = json!({ "application/json": { "schema": schema } });
    let get = json!({ "responses": { "200": { "description": "OK", "content": content } } });
    json!({ "openapi": version, "info": { "title": "T", "version": "1" }, "paths": { "/x": { "get": get } }, "components": { "schemas": schemas } })
}

/// Name and type of each row of the answer.
fn rows(spec: &Value) -> Vec<(String, String)> {
    let fields = only(spec);
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let rows = fields["responses"][0]["rows"].as_array().cloned().unwrap_or_default();
    rows.iter().map(|row| (text(row, "name"), text(row, "type"))).collect()
}

fn data(path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path);
    path.exists().then_some(path)
}

#[test]
fn an_operation_is_read_with_all_that_is_known_of_it() {
    let spec = br##"
openapi: 3.1.0
info: {title: Pets, version: 1.2.0}
servers: [{url: "https://{host}.example/v1/", variables: {host: {default: api}}}]
security: [{key: []}]
paths:
  /pets/{id}:
    parameters:
      - {name: id, in: path, required: true, schema: {type: string}, description: <b>Which</b> pet}
      - {name: verbose, in: query, schema: {type: boolean}}
    put:
      operationId: putPet
      summary: Replaces a pet.
      tags: [pets]
      deprecated: true
      parameters:
        - {name: verbose, in: query, schema: {type: integer, minimum: 0, maximum: 3, default: 1}, example: 2}
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/Pet"}
            example: {name: Rex}
      responses:
        200: {description: Done, content: {application/json: {schema: {type: array, items: {$ref: "#/components/schemas/Pet"}}}}}
        404: {$ref: "#/components/responses/Lost"}
components:
  securitySchemes: {key: {type: apiKey, in: header, name: X-Key}}
  responses: {Lost: {description: No such pet}}
  schemas:
    Pet:
      type: object
      required: [name]
      properties:
        name: {type: string, maxLength: 20}
        id: {type: string, readOnly: true}
        kind: {enum: [cat, dog]}
"##;
    let out = read(spec);
    assert_eq!(out.len(), 1);
    let document = out[0].as_ref().unwrap();
    assert_eq!(document.origin, "api.json#/paths/~1pets~1{id}/put");
    let facts = Facts { api: Some("Pets: putPet".to_owned()), provider: Some("Pets".to_owned()) };
    assert_eq!(document.facts, facts);
    let expected = json!({
        "title": "Pets", "version": "1.2.0", "provider": "Pets", "method": "PUT", "path": "/pets/{id}",
        "url": "https://api.example/v1/pets/{id}", "operation_id": "putPet", "heading": "Replaces a pet",
        "tags": ["pets"], "deprecated": true,
        "auth": [{ "text": "an API key in the header `X-Key`", "schemes": [{ "kind": "header", "name": "X-Key" }] }],
        "parameters": [
            { "type": "string", "name": "id", "in": "path", "depth": 0, "description": "**Which** pet", "required": true },
            {
                "type": "integer", "default": 1, "limits": "0 to 3", "name": "verbose", "in": "query", "depth": 0,
                "example": 2,
            },
        ],
        "body": {
            "types": ["application/json"], "type": "Pet object",
            "rows": [
                { "type": "string", "limits": "at most 20 characters", "name": "name", "required": true, "depth": 0 },
                { "type": "string", "enum": ["cat", "dog"], "name": "kind", "depth": 0 },
            ],
            "example": { "name": "Rex" }, "required": true,
        },
        "responses": [
            {
                "status": "200", "description": "Done", "types": ["application/json"], "type": "array of Pet objects",
                "rows": [
                    { "type": "string", "limits": "at most 20 characters", "name": "name", "required": true, "depth": 0 },
                    { "type": "string", "name": "id", "depth": 0 },
                    { "type": "string", "enum": ["cat", "dog"], "name": "kind", "depth": 0 },
                ],
            },
            { "status": "404", "description": "No such pet" },
        ],
    });
    assert_eq!(Value::Object(fields(&out[0]).clone()), expected);
}

#[test]
fn null_is_a_switch_in_3_0_and_a_type_in_3_1() {
    let old = json!({ "properties": { "a": { "type": "string", "nullable": true } } });
    let new = json!({ "properties": { "a": { "type": ["string", "null"] }, "b": { "anyOf": [{ "type": "integer" }, { "type": "null" }] } } });
    let row = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(rows(&answering("3.0.3", &old, &json!({}))), [row("a", "string or null")]);
    assert_eq!(rows(&answering("3.1.0", &new, &json!({}))), [row("a", "string or null"), row("b", "integer or null")]);
}

#[test]
fn what_stands_beside_a_reference_counts_since_3_1() {
    let schema = json!({ "properties": { "a": { "$ref": "#/components/schemas/A", "description": "mine" } } });
    let schemas = json!({ "A": { "type": "string", "description": "its" } });
    let said =
        |version: &str| only(&answering(version, &schema, &schemas))["responses"][0]["rows"][0]["description"].clone();
    assert_eq!(said("3.0.3"), "its");
    assert_eq!(said("3.1.0"), "mine");
}

#[test]
fn exclusive_bounds_are_switches_in_3_0_and_numbers_in_3_1() {
    let limits = |version: &str, schema: Value| {
        let spec = answering(version, &json!({ "properties": { "a": schema } }), &json!({}));
        only(&spec)["responses"][0]["rows"][0]["limits"].clone()
    };
    assert_eq!(
        limits("3.0.3", json!({ "type": "integer", "minimum": 1, "exclusiveMinimum": true, "maximum": 9 })),
        "above 1, at most 9"
    );
    assert_eq!(
        limits("3.1.0", json!({ "type": "integer", "exclusiveMinimum": 1, "maximum": 9 })),
        "above 1, at most 9"
    );
}

#[test]
fn what_refers_to_itself_is_outlined_once() {
    let schemas = json!({ "Node": { "properties": {
        "value": { "type": "string" },
        "next": { "$ref": "#/components/schemas/Node" },
        "children": { "type": "array", "items": { "$ref": "#/components/schemas/Node" } },
    } } });
    let spec = answering("3.0.3", &json!({ "$ref": "#/components/schemas/Node" }), &schemas);
    let row = |name: &str, kind: &str| (name.to_owned(), kind.to_owned());
    assert_eq!(
        rows(&spec),
        [row("value", "string"), row("next", "Node object"), row("children", "array of Node objects")]
    );
    for circle in [
        json!({ "A": { "$ref": "#/components/schemas/A" } }),
        json!({ "A": { "$ref": "#/components/schemas/B" }, "B": { "$ref": "#/components/schemas/A" } }),
        json!({ "A": { "allOf": [{ "$ref": "#/components/schemas/A" }] } }),
        json!({ "A": { "type": "array", "items": { "$ref": "#/components/schemas/A" } } }),
        json!({ "A": { "oneOf": [{ "$ref": "#/components/schemas/A" }, { "$ref": "#/components/schemas/A" }] } }),
        json!({ "A": { "additionalProperties": { "$ref": "#/components/schemas/A" } } }),
    ] {
        assert_eq!(rows(&answering("3.1.0", &json!({ "$ref": "#/components/schemas/A" }), &circle)), [], "{circle}");
    }
}

#[test]
fn parts_and_alternatives_of_a_schema_are_put_together() {
    let schemas = json!({
        "Base": { "type": "object", "required": ["id"], "properties": { "id": { "type": "string" } } },
        "Cat": { "allOf": [{ "$ref": "#/components/schemas/Base" }, { "properties": { "lives": { "type": "integer" } } }] },
        "Dog": { "allOf": [{ "$ref": "#/components/schemas/Base" }] },
    });
    let schema = json!({ "properties": { "pet": { "oneOf": [{ "$ref": "#/components/schemas/Cat" }, { "$ref": "#/components/schemas/Dog" }] } } });
    let fields = only(&answering("3.0.3", &schema, &schemas));
    let rows = fields["responses"][0]["rows"].as_array().unwrap();
    let row = |row: &Value| {
        format!(
            "{}{} {}",
            "  ".repeat(usize::try_from(row["depth"].as_u64().unwrap()).unwrap()),
            row["name"],
            row["type"]
        )
    };
    let rows: Vec<String> = rows.iter().map(row).collect();
    insta::assert_snapshot!(rows.join("\n"), @r#"
    "pet" "Cat or Dog"
      null "Cat object"
        "lives" "integer"
        "id" "string"
      null "Dog object"
        "id" "string"
    "#);
}

#[test]
fn a_schema_that_expands_exponentially_costs_no_more_than_any_other() {
    let mut schemas = Map::new();
    for level in 0..60 {
        let next = json!({ "$ref": format!("#/components/schemas/L{}", level + 1) });
        let both = json!({ "a": next, "b": { "allOf": [next, next] }, "c": { "oneOf": [next, next, { "properties": { "d": next } }] } });
        schemas.insert(
            format!("L{level}"),
            json!({ "properties": both, "anyOf": [next, next, next], "allOf": [next, next] }),
        );
    }
    let spec = answering("3.1.0", &json!({ "$ref": "#/components/schemas/L0" }), &Value::Object(schemas));
    let out = read(spec.to_string().as_bytes());
    assert!(size(&Value::Object(fields(&out[0]).clone())) < 50_000);
}

#[test]
fn references_one_after_the_other_in_their_thousands_do_not_overflow_the_stack() {
    for wrap in ["items", "additionalProperties", "allOf", "oneOf"] {
        let link = |level: usize| {
            let next = json!({ "$ref": format!("#/components/schemas/L{}", level + 1) });
            let next = if wrap.ends_with("Of") { json!([next]) } else { next };
            (format!("L{level}"), json!({ wrap: next }))
        };
        let schemas: Map<String, Value> = (0..50_000).map(link).collect();
        let spec = answering("3.1.0", &json!({ "$ref": "#/components/schemas/L0" }), &Value::Object(schemas));
        assert_eq!(rows(&spec), [], "{wrap}");
    }
}

#[test]
fn a_file_that_expands_to_many_times_its_size_is_left_where_it_does() {
    let text = "word ".repeat(200);
    let properties: Map<String, Value> =
        (0..80).map(|at| (format!("p{at}"), json!({ "type": "string", "description": text }))).collect();
    let mut spec = answering(
        "3.1.0",
        &json!({ "$ref": "#/components/schemas/Big" }),
        &json!({ "Big": { "properties": properties } }),
    );
    let get = spec["paths"]["/x"]["get"].clone();
    let paths: Map<String, Value> = (0..3_000).map(|at| (format!("/x{at}"), json!({ "get": get }))).collect();
    spec["paths"] = Value::Object(paths);
    let out = read(spec.to_string().as_bytes());
    let bad = out.last().unwrap().as_ref().unwrap_err();
    assert!(out.len() < 1_000, "{}", out.len());
    assert_eq!(bad.reason, "its schemas expand to many times the file's size: the rest of the file is left out");
}

#[test]
fn a_broken_operation_is_named_and_the_others_are_read() {
    let good = json!({ "responses": {} });
    let spec = json!({ "openapi": "3.0.0", "paths": {
        "/a": { "get": 1, "post": { "parameters": 2 }, "put": { "parameters": [{ "name": "x" }] }, "delete": good },
        "/b~c": { "get": { "parameters": [{ "$ref": "#/components/parameters/No" }] }, "post": { "requestBody": { "$ref": "b.yaml#/B" } } },
        "/d": { "$ref": "#/paths/~1d" }, "/e": [], "/f": { "get": { "responses": [] }, "head": good },
        "x-note": "not a path",
    } });
    let out = read(spec.to_string().as_bytes());
    assert_eq!(out.iter().filter(|read| read.is_ok()).count(), 2);
    let bad: Vec<String> = out.iter().filter_map(|read| read.as_ref().err()).map(ToString::to_string).collect();
    insta::assert_snapshot!(bad.join("\n"), @r"
    api.json#/paths/~1a/get: expected an object that describes an operation
    api.json#/paths/~1a/put: parameters/0: it has no `in`: expected a parameter with `name` and `in`
    api.json#/paths/~1a/post: parameters: expected a list
    api.json#/paths/~1b~0c/get: parameters/0: $ref #/components/parameters/No leads nowhere in this file
    api.json#/paths/~1b~0c/post: requestBody: $ref b.yaml#/B leads out of this file: bundle the files into one
    api.json#/paths/~1d: $ref #/paths/~1d leads in a circle
    api.json#/paths/~1e: expected an object with operations
    api.json#/paths/~1f/get: responses: expected an object of responses by status
    ");
}

#[test]
fn a_file_that_is_no_specification_is_refused() {
    let bad = |text: &str| read(text.as_bytes())[0].as_ref().unwrap_err().to_string();
    assert_eq!(bad("{}"), "api.json: no OpenAPI document: it has neither a key `openapi` nor `swagger`");
    assert_eq!(bad("openapi: 4.0.0"), "api.json: openapi is 4.0.0: expected 3.0 or 3.1");
    assert_eq!(bad("swagger: 1.2"), "api.json: swagger is 1.2: expected 2.0");
    assert_eq!(bad("openapi: 3.0.0\npaths: []"), "api.json#/paths: expected an object");
}

#[test]
fn swagger_2_reads_as_openapi_3() {
    let spec = json!({
        "swagger": "2.0", "info": { "title": "T", "version": "1" }, "host": "a.example", "basePath": "/v2", "schemes": ["http", "https"],
        "consumes": ["application/json"], "securityDefinitions": { "b": { "type": "basic" } }, "security": [{ "b": [] }],
        "parameters": { "Limit": { "name": "limit", "in": "query", "type": "integer", "maximum": 9 } },
        "definitions": { "Pet": { "properties": { "name": { "type": "string" } } } },
        "paths": { "/pets": { "post": {
            "parameters": [{ "$ref": "#/parameters/Limit" }, { "in": "body", "name": "pet", "required": true, "schema": { "$ref": "#/definitions/Pet" } }],
            "responses": { "200": { "description": "OK", "schema": { "$ref": "#/definitions/Pet" }, "examples": { "application/json": { "name": "Rex" } } } },
        }, "put": { "parameters": [{ "in": "formData", "name": "name", "type": "string", "required": true }] } } },
    });
    let out = read(spec.to_string().as_bytes());
    let (put, post) = (fields(&out[0]), fields(&out[1]));
    assert_eq!(post["url"], "https://a.example/v2/pets");
    assert_eq!(post["auth"][0]["text"], "HTTP basic authentication");
    assert_eq!(post["parameters"][0]["limits"], "at most 9");
    let rows = json!([{ "type": "string", "name": "name", "depth": 0 }]);
    assert_eq!((&post["body"]["rows"], &post["responses"][0]["repeated"]), (&rows, &json!(true)));
    assert_eq!(post["responses"][0]["example"], json!({ "name": "Rex" }));
    assert_eq!(put["body"]["types"], json!(["application/x-www-form-urlencoded"]));
    assert_eq!(put["body"]["rows"][0]["required"], true);
}

#[test]
fn webhooks_are_operations_too() {
    let spec = json!({ "openapi": "3.1.0", "webhooks": { "paid": { "post": { "summary": "Somebody paid" } } } });
    let fields = only(&spec);
    assert_eq!(
        (&fields["webhook"], &fields["heading"], fields.get("url")),
        (&json!(true), &json!("Somebody paid"), None)
    );
}

#[test]
fn as_many_operations_are_read_as_python_counts() {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let (Some(folder), true) = (data("agent/openapi"), python.exists()) else {
        crate::skipped("as_many_operations_are_read_as_python_counts", "no shared data, or no .venv");
        return;
    };
    let script = r#"
import json, pathlib, sys, yaml
methods = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
for path in sorted(pathlib.Path(sys.argv[1]).rglob("*.*")):
    spec = yaml.load(path.read_text(), yaml.CSafeLoader) if path.suffix == ".yaml" else json.loads(path.read_text())
    items = [item for part in ("paths", "webhooks") for item in spec.get(part, {}).values()]
    print(path, sum(method in methods for item in items for method in item))
"#;
    let output = std::process::Command::new(python).args(["-c", script]).arg(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut all = 0;
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        let (path, count) = line.rsplit_once(' ').unwrap();
        let out = read(&fs_err::read(path).unwrap());
        let bad: Vec<_> = out.iter().filter_map(|read| read.as_ref().err()).collect();
        assert!(bad.is_empty(), "{bad:?}");
        assert_eq!(out.len(), count.parse::<usize>().unwrap(), "{path}");
        all += out.len();
    }
    assert!(all > 500, "{all}");
}

/// JSON with the keys that the reader looks for, anywhere.
fn hostile() -> impl Strategy<Value = Value> {
    let key = prop::sample::select(vec![
        "$ref",
        "paths",
        "/x",
        "get",
        "post",
        "parameters",
        "name",
        "in",
        "schema",
        "type",
        "items",
        "properties",
        "allOf",
        "oneOf",
        "anyOf",
        "enum",
        "default",
        "example",
        "examples",
        "content",
        "application/json",
        "requestBody",
        "responses",
        "200",
        "security",
        "servers",
        "url",
        "variables",
        "components",
        "schemas",
        "securitySchemes",
        "required",
        "tags",
        "summary",
        "x-oaiMeta",
        "description",
        "swagger",
        "openapi",
        "definitions",
        "additionalProperties",
        "minimum",
        "format",
        "const",
        "webhooks",
        "host",
        "consumes",
        "produces",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        "\\PC{0,8}".prop_map(Value::from),
        prop::sample::select(vec![
            "#",
            "#/",
            "#/paths/~1x/get",
            "#/components/schemas/a",
            "3.1.0",
            "2.0",
            "object",
            "array",
            "body",
            "formData",
            "<b>é"
        ])
        .prop_map(Value::from),
    ];
    leaf.prop_recursive(8, 120, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::Array),
            prop::collection::vec((key.clone(), inner), 0..8)
                .prop_map(|pairs| pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

/// Every value inside a value that holds no other.
fn nodes(value: &mut Value) -> Vec<&mut Value> {
    let bare = match &*value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => true,
    };
    match value {
        value if bare => vec![value],
        Value::Array(items) => items.iter_mut().flat_map(nodes).collect(),
        Value::Object(map) => map.values_mut().flat_map(nodes).collect(),
        _ => Vec::new(),
    }
}

proptest! {
    #[test]
    fn no_specification_makes_the_reader_panic(value in hostile(), item in hostile(), schema in hostile(), old in any::<bool>()) {
        let mut spec = value;
        if let Some(map) = spec.as_object_mut() {
            map.insert(if old { "swagger" } else { "openapi" }.to_owned(), if old { "2.0" } else { "3.1.0" }.into());
            map.insert("paths".to_owned(), json!({ "/x": item, "/y": { "get": item, "post": { "responses": { "200": { "schema": schema, "content": { "a": { "schema": schema } } } } } } }));
        }
        let renderer = crate::render::Renderer::plain();
        for document in read(spec.to_string().as_bytes()).into_iter().flatten() {
            prop_assert!(renderer.render(&document).is_ok());
        }
    }

    #[test]
    fn no_change_to_a_specification_makes_the_reader_panic(changes in prop::collection::vec((any::<usize>(), hostile()), 1..5)) {
        let properties = json!({ "id": { "type": "integer", "minimum": 1, "example": 3 }, "next": { "$ref": "#/components/schemas/Pet" } });
        let mut spec = answering("3.1.0", &json!({ "$ref": "#/components/schemas/Pet" }), &json!({ "Pet": { "type": "object", "properties": properties, "required": ["id"] } }));
        spec["paths"]["/x"]["post"] = json!({
            "operationId": "addPet", "parameters": [{ "name": "q", "in": "query", "schema": { "enum": ["a"] } }], "security": [{ "key": ["scope"] }],
            "requestBody": { "content": { "application/json": { "schema": { "$ref": "#/components/schemas/Pet" }, "example": { "id": 1 } } } },
            "x-oaiMeta": { "examples": [{ "title": "t", "request": { "curl": "curl" }, "response": "{}" }] },
        });
        for (at, value) in changes {
            let mut nodes = nodes(&mut spec);
            let count = nodes.len();
            if let Some(node) = nodes.get_mut(at % count.max(1)) {
                **node = value;
            }
        }
        let renderer = crate::render::Renderer::plain();
        for document in read(spec.to_string().as_bytes()).into_iter().flatten() {
            prop_assert!(renderer.render(&document).is_ok());
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[a-z:*&!<{}\\[\\],\\n -]{0,80}") {
        read(&bytes);
        read(text.as_bytes());
    }
}
