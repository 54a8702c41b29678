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

/// The files of the optimizer in the checkpoint `folder`, in order, of those in it that are `listed`: others do not count.
///
/// # Errors
/// [`CheckpointError::Damaged`] where there are none, some of them are missing, or some are of another set.
pub fn files<'a>(folder: &Path, listed: impl Iterator<Item = &'a String>) -> Result<Vec<PathBuf>, CheckpointError> {
    let damaged = |reason: String| Err(CheckpointError::Damaged { file: folder.to_owned(), reason });
    // Their numbers, from 0, by how many there are to be.
    let mut sets: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (writer, writers) in listed.filter_map(|name| numbers(name)) {
        sets.entry(writers).or_default().push(writer);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tch::{Device, Kind};

    use super::super::load;
    use super::*;
    use crate::hf::tensors::Unwritten;

    const SHAPES: [(&str, &[i64]); 4] =
        [("a.exp_avg", &[5, 7]), ("a.master", &[2, 3, 4]), ("b.exp_avg", &[13]), ("b.master", &[1])];
    const TOTAL: i64 = 35 + 24 + 13 + 1;

    /// The files of a folder without a manifest.
    fn all(folder: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
        let names = fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        files(folder, names.collect::<Vec<_>>().iter())
    }

    fn step() -> Slice {
        Slice::whole("step".to_owned(), Tensor::from(12_f32))
    }

    /// The whole state: each element is another number, all of which bf16 tells apart.
    fn state() -> Vec<Slice> {
        let mut first = 0;
        let slices = SHAPES.map(|(name, shape)| {
            let elements: i64 = shape.iter().product();
            let values = Tensor::arange_start(first, first + elements, (Kind::Float, Device::Cpu));
            first += elements;
            Slice::whole(name.to_owned(), values.reshape(shape))
        });
        std::iter::once(step()).chain(slices).collect()
    }

    /// What ranks hold of `state` where all its elements in a row are cut at `cuts`.
    fn ranks(state: &[Slice], cuts: &[i64]) -> Vec<Vec<Slice>> {
        let mut bounds: Vec<i64> = cuts.iter().copied().chain([0, TOTAL]).collect();
        bounds.sort_unstable();
        let hold = |bounds: &[i64]| {
            let mut before = 0;
            let mut slices = Vec::new();
            for Slice { name, shape, tensor, .. } in state {
                let elements = tensor.numel() as i64;
                if shape.is_empty() {
                    slices.push(Slice::whole(name.clone(), tensor.copy()));
                    continue;
                }
                let [from, to] = [bounds[0], bounds[1]].map(|bound| (bound - before).clamp(0, elements));
                before += elements;
                let tensor = tensor.reshape([-1]).narrow(0, from, to - from);
                let tensor = if to - from == elements { tensor.reshape(shape) } else { tensor };
                slices.push(Slice { name: name.clone(), shape: shape.clone(), from, tensor });
            }
            slices
        };
        bounds.windows(2).map(hold).collect()
    }

    fn write_file(path: PathBuf, tensors: &[(String, &Tensor)]) {
        Unwritten::new(path, tensors, Kind::Float).unwrap().write().unwrap();
    }

    /// Writes it by ranks, each of which there is `copies` times.
    fn write(folder: &Path, ranks: &[Vec<Slice>], copies: usize) {
        let writers = ranks.len() * copies;
        for writer in 0..writers {
            let (copy, rank) = (writer / ranks.len(), writer % ranks.len());
            let share = share(&ranks[rank], writer == 0, (copy, copies)).unwrap();
            let share: Vec<_> = share.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
            write_file(folder.join(file_name(writer, writers)), &share);
        }
    }

    fn emptied(slices: &[Slice], kind: Kind) -> Vec<Slice> {
        let empty = |slice: &Slice| {
            let tensor = Tensor::full(slice.tensor.size(), -1.0, (kind, Device::Cpu));
            Slice { name: slice.name.clone(), shape: slice.shape.clone(), from: slice.from, tensor }
        };
        slices.iter().map(empty).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(60))]
        #[test]
        fn what_any_ranks_write_any_others_read(
            written in proptest::collection::vec(0..=TOTAL, 0..4),
            read in proptest::collection::vec(0..=TOTAL, 0..4),
            copies in 1_usize..4,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let state = state();
            write(folder.path(), &ranks(&state, &written), copies);
            prop_assert_eq!(all(folder.path()).unwrap().len(), (written.len() + 1) * copies);
            for expected in ranks(&state, &read) {
                for kind in [Kind::Float, Kind::BFloat16] {
                    let found = emptied(&expected, kind);
                    load::slices(all(folder.path()).unwrap(), &found).unwrap();
                    for (expected, found) in expected.iter().zip(&found) {
                        prop_assert_eq!(&expected.tensor, &found.tensor.to_kind(Kind::Float), "{}", expected.name);
                    }
                }
            }
        }
    }

    #[test]
    fn ranks_that_hold_the_same_write_equal_shares_and_one_of_them_the_scalars() {
        let state = state();
        let shares: Vec<_> = (0..4).map(|rank| share(&state, rank == 0, (rank, 4)).unwrap()).collect();
        let elements = |share: &Vec<(String, Tensor)>| share.iter().map(|(_, tensor)| tensor.numel()).sum::<usize>();
        assert_eq!(shares.iter().map(elements).collect::<Vec<_>>(), [18 + 1, 18, 18, 19]);
        let names = |rank: usize| shares[rank].iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>();
        assert_eq!(names(0), ["step", "a.exp_avg[0..18 of 5x7]"]);
        assert_eq!(names(3), ["a.master[19..24 of 2x3x4]", "b.exp_avg", "b.master"]);
    }

    /// What a reader of all is told, `FOLDER` being where the files lie; it must be left as it was.
    fn refused(folder: &Path) -> String {
        let found = emptied(&state(), Kind::Float);
        let error = all(folder).and_then(|files| load::slices(files, &found)).unwrap_err().to_string();
        assert!(found.iter().all(|slice| slice.tensor == slice.tensor.full_like(-1.0)), "filled all the same");
        error.replace(&folder.display().to_string(), "FOLDER")
    }

    #[test]
    fn files_that_are_missing_or_of_another_set_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert_eq!(refused(folder), "FOLDER: no optimizer.safetensors here");
        write(folder, &ranks(&state(), &[20, 40]), 1);
        fs_err::rename(folder.join(file_name(1, 3)), folder.join("moved")).unwrap();
        let expected = "FOLDER: 2 of 3 optimizer files here; missing: optimizer-00002-of-00003.safetensors";
        assert_eq!(refused(folder), expected);
        fs_err::rename(folder.join("moved"), folder.join(OPTIMIZER)).unwrap();
        assert_eq!(refused(folder), "FOLDER: optimizer files of several sets: of 1, of 3");
    }

    #[test]
    fn whatever_else_is_wrong_is_told_at_once_and_nothing_is_filled() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let values = |elements: i64| Tensor::zeros([elements], (Kind::Float, Device::Cpu));
        let mut first = vec![("step".to_owned(), Tensor::from(0_f32))];
        first.push(("a.exp_avg[0..10 of 5x7]".to_owned(), values(10)));
        first.push(("a.exp_avg[20..35 of 5x7]".to_owned(), values(15)));
        first.push(("a.master[0..24 of 4x6]".to_owned(), values(24)));
        first.push(("b.exp_avg[0..8 of 13]".to_owned(), values(8)));
        let second = vec![("b.exp_avg[5..12 of 13]".to_owned(), values(7))];
        for (writer, tensors) in [first, second].iter().enumerate() {
            let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.clone(), tensor)).collect();
            write_file(folder.join(file_name(writer, 2)), &tensors);
        }
        let expected = [
            "FOLDER: 5 problems",
            "a.exp_avg: elements 10..20 are missing",
            "a.master has shape [4, 6]: expected [2, 3, 4]",
            "b.exp_avg: elements 5..8 are in FOLDER/optimizer-00001-of-00002.safetensors and in \
             FOLDER/optimizer-00002-of-00002.safetensors",
            "b.exp_avg: elements 12..13 are missing",
            "b.master [1] is missing",
        ];
        assert_eq!(refused(folder), expected.join("\n  - "));
        let liar = [("b.master[0..3 of 1]".to_owned(), &values(3))];
        write_file(folder.join(file_name(1, 2)), &liar);
        let error = refused(folder);
        assert!(error.contains("b.master[0..3 of 1] has shape [3]: it is not the piece of a tensor"), "{error}");
    }
}
