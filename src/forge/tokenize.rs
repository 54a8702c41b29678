//! Documents to a token corpus: units in bounded chunks.
use super::readers::{BadRecord, Unit};
const CHUNK_UNITS: usize = 1 << 14;
/// The next units, up to `bytes` of input together (always one at least).
pub(super) fn chunk(
    units: &mut dyn Iterator<Item = Result<Unit, BadRecord>>,
    bytes: u64,
) -> Vec<Result<Unit, BadRecord>> {
    let mut taken = Vec::new();
    let mut size = 0;
    while size < bytes && taken.len() < CHUNK_UNITS {
        let Some(unit) = units.next() else { break };
        size += unit.as_ref().map_or(0, Unit::bytes);
        taken.push(unit);
    }
    taken
}
