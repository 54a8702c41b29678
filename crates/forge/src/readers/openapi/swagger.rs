//! Swagger 2.0 brought up to the shape of OpenAPI 3.0, as far as records need it.

use serde_json::{Map, Value, json};

/// Most nodes that references to shared parameters and responses may add.
const COPIES: usize = 2_000_000;

/// The same specification with request bodies, schemas of parameters, contents of responses, servers and security schemes
/// where OpenAPI 3.0 has them. References to schemas stay, as `definitions` stays.
pub(super) fn upgraded(mut root: Value) -> Value {
    let mut left = COPIES;
    let shared = Shared { parameters: root.get("parameters").cloned(), responses: root.get("responses").cloned() };
    let (consumes, produces) = (root.get("consumes").cloned(), root.get("produces").cloned());
    if let Some(paths) = root.get_mut("paths").and_then(Value::as_object_mut) {
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            let of_path = item.remove("parameters");
            for operation in super::METHODS {
                let Some(operation) = item.get_mut(*operation).and_then(Value::as_object_mut) else { continue };
                let consumes = operation.get("consumes").or(consumes.as_ref()).cloned();
                let produces = operation.get("produces").or(produces.as_ref()).cloned();
                shared.parameters(operation, of_path.as_ref(), consumes.as_ref(), &mut left);
                shared.responses(operation, produces.as_ref(), &mut left);
            }
        }
    }
    let servers = servers(&root);
    let schemes = root.get("securityDefinitions").and_then(Value::as_object).cloned().unwrap_or_default();
    if let Some(map) = root.as_object_mut() {
        map.insert("servers".to_owned(), servers);
        let schemes: Map<String, Value> = schemes.into_iter().map(|(name, scheme)| (name, security(scheme))).collect();
        map.insert("components".to_owned(), json!({ "securitySchemes": schemes }));
        // References have no siblings before 3.1.
        map.insert("openapi".to_owned(), "3.0.0".into());
    }
    root
}

fn servers(root: &Value) -> Value {
    let text = |key: &str| root.get(key).and_then(Value::as_str).unwrap_or_default();
    let schemes = root.get("schemes").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let scheme = schemes.fold("", |best, scheme| if best.is_empty() || scheme == "https" { scheme } else { best });
    let scheme = if scheme.is_empty() { "https" } else { scheme };
    let base = text("basePath").trim_end_matches('/');
    match text("host") {
        "" => json!([{ "url": base }]),
        host => json!([{ "url": format!("{scheme}://{host}{base}") }]),
    }
}

fn security(scheme: Value) -> Value {
    if scheme.get("type").and_then(Value::as_str) == Some("basic") {
        return json!({ "type": "http", "scheme": "basic" });
    }
    scheme
}

/// Parameters and responses that operations refer to.
struct Shared {
    parameters: Option<Value>,
    responses: Option<Value>,
}

impl Shared {
    /// What a reference to a shared part stands for, while there is room; whatever else stays as it is.
    fn copy(&self, value: &Value, left: &mut usize) -> Value {
        let reference = value.get("$ref").and_then(Value::as_str).unwrap_or_default();
        let find = |prefix: &str, all: &Option<Value>| {
            all.as_ref()?.pointer(reference.strip_prefix(prefix).filter(|rest| rest.starts_with('/'))?).cloned()
        };
        let found = find("#/parameters", &self.parameters).or_else(|| find("#/responses", &self.responses));
        match found.filter(|_| !reference.is_empty()) {
            Some(found) => {
                let nodes = nodes(&found);
                match left.checked_sub(nodes) {
                    Some(rest) => {
                        *left = rest;
                        found
                    }
                    None => value.clone(),
                }
            }
            None => value.clone(),
        }
    }

    fn parameters(
        &self,
        operation: &mut Map<String, Value>,
        of_path: Option<&Value>,
        consumes: Option<&Value>,
        left: &mut usize,
    ) {
        let own = operation.get("parameters");
        if own.is_some_and(|own| !own.is_array()) {
            return;
        }
        let lists = [of_path, own].into_iter().flatten().filter_map(Value::as_array);
        let (mut kept, mut form, mut required) = (Vec::new(), Map::new(), Vec::new());
        let mut body = None;
        for parameter in lists.flatten() {
            let parameter = self.copy(parameter, left);
            let name = parameter.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            let needed = parameter.get("required") == Some(&Value::Bool(true));
            match parameter.get("in").and_then(Value::as_str) {
                Some("body") => {
                    let mut content =
                        json!({ "required": needed, "content": media(consumes, parameter.get("schema"), None) });
                    if let Some(text) = parameter.get("description") {
                        content["description"] = text.clone();
                    }
                    body = Some(content);
                }
                Some("formData") => {
                    if needed {
                        required.push(Value::String(name.clone()));
                    }
                    form.insert(name, schema(parameter));
                }
                Some(_) => {
                    let mut outer = Map::new();
                    for key in ["name", "in", "description", "required"] {
                        outer.extend(parameter.get(key).map(|value| (key.to_owned(), value.clone())));
                    }
                    outer.insert("schema".to_owned(), schema(parameter));
                    kept.push(Value::Object(outer));
                }
                None => kept.push(parameter),
            }
        }
        if !form.is_empty() {
            let is_form = |name: &&Value| name.as_str().is_some_and(|name| name.contains("form"));
            let types = consumes.and_then(Value::as_array).into_iter().flatten().find(is_form).cloned();
            let types = json!([types.unwrap_or_else(|| "application/x-www-form-urlencoded".into())]);
            let schema = json!({ "type": "object", "properties": form, "required": required });
            body.get_or_insert_with(|| json!({ "content": media(Some(&types), Some(&schema), None) }));
        }
        operation.insert("parameters".to_owned(), Value::Array(kept));
        operation.extend(body.map(|body| ("requestBody".to_owned(), body)));
    }

    fn responses(&self, operation: &mut Map<String, Value>, produces: Option<&Value>, left: &mut usize) {
        let Some(responses) = operation.get_mut("responses").and_then(Value::as_object_mut) else { return };
        for response in responses.values_mut() {
            *response = self.copy(response, left);
            let Some(map) = response.as_object_mut() else { continue };
            let (schema, examples) = (map.remove("schema"), map.remove("examples"));
            if schema.is_some() || examples.is_some() {
                map.insert("content".to_owned(), media(produces, schema.as_ref(), examples.as_ref()));
            }
        }
    }
}

/// A parameter's own keys are its schema.
fn schema(mut parameter: Value) -> Value {
    if let Some(map) = parameter.as_object_mut() {
        for key in ["name", "in", "required"] {
            map.remove(key);
        }
        if let Some(example) = map.remove("x-example") {
            map.insert("example".to_owned(), example);
        }
    }
    parameter
}

/// The first content types, each with the schema: it is their only one.
fn media(types: Option<&Value>, schema: Option<&Value>, examples: Option<&Value>) -> Value {
    let names = types.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).take(4);
    let mut names: Vec<&str> = names.collect();
    if names.is_empty() {
        names.push("application/json");
    }
    let media = |name: &str| {
        let mut media = Map::new();
        media.extend(schema.map(|schema| ("schema".to_owned(), schema.clone())));
        media.extend(examples.and_then(|all| all.get(name)).map(|example| ("example".to_owned(), example.clone())));
        Value::Object(media)
    };
    names.iter().map(|name| ((*name).to_owned(), media(name))).collect::<Map<_, _>>().into()
}

fn nodes(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(nodes).sum::<usize>(),
        Value::Object(map) => 1 + map.values().map(nodes).sum::<usize>(),
        Value::String(text) => 1 + text.len() / 16,
        _ => 1,
    }
}
