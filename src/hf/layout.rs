//! Which parameters go into which file of a Hugging Face folder, and who writes it: decided from the configuration alone, so
//! that every writer knows before it has a tensor.

use tch::Kind;

use super::dtype::Dtype;
use super::error::HfError;
use super::folder::SINGLE;
use super::names::{self, ParameterSpec};
use crate::model::config::ModelConfig;

/// Bytes of weights from which on each writer has a file of its own.
const WORTH_SHARING: u64 = 1_000_000_000;

/// The weight files of a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    kind: Kind,
    dtype: Dtype,
    files: Vec<WeightFile>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightFile {
    /// Its name.
    pub name: String,
    /// Who writes it.
    pub writer: usize,
    /// Bytes of weights in it.
    pub bytes: u64,
    /// The parameters in it, in canonical order.
    pub parameters: Vec<ParameterSpec>,
}

impl Layout {
    /// The files of the model of `config`, stored as `kind`, in which each is at most `max_shard` bytes of weights, or one
    /// parameter.
    ///
    /// Parameters are in canonical order. One writer fills each file as far as it goes. Of several writers of more than
    /// 1 GB each gets files, of about as many bytes as the others'.
    ///
    /// # Errors
    /// A `kind` that weights are not stored in.
    pub fn of(config: &ModelConfig, kind: Kind, max_shard: u64, writers: usize) -> Result<Self, HfError> {
        let dtype = dtype_of(kind)?;
        let specs = names::parameters(config);
        let sizes: Vec<u64> = specs.iter().map(|spec| spec.elements() * dtype.size() as u64).collect();
        let shared = writers > 1 && sizes.iter().sum::<u64>() > WORTH_SHARING;
        let counts = if shared { even(&sizes, max_shard, writers) } else { filled(&sizes, max_shard) };
        let total = counts.len();
        let mut specs = specs.into_iter();
        let files = counts.into_iter().enumerate().map(|(at, count)| {
            let name = match total {
                1 => SINGLE.to_owned(),
                _ => format!("model-{:05}-of-{total:05}.safetensors", at + 1),
            };
            let parameters: Vec<_> = specs.by_ref().take(count).collect();
            let bytes = parameters.iter().map(|spec| spec.elements() * dtype.size() as u64).sum();
            WeightFile { name, writer: 0, bytes, parameters }
        });
        let mut files: Vec<_> = files.collect();
        hand_out(&mut files, writers);
        Ok(Self { kind, dtype, files })
    }

    /// The element type stored.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The element type stored, by its names.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// All files, in order.
    #[must_use]
    pub fn files(&self) -> &[WeightFile] {
        &self.files
    }

    /// The files of one writer, in order.
    pub fn of_writer(&self, writer: usize) -> impl Iterator<Item = &WeightFile> {
        self.files.iter().filter(move |file| file.writer == writer)
    }

    /// The parameters that one writer writes, in canonical order.
    pub fn parameters_of(&self, writer: usize) -> impl Iterator<Item = &ParameterSpec> {
        self.of_writer(writer).flat_map(|file| &file.parameters)
    }
}

/// How many parameters go into each file, where each is filled until the next parameter would not fit.
fn filled(sizes: &[u64], most: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    for size in sizes {
        if count > 0 && bytes + size > most {
            counts.push(count);
            (count, bytes) = (0, 0);
        }
        count += 1;
        bytes += size;
    }
    counts.push(count);
    counts
}

/// The same where there are as many files for each of `writers`, as long as there are parameters for them, and all are about
/// as large.
fn even(sizes: &[u64], most: u64, writers: usize) -> Vec<usize> {
    let mut files = filled(sizes, most).len().next_multiple_of(writers);
    loop {
        files = files.min(sizes.len());
        let counts = evenly(sizes, files);
        let mut rest = sizes;
        let fits = counts.iter().all(|&count| {
            let (file, after) = rest.split_at(count);
            rest = after;
            count == 1 || file.iter().sum::<u64>() <= most
        });
        if fits || files == sizes.len() {
            return counts;
        }
        files += writers;
    }
}

/// Cuts into `files` runs that are not empty, each as near as it can be to an equal share of what is left.
fn evenly(sizes: &[u64], files: usize) -> Vec<usize> {
    let mut left: u64 = sizes.iter().sum();
    let mut start = 0;
    let cut = (0..files).map(|file| {
        let others = files - file - 1;
        let share = left / (others as u64 + 1);
        let mut end = start + 1;
        let mut bytes = sizes[start];
        while end < sizes.len() - others && (others == 0 || bytes + sizes[end] / 2 <= share) {
            bytes += sizes[end];
            end += 1;
        }
        let count = end - start;
        left -= bytes;
        start = end;
        count
    });
    cut.collect()
}

/// Gives each file, the largest first, to the writer with the fewest bytes.
fn hand_out(files: &mut [WeightFile], writers: usize) {
    let mut load = vec![0; writers.max(1)];
    let mut order: Vec<_> = (0..files.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(files[at].bytes));
    for at in order {
        let writer = (0..load.len()).min_by_key(|&writer| load[writer]).unwrap_or(0);
        load[writer] += files[at].bytes;
        files[at].writer = writer;
    }
}

fn dtype_of(kind: Kind) -> Result<Dtype, HfError> {
    match kind {
        Kind::BFloat16 => Ok(Dtype::Bf16),
        Kind::Half => Ok(Dtype::Fp16),
        Kind::Float => Ok(Dtype::Fp32),
        other => {
            Err(HfError::Torch(tch::TchError::Kind(format!("weights are stored as bf16, fp16 or fp32, not {other:?}"))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of about 70 billion parameters, or 1 billion, or a thousand.
    fn model(width: usize, layers: usize, vocabulary: usize) -> ModelConfig {
        ModelConfig::llama(vocabulary, width, 7 * width / 2, layers, 8)
    }

    #[test]
    fn every_parameter_is_in_one_file_in_order_and_writers_have_about_as_many_bytes() {
        const LIMIT: u64 = 5_000_000_000;
        for (config, writers) in
            [(model(8192, 80, 128_256), 64), (model(8192, 80, 128_256), 6), (model(2048, 16, 128_256), 8)]
        {
            let layout = Layout::of(&config, Kind::BFloat16, LIMIT, writers).unwrap();
            let parameters = layout.files().iter().flat_map(|file| file.parameters.clone()).collect::<Vec<_>>();
            assert_eq!(parameters, names::parameters(&config));
            assert!(layout.files().iter().all(|file| file.bytes <= LIMIT && !file.parameters.is_empty()));
            let loads: Vec<u64> =
                (0..writers).map(|writer| layout.of_writer(writer).map(|file| file.bytes).sum()).collect();
            let largest = parameters.iter().map(|spec| 2 * spec.elements()).max().unwrap();
            let mean = loads.iter().sum::<u64>() / writers as u64;
            assert!(loads.iter().all(|&load| load > 0 && load <= (mean + mean / 4).max(largest)), "{loads:?}");
            assert_eq!(
                layout.parameters_of(1).count(),
                layout.of_writer(1).map(|file| file.parameters.len()).sum::<usize>()
            );
        }
    }

    #[test]
    fn one_writer_fills_each_file_and_a_small_model_is_not_torn_apart_for_many() {
        assert_eq!(filled(&[4, 4, 4, 20, 1], 10), [2, 1, 1, 1]);
        assert_eq!(evenly(&[100, 1, 1, 1, 1, 50], 4), [1, 3, 1, 1]);
        assert_eq!(evenly(&[1, 1, 1], 3), [1, 1, 1]);
        let small = model(16, 1, 8);
        let layout = |writers, limit| Layout::of(&small, Kind::Float, limit, writers).unwrap();
        assert_eq!(layout(8, 1_000_000), layout(1, 1_000_000));
        assert_eq!(layout(1, 1_000_000).files()[0].name, SINGLE);
        let names: Vec<_> = layout(8, 1000).files().iter().map(|file| file.name.clone()).collect();
        assert_eq!(names, layout(1, 1000).files().iter().map(|file| file.name.clone()).collect::<Vec<_>>());
        assert!(layout(8, 1000).files().iter().any(|file| file.writer > 0));
        assert!(Layout::of(&small, Kind::Int64, 1000, 1).is_err());
    }
}
