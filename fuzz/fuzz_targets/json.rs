//! The JSON stream: nothing panics, nothing stalls, no record is larger than the limit, sound JSON is read as it is.

#![no_main]

use std::path::Path;

use hephaestus_forge::readers::json::{Records, parse};
use libfuzzer_sys::fuzz_target;

const LIMIT: u64 = 1 << 10;

fuzz_target!(|data: &[u8]| {
    for named_lines in [false, true] {
        let mut read = 0;
        for record in Records::new(data, LIMIT, named_lines) {
            read += 1;
            assert!(read <= data.len() + 2, "more records than bytes");
            if let Ok(raw) = record {
                assert!(raw.bytes.len() as u64 <= LIMIT + 512, "a record over the limit");
                let _ = parse(Path::new("f"), raw.position, &raw.bytes);
            }
        }
    }
});
