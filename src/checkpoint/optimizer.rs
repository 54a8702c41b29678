//! The optimizer's state in files: each rank writes its share into one of its own, and any ranks read any of it back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::{TchError, Tensor};

use super::{CheckpointError, OPTIMIZER};
use crate::hf::stored::piece_name;
use crate::optim::slice::Slice;

/// The name of the file of one of `writers`, counted from 0: `optimizer.safetensors`, or `optimizer-00002-of-00008.safetensors`.
#[must_use]
pub fn file_name(writer: usize, writers: usize) -> String {
    match writers {
        1 => OPTIMIZER.to_owned(),
        _ => format!("optimizer-{:05}-of-{writers:05}.safetensors", writer + 1),
    }
}

/// The files of the optimizer in the checkpoint `folder`, in order.
///
/// # Errors
/// [`CheckpointError::Damaged`] where there are none, some of them are missing, or some are of another set.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let damaged = |reason: String| Err(CheckpointError::Damaged { file: folder.to_owned(), reason });
    // Their numbers, from 0, by how many there are to be.
    let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for entry in fs_err::read_dir(folder)? {
        if let Some((writer, writers)) = entry?.file_name().to_str().and_then(numbers) {
            sets.entry(writers).or_default().push(writer);
        }
    }
    let (&writers, found) = match (sets.first_key_value(), sets.len()) {
        (None, _) => return damaged(format!("no {OPTIMIZER} here")),
        (Some(set), 1) => set,
        _ => {
            let sets: Vec<_> = sets.keys().map(|writers| format!("of {writers}")).collect();
            return damaged(format!("optimizer files of several sets: {}", sets.join(", ")));
        }
    };
    if found.len() < writers {
        let missing = (0..writers).filter(|writer| !found.contains(writer));
        let missing: Vec<_> = missing.take(8).map(|writer| file_name(writer, writers)).collect();
        return damaged(format!("{} of {writers} optimizer files here; missing: {}", found.len(), missing.join(", ")));
    }
    Ok((0..writers).map(|writer| folder.join(file_name(writer, writers))).collect())
}

/// Which file of how many a name is of.
fn numbers(name: &str) -> Option<(usize, usize)> {
    if name == OPTIMIZER {
        return Some((0, 1));
    }
    let (number, writers) = name.strip_prefix("optimizer-")?.strip_suffix(".safetensors")?.split_once("-of-")?;
    let (writer, writers) = (number.parse::<usize>().ok()?.checked_sub(1)?, writers.parse().ok()?);
    (writer < writers && file_name(writer, writers) == name).then_some((writer, writers))
}

/// What one of several ranks that hold the same `slices` writes of them, by the names it is stored under: an equal share of
/// all elements, and whatever is a scalar, which every rank has, if it is the `first` of all.
pub(super) fn share(
    slices: &[Slice],
    first: bool,
    (index, count): (usize, usize),
) -> Result<Vec<(String, Tensor)>, TchError> {
    let divided = || slices.iter().filter(|slice| !slice.shape.is_empty());
    let scalars = slices.iter().filter(|slice| slice.shape.is_empty() && first);
    let mut stored: Vec<_> = scalars.map(|slice| (slice.name.clone(), slice.tensor.shallow_clone())).collect();
    let total: i64 = divided().map(|slice| slice.tensor.numel() as i64).sum();
    let cut = |at: usize| (i128::from(total) * at as i128 / count.max(1) as i128) as i64;
    let (start, end) = (cut(index), cut(index + 1));
    let mut before = 0;
    for slice in divided() {
        let elements = slice.tensor.numel() as i64;
        let (from, to) = ((start - before).clamp(0, elements), (end - before).clamp(0, elements));
        before += elements;
        if from == to {
            continue;
        }
        if slice.is_whole() && to - from == elements {
            stored.push((slice.name.clone(), slice.tensor.f_reshape(&slice.shape)?));
            continue;
        }
        let name = piece_name(&slice.name, &(slice.from + from..slice.from + to), &slice.shape);
        stored.push((name, slice.tensor.f_reshape([-1_i64])?.f_narrow(0, from, to - from)?));
    }
    Ok(stored)
}
