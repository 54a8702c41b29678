use serde_json::json;

use super::*;
use crate::document::RecordKind;
use crate::readers::{Kind, functions, openapi, records};
use crate::recipe::Input;

#[test]
fn show() {
    let data = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let which = std::env::var("SHOW").unwrap_or_default();
    let parts: Vec<&str> = which.split(' ').collect();
    let [file, kind, from, step, count, phrasing] = parts.as_slice() else { return };
    let bytes = fs_err::read(data.join(file)).unwrap();
    let mut input = Input::new(Kind::Openapi, &[]);
    for (name, places) in [
        ("name", "api_name"), ("call", "api_call"), ("version", "api_version"), ("arguments", "api_arguments supported_params"),
        ("functionality", "functionality"), ("requirements", "env_requirements python_environment_requirements"), ("example", "example_code curl_command"),
        ("description", "description /meta_data/description /metadata/description"), ("documentation", "/meta_data/documentation_link /metadata/documentation_link"),
        ("performance", "performance /meta_data/performance"), ("questions", "questions Questions"), ("domain", "domain"), ("provider", "framework"),
        ("roles", "required_roles roles_required role_required"),
    ] {
        input.fields.insert(name.to_owned(), places.split(' ').map(ToOwned::to_owned).collect());
    }
    let mut out = Vec::new();
    let started = std::time::Instant::now();
    match *kind {
        "o" => openapi::documents(file, &bytes, &input, &mut out),
        "f" => for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            functions::documents(file, serde_json::from_slice(line).unwrap(), &input, &mut out);
        },
        "l" => for line in bytes.split(|b| *b == b'\n').filter(|l| !l.is_empty()) {
            out.push(records::document(file, serde_json::from_slice(line).unwrap(), &input));
        },
        _ => for item in serde_json::from_slice::<Vec<serde_json::Value>>(&bytes).unwrap() {
            out.push(records::document(file, item, &input));
        },
    }
    eprintln!("read {} in {:?}", out.len(), started.elapsed());
    for bad in out.iter().filter_map(|read| read.as_ref().err()) {
        eprintln!("BAD {bad}");
    }
    let templates = Templates::built_in();
    let started = std::time::Instant::now();
    let mut size = 0;
    let renderer = Renderer::plain();
    for document in out.iter().flatten() {
        size += renderer.render(document).unwrap().text.len();
    }
    eprintln!("rendered {size} bytes in {:?}", started.elapsed());
    for document in out.iter().flatten().skip(from.parse().unwrap()).step_by(step.parse().unwrap()).take(count.parse().unwrap()) {
        let Content::Record { kind, fields } = &document.content else { continue };
        for name in templates.names[kind].iter().filter(|name| phrasing.contains(name.split('.').next().unwrap()) || *phrasing == "all") {
            eprintln!("=============== {} {:?} {name}", document.origin, document.facts);
            eprintln!("{}", templates.render_by(name, *kind, fields).unwrap());
        }
    }
    let _ = (json!(1), RecordKind::Api);
}
