//! Equal and nearly equal documents.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which equal and nearly equal documents are left out. Of those that are alike the first stays, in the order of sources,
/// inputs and files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Leave out documents whose text came before, byte for byte.
    pub exact: bool,
    /// Leave out documents that share a band of MinHash values with one before (Broder 1997; bands as in FineWeb, arXiv
    /// 2406.17557).
    pub near: bool,
    /// Words in a shingle.
    #[schemars(range(min = 1, max = 64))]
    pub words: u32,
    /// Bands.
    #[schemars(range(min = 1, max = 256))]
    pub bands: u32,
    /// MinHash values in a band: two documents of similarity s share one of b bands of r rows with probability
    /// 1 - (1 - s^r)^b.
    #[schemars(range(min = 1, max = 64))]
    pub rows: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { exact: true, near: true, words: 5, bands: 14, rows: 8 }
    }
}
