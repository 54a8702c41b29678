//! Which documents go, from the signatures of all of them: what [`super::SQL`] says, in bounded memory.
//!
//! Rows are spilled by a hash of their band and value; each partition is sorted, so that the documents of a bucket lie
//! together, the least first; what that finds is spilled by document, sorted again and written. Then `kept` is followed
//! to each cluster's root by doubling: as often as the longest chain can be halved, every document takes its target's
//! target, a sort and a merge each time.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::iter::{IntoParallelIterator, ParallelIterator};
use serde::{Deserialize, Serialize};

use super::DuplicatesError;
use super::signatures::{self, Chunk};
use super::spill::{Found, Limits, Pair, Partitions, Reader, Row, Writer, sorted, write};
use super::table::{TableWriter, Values};

const SCHEMA: &str = "message duplicates {
    REQUIRED INT64 id;
    REQUIRED INT64 kept;
    REQUIRED BOOLEAN exact;
}";
/// Rows of a row group of the result.
const GROUP: usize = 1 << 16;
/// Bytes that a reader of one file holds.
const READ: usize = 256 << 10;
/// Largest clusters that a summary names.
const LARGEST: usize = 20;

/// What a grouping found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// Documents that have a signature: all, except that without `exact` texts shorter than a shingle have none.
    pub documents: u64,
    /// Documents left out whose text came before, byte for byte.
    pub exact: u64,
    /// Documents left out that are only like one before.
    pub near: u64,
    /// Documents that stay and stand for others.
    pub clusters: u64,
    /// Clusters by size, their root counted.
    pub sizes: BTreeMap<u64, u64>,
    /// The largest clusters, largest first; of equal size the earlier.
    pub largest: Vec<Cluster>,
}

/// A document that stays, and those that went for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The document that stays.
    pub root: i64,
    /// Documents, the root among them.
    pub size: u64,
}

/// Groups the documents of `signatures` and writes a row (`id`, `kept`, `exact`) for each that goes to the Parquet file
/// `output`, by ascending `id`; the order of the files and the number of threads do not change a byte of it.
///
/// Works in the folder `grouping` in `scratch`, which is cleared before and after: killed, it begins again. Needs 28 bytes
/// of disk there for each row of the signatures. `memory` is in bytes and divided among rayon's threads; less than 16 MiB
/// a thread is taken as that.
///
/// # Errors
/// A file cannot be read or written, or is no signature file.
pub fn group(signatures: &[PathBuf], scratch: &Path, output: &Path, memory: u64) -> Result<Summary, DuplicatesError> {
    grouped(signatures, scratch, output, &Limits::new(memory, rayon::current_num_threads()))
}

/// The same with memory divided as `limits` say.
pub(super) fn grouped(
    files: &[PathBuf],
    scratch: &Path,
    output: &Path,
    limits: &Limits,
) -> Result<Summary, DuplicatesError> {
    let folder = scratch.join("grouping");
    if folder.exists() {
        fs_err::remove_dir_all(&folder)?;
    }
    fs_err::create_dir_all(&folder)?;
    let chunks = signatures::chunks(files)?;
    let rows: u64 = chunks.iter().fold(0, |rows, chunk| rows.saturating_add(chunk.rows));
    // A quarter more than would fit, as partitions are not equal.
    let needed = rows.saturating_mul(size_of::<Row>() as u64).saturating_mul(5) / 4 / limits.chunk.max(1) as u64;
    let partitions = usize::try_from(needed).unwrap_or(usize::MAX).saturating_add(1);
    let partitions = partitions.max(limits.threads).min(limits.partitions).max(1);

    let (documents, spilled) = spill(files, &chunks, &folder, partitions, limits)?;
    let found = find(&spilled, &cuts(&chunks, rows, partitions), &folder, limits)?;
    let reduced = reduce(&found, limits)?;
    let links = folder.join("links");
    let mut summary = finish(&reduced, output, &links)?;
    summary.documents = documents;
    clusters(&links, &mut summary, limits)?;
    fs_err::remove_dir_all(&folder)?;
    Ok(summary)
}

/// Calls `work` on every number below `count`, on as many threads as the limits say; each has a state of its own.
fn share<S: Send>(
    limits: &Limits,
    count: usize,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<(), DuplicatesError> + Sync,
    end: impl Fn(S) -> Result<(), DuplicatesError> + Sync,
) -> Result<(), DuplicatesError> {
    let next = AtomicUsize::new(0);
    (0..limits.threads).into_par_iter().try_for_each(|_| {
        let mut own = state();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return end(own);
            }
            work(&mut own, at)?;
        }
    })
}

/// Rows into partitions by band and hash; counts documents on the way.
fn spill(
    files: &[PathBuf],
    chunks: &[Chunk],
    folder: &Path,
    count: usize,
    limits: &Limits,
) -> Result<(u64, Vec<PathBuf>), DuplicatesError> {
    let partitions = Partitions::<Row>::create(folder, "rows", count)?;
    let documents = AtomicUsize::new(0);
    share(
        limits,
        chunks.len(),
        || partitions.appender(limits),
        |appender, at| {
            let (mut last, mut seen) = (None, 0);
            signatures::rows(&files[chunks[at].file], chunks[at].group, &mut |row| {
                seen += usize::from(last.replace(row.id) != Some(row.id));
                Ok(appender.push(bucket(&row, count), &row)?)
            })?;
            documents.fetch_add(seen, Ordering::Relaxed);
            Ok(())
        },
        |appender| Ok(appender.finish()?),
    )?;
    Ok((documents.into_inner() as u64, partitions.finish()))
}

/// The partition of a band's value.
fn bucket(row: &Row, count: usize) -> usize {
    let mixed = (row.high ^ row.low.rotate_left(32) ^ i64::from(row.band)).cast_unsigned();
    let mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((mixed * count as u64) >> 32) as usize
}

/// Documents at which the partitions of the result begin, so that each has about as many rows.
fn cuts(chunks: &[Chunk], rows: u64, count: usize) -> Vec<i64> {
    let mut begins: Vec<_> = chunks.iter().filter_map(|chunk| Some((chunk.least?, chunk.rows))).collect();
    begins.sort_unstable();
    let each = (rows / count as u64).max(1);
    let (mut cuts, mut here) = (Vec::new(), 0_u64);
    for (least, rows) in begins {
        if here >= each && cuts.len() + 1 < count && cuts.last() != Some(&least) {
            cuts.push(least);
            here = 0;
        }
        here = here.saturating_add(rows);
    }
    cuts
}

/// The documents of each bucket but its first, into partitions by document.
fn find(spilled: &[PathBuf], cuts: &[i64], folder: &Path, limits: &Limits) -> Result<Vec<PathBuf>, DuplicatesError> {
    let partitions = Partitions::<Found>::create(folder, "found", cuts.len() + 1)?;
    share(
        limits,
        spilled.len(),
        || partitions.appender(limits),
        |appender, at| {
            let mut first: Option<Row> = None;
            for row in sorted::<Row>(&spilled[at], limits)? {
                let row = row?;
                match first {
                    Some(first) if (first.band, first.high, first.low) == (row.band, row.high, row.low) => {
                        if first.id < row.id {
                            let found = Found { id: row.id, kept: first.id, exact: row.band == 0 };
                            appender.push(cuts.partition_point(|cut| *cut <= row.id), &found)?;
                        }
                    }
                    _ => first = Some(row),
                }
            }
            Ok(())
        },
        |appender| Ok(appender.finish()?),
    )?;
    Ok(partitions.finish())
}

/// One row a document, in order, in each partition.
fn reduce(found: &[PathBuf], limits: &Limits) -> Result<Vec<PathBuf>, DuplicatesError> {
    let reduced: Vec<_> = found.iter().map(|path| path.with_extension("reduced")).collect();
    share(
        limits,
        found.len(),
        || (),
        |(), at| {
            let mut writer = Writer::create(&reduced[at])?;
            let mut held: Option<Found> = None;
            for next in sorted::<Found>(&found[at], limits)? {
                let next = next?;
                match &mut held {
                    // The first has the least kept.
                    Some(held) if held.id == next.id => held.exact |= next.exact,
                    _ => {
                        if let Some(done) = held.replace(next) {
                            writer.push(&done)?;
                        }
                    }
                }
            }
            if let Some(done) = held {
                writer.push(&done)?;
            }
            Ok(writer.finish()?)
        },
        |()| Ok(()),
    )?;
    Ok(reduced)
}

/// Writes the result, and the same as pairs of a document and its target.
fn finish(reduced: &[PathBuf], output: &Path, links: &Path) -> Result<Summary, DuplicatesError> {
    let mut summary = Summary::default();
    let mut table = TableWriter::create(output, SCHEMA, &[])?;
    let mut writer = Writer::create(links)?;
    let (mut id, mut kept, mut exact) = (Vec::new(), Vec::new(), Vec::new());
    let mut flush = |id: &mut Vec<i64>, kept: &mut Vec<i64>, exact: &mut Vec<bool>| {
        table.row_group(&[Values::Int64(id), Values::Int64(kept), Values::Bool(exact)])?;
        id.clear();
        kept.clear();
        exact.clear();
        Ok::<_, DuplicatesError>(())
    };
    for path in reduced {
        for found in Reader::<Found>::open(path, READ)? {
            let found = found?;
            summary.exact += u64::from(found.exact);
            summary.near += u64::from(!found.exact);
            writer.push(&Pair(found.id, found.kept))?;
            id.push(found.id);
            kept.push(found.kept);
            exact.push(found.exact);
            if id.len() == GROUP {
                flush(&mut id, &mut kept, &mut exact)?;
            }
        }
        fs_err::remove_file(path)?;
    }
    if !id.is_empty() {
        flush(&mut id, &mut kept, &mut exact)?;
    }
    table.finish()?;
    writer.finish()?;
    Ok(summary)
}

/// Follows every document's target to the cluster's root, and counts. `links` holds pairs of a document and its target by
/// ascending document; a target is before its document, so every chain ends.
fn clusters(links: &Path, summary: &mut Summary, limits: &Limits) -> Result<(), DuplicatesError> {
    loop {
        let swapped = links.with_extension("swapped");
        write(&swapped, Reader::<Pair>::open(links, READ)?.map(|pair| pair.map(|Pair(id, target)| Pair(target, id))))?;
        let mut targets = Reader::<Pair>::open(links, READ)?.peekable();
        let (next, mut moved) = (links.with_extension("next"), false);
        let mut writer = Writer::create(&next)?;
        let mut tally = Tally::default();
        for pair in sorted::<Pair>(&swapped, limits)? {
            let Pair(target, id) = pair?;
            while targets.next_if(|of| matches!(of, Ok(Pair(before, _)) if *before < target)).is_some() {}
            let further = match targets.peek() {
                Some(Ok(Pair(same, further))) if *same == target => *further,
                Some(Ok(_)) | None => target,
                Some(Err(_)) => {
                    // Taken out, so that it can be handed on.
                    targets.next().transpose()?;
                    continue;
                }
            };
            moved |= further != target;
            tally.member(target, summary);
            writer.push(&Pair(id, further))?;
        }
        writer.finish()?;
        drop(targets);
        if !moved {
            tally.end(summary);
            return Ok(());
        }
        (summary.clusters, summary.sizes, summary.largest) = Default::default();
        write(links, sorted::<Pair>(&next, limits)?)?;
    }
}

/// Counts the members of one cluster after the other.
#[derive(Default)]
struct Tally {
    cluster: Option<Cluster>,
}

impl Tally {
    fn member(&mut self, root: i64, summary: &mut Summary) {
        match &mut self.cluster {
            Some(cluster) if cluster.root == root => cluster.size += 1,
            _ => {
                self.end(summary);
                self.cluster = Some(Cluster { root, size: 2 });
            }
        }
    }

    fn end(&mut self, summary: &mut Summary) {
        let Some(cluster) = self.cluster.take() else { return };
        summary.clusters += 1;
        *summary.sizes.entry(cluster.size).or_default() += 1;
        let at = summary.largest.partition_point(|other| other.size >= cluster.size);
        summary.largest.insert(at, cluster);
        summary.largest.truncate(LARGEST);
    }
}
