//! Parquet: whatever the file holds, reading it ends without a panic that reaches the caller.

#![no_main]

use std::path::PathBuf;

use hephaestus_forge::readers::{Kind, Reader};
use hephaestus_forge::recipe::Input;
use libfuzzer_sys::fuzz_target;

fuzz_target!(init: {
    // The library's own panics are caught by the reader; the fuzzer's hook would abort before that.
    std::panic::set_hook(Box::new(|_| {}));
}, |data: &[u8]| {
    let Ok(folder) = tempfile::tempdir() else { return };
    let path: PathBuf = folder.path().join("x.parquet");
    if std::fs::write(&path, data).is_err() {
        return;
    }
    let reader = Reader::new(Input { field: Some("doc.text".to_owned()), ..Input::new(Kind::Parquet, &[path]) });
    let Ok(listing) = reader.list() else { return };
    let slices = listing.slices();
    for unit in reader.units(&slices).take(10_000).flatten() {
        let _ = reader.documents(&unit);
    }
});
