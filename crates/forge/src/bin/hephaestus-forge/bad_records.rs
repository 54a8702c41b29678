//! Bad records as they are met: the first are named on stderr, the rest counted.

use hephaestus_core::figures::thousands;
use hephaestus_forge::readers::BadRecord;

/// Bad records named one by one.
const NAMED: u64 = 20;

/// Names the first bad records on stderr and counts the rest.
#[derive(Default)]
pub(crate) struct BadRecords {
    count: u64,
}

impl BadRecords {
    pub(crate) fn report(&mut self, record: &BadRecord) {
        self.count += 1;
        if self.count <= NAMED {
            eprintln!("bad record: {record}");
        }
    }

    pub(crate) fn close(&self) {
        if self.count > NAMED {
            eprintln!("bad record: and {} more", thousands(self.count - NAMED));
        }
        if self.count > 0 {
            eprintln!("skipped {} bad records (--strict stops at the first)", thousands(self.count));
        }
    }
}
