use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::readers::Kind;

fn read(value: Value) -> Vec<Read> {
    let mut out = Vec::new();
    documents("tools.json", value, &Input::new(Kind::Functions, &[]), &mut out);
    out
}

fn fields(read: &Read) -> &Map<String, Value> {
    match &read.as_ref().unwrap().content {
        Content::Record { kind: RecordKind::Function, fields } => fields,
        other => panic!("{other:?}"),
    }
}

fn signatures(value: Value) -> Vec<String> {
    let text = |read: &Read| match read {
        Ok(_) => fields(read)["signature"].as_str().unwrap().to_owned(),
        Err(bad) => bad.to_string(),
    };
    read(value).iter().map(text).collect()
}

fn schema() -> Value {
    json!({ "type": "object", "properties": { "a": { "type": "string" }, "b": { "type": "integer", "default": 3 } }, "required": ["a"] })
}

#[test]
fn every_form_of_a_list_of_functions_is_understood() {
    let bare = json!({ "name": "f", "description": "Does.", "parameters": schema() });
    let tool = json!({ "type": "function", "function": bare });
    let mcp = json!({ "name": "f", "inputSchema": schema() });
    let pydantic = json!({ "title": "f", "type": "object", "properties": schema()["properties"], "required": ["a"] });
    let flat = json!({ "name": "f", "parameters": { "a": { "type": "str" }, "b": { "type": "int, optional", "default": 3 } } });
    let text = json!({ "name": "f", "parameters": schema().to_string() });
    for value in [
        bare.clone(),
        json!([bare]),
        tool.clone(),
        json!([tool]),
        json!({ "tools": [tool] }),
        json!({ "functions": [bare] }),
        json!({ "id": "simple_0", "question": [], "function": [bare] }),
        json!({ "tools": [mcp] }),
        json!({ "jsonrpc": "2.0", "id": 1, "result": { "tools": [mcp] } }),
        pydantic,
        flat,
        text,
    ] {
        assert_eq!(signatures(value.clone()), ["f(a: string, b: integer = 3)"], "{value}");
    }
}

#[test]
fn a_function_is_read_with_what_it_takes_and_returns() {
    let value = json!({ "tools": [{
        "name": "search", "title": "Search", "description": "Finds <i>things</i>.", "annotations": { "readOnlyHint": true },
        "inputSchema": { "type": "dict", "properties": { "where": { "type": "dict", "properties": { "city": { "type": "string", "enum": ["Rome", "Oslo"] } } } } },
        "outputSchema": { "type": "object", "properties": { "hits": { "type": "list", "items": { "type": "str" } } } },
    }] });
    let out = read(value);
    assert_eq!(out[0].as_ref().unwrap().origin, "tools.json#/tools/0");
    let expected = json!({
        "name": "search", "title": "Search", "description": "Finds *things*.", "signature": "search(where?: object)",
        "parameters": [
            { "type": "object", "name": "where", "depth": 0 },
            { "type": "string", "enum": ["Rome", "Oslo"], "name": "city", "depth": 1 },
        ],
        "returns_type": "object",
        "returns": [{ "type": "array of strings", "name": "hits", "depth": 0 }],
        "hints": ["changes nothing"],
        "schema": { "type": "dict", "properties": { "where": { "type": "dict", "properties": { "city": { "type": "string", "enum": ["Rome", "Oslo"] } } } } },
    });
    assert_eq!(Value::Object(fields(&out[0]).clone()), expected);
}

#[test]
fn what_is_no_function_is_named_and_the_others_are_read() {
    let good = json!({ "name": "f", "description": "Does." });
    let value = json!({ "tools": [1, good, { "id": 3 }, { "name": "g" }, { "name": "h", "parameters": "no" }, { "name": "i", "parameters": [1] }, {}] });
    insta::assert_snapshot!(signatures(value).join("\n"), @r"
    tools.json#/tools/0: no function: found a number, expected an object or a list
    f()
    tools.json#/tools/2: no function: found id; expected `name` and `parameters`, or a list under `tools`
    tools.json#/tools/3: g: it has neither a description nor parameters
    tools.json#/tools/4: h: its parameters are a text that is not JSON: expected ident at line 1 column 2
    tools.json#/tools/5: i: its parameters are no JSON Schema: expected an object
    tools.json#/tools/6: no function: found no key; expected `name` and `parameters`, or a list under `tools`
    ");
}

#[test]
fn every_function_of_the_leaderboard_is_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/bfcl");
    if !folder.exists() {
        crate::skipped("every_function_of_the_leaderboard_is_read", "no shared data");
        return;
    }
    for file in ["BFCL_v4_simple_python.json", "BFCL_v4_irrelevance.json"] {
        for line in fs_err::read_to_string(folder.join(file)).unwrap().lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            let functions = value["function"].as_array().unwrap().clone();
            let out = read(value);
            assert_eq!(out.len(), functions.len(), "{line}");
            for (document, function) in out.iter().zip(&functions) {
                assert_eq!(fields(document)["name"], function["name"]);
                let names = function["parameters"]["properties"].as_object().map_or(0, serde_json::Map::len);
                let rows = fields(document).get("parameters").and_then(Value::as_array).cloned().unwrap_or_default();
                assert_eq!(
                    rows.iter().filter(|row| row["depth"] == 0 && row.get("name").is_some()).count(),
                    names,
                    "{function}"
                );
            }
        }
    }
}

proptest! {
    #[test]
    fn no_value_makes_the_reader_panic(text in "\\PC{0,12}", number in any::<i64>(), at in 0_usize..12, depth in 0_usize..40) {
        const KEYS: [&str; 12] = ["tools", "function", "name", "parameters", "properties", "type", "items", "enum", "result", "default", "required", "outputSchema"];
        let mut value = json!({ "name": text, KEYS[at]: number, "description": text });
        for level in 0..depth {
            let key = KEYS[(at + level * 7) % 12];
            value = if level % 3 == 0 { json!([value, number]) } else { json!({ "name": text, key: value, "parameters": { key: value } }) };
            if value.to_string().len() > 100_000 { break; }
        }
        let renderer = crate::render::Renderer::plain();
        for document in read(value).into_iter().flatten() {
            prop_assert!(renderer.render(&document).is_ok());
        }
    }
}
