//! OpenAPI documents, JSON or YAML: nothing panics, whatever refers to whatever.

#![no_main]

use hephaestus_forge::readers::{Kind, openapi};
use hephaestus_forge::recipe::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut out = Vec::new();
    openapi::documents("f", data, &Input::new(Kind::Openapi, &[]), &mut out);
});
