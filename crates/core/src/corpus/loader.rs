//! The batches of optimizer steps, read ahead in the background.
//!
//! Every worker follows the whole order and reads each n-th step of it, so workers share nothing and steps come out in
//! order. A worker that has read as far ahead as it may waits until a step is taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::CorpusError;
use super::batch::Batch;
pub use super::order::{Position, Stage, key};
use super::order::{Steps, place};
use super::source::Source;

/// Most workers. One keeps several GPUs fed; more shorten the first steps and the waits for a slow disk.
const WORKERS: usize = 4;

/// Units of a loss weight of 1: every weight a corpus can hold, an fp32 of k / 255, is a whole number of them. So sums are exact,
/// in whatever order ranks and micro-batches make them.
pub const UNIT: f64 = (1_u64 << 32) as f64;

/// What a loader reads.
#[derive(Clone, Debug)]
pub struct LoaderSettings {
    /// The sources.
    pub sources: Arc<Vec<Source>>,
    /// The [`key`] of each source.
    pub keys: Vec<u64>,
    /// The stages, all of them.
    pub stages: Vec<Stage>,
    /// Rows a step, over all ranks.
    pub rows: u64,
    /// Rows a micro-batch.
    pub micro_rows: u64,
    /// This process among all that train together.
    pub rank: u64,
    /// How many these are.
    pub world: u64,
    /// Steps read ahead, rounded up to a multiple of the workers.
    pub prefetch: usize,
}

/// What one rank computes in one step.
#[derive(Clone, Debug, PartialEq)]
pub struct StepBatch {
    /// Its micro-batches.
    pub micro: Vec<Batch>,
    /// Sum of their loss weights, in [`UNIT`]s.
    pub weight: u64,
    /// The position after this step.
    pub position: Position,
}

/// Gives one step after another; dropping it ends its threads.
#[derive(Debug)]
pub struct Loader {
    /// What each worker reads, in turns; emptied to end the workers.
    steps: Vec<Receiver<Result<StepBatch, CorpusError>>>,
    /// Where each worker takes emptied batches from.
    spares: Vec<Sender<Batch>>,
    workers: Vec<JoinHandle<()>>,
    stopping: Arc<AtomicBool>,
    taken: u64,
    left: u64,
    waited: Duration,
}

impl Loader {
    /// Begins to read the steps that follow `from`.
    ///
    /// # Errors
    /// Settings that contradict each other, a source that has no rows though a stage asks for some, or no threads.
    pub fn start(settings: LoaderSettings, from: Position) -> Result<Self, CorpusError> {
        check(&settings, &from)?;
        let steps = Steps::new(&settings.stages, settings.rows, from)?;
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let count = settings.prefetch.clamp(1, cores.min(WORKERS));
        // A worker holds one step in its hands besides those in its channel.
        let ahead = settings.prefetch.max(1).div_ceil(count) - 1;
        let (settings, stopping, left) = (Arc::new(settings), Arc::new(AtomicBool::new(false)), steps.left());
        let mut loader = Self {
            steps: Vec::new(),
            spares: Vec::new(),
            workers: Vec::new(),
            stopping,
            taken: 0,
            left,
            waited: Duration::ZERO,
        };
        for number in 0..count {
            let ((sender, receiver), (spare, spares)) = (sync_channel(ahead), channel());
            let (settings, stopping) = (Arc::clone(&settings), Arc::clone(&loader.stopping));
            let worker = Worker { settings, steps: steps.clone(), every: count, number, spares, stopping };
            let thread = thread::Builder::new().name(format!("loader-{number}"));
            loader.workers.push(thread.spawn(move || worker.run(&sender))?);
            loader.steps.push(receiver);
            loader.spares.push(spare);
        }
        Ok(loader)
    }

    /// Takes batches back that are done with, to read into them again: fresh memory costs more than what is read.
    pub fn recycle(&self, step: StepBatch) {
        let workers = self.spares.len() as u64;
        // To the worker whose step it was, if it was the last one taken; in any case to all in turns.
        let spares = &self.spares[(self.taken.wrapping_sub(1) % workers) as usize];
        for batch in step.micro {
            // A worker that has ended needs none.
            let _ = spares.send(batch);
        }
    }

    /// How long [`Self::next`] has waited for data, so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Iterator for Loader {
    type Item = Result<StepBatch, CorpusError>;

    /// The next step; `None` after the last one, and after an error.
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let asked = Instant::now();
        let step = self.steps[(self.taken % self.steps.len() as u64) as usize].recv();
        self.waited += asked.elapsed();
        // A worker sends every step of its own, unless it panicked.
        let died = || CorpusError::Order { reason: format!("the worker that reads step {} died", self.taken) };
        let step = step.unwrap_or_else(|_| Err(died()));
        self.taken += 1;
        self.left = if step.is_ok() { self.left - 1 } else { 0 };
        Some(step)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.steps.clear();
        for worker in self.workers.drain(..) {
            // A panic of a worker was seen as an error by whoever asked for its step.
            let _ = worker.join();
        }
    }
}

/// Refuses settings that contradict each other.
fn check(settings: &LoaderSettings, from: &Position) -> Result<(), CorpusError> {
    let LoaderSettings { sources, keys, rows, micro_rows, rank, world, .. } = settings;
    let refuse = |reason: String| Err(CorpusError::Order { reason });
    if *rows == 0 || *micro_rows == 0 || rank >= world {
        return refuse(format!("{rows} rows a step in micro-batches of {micro_rows} for rank {rank} of {world}"));
    }
    if keys.len() != sources.len() || from.drawn.len() != sources.len() {
        let (sources, keys, drawn) = (sources.len(), keys.len(), from.drawn.len());
        return refuse(format!("{sources} sources, {keys} keys and {drawn} counts: expected as many of each"));
    }
    for (number, stage) in settings.stages.iter().enumerate().skip(from.stage) {
        let empty = sources.iter().zip(&stage.shares).find(|(source, share)| **share > 0.0 && source.rows() == 0);
        if let Some((source, share)) = empty.filter(|_| stage.steps > 0) {
            let reason = format!("no document to train on, and stage {number} takes a share of {share} from it");
            return Err(CorpusError::Invalid { file: source.corpus().path().to_owned(), reason });
        }
    }
    Ok(())
}

/// Reads each `every`-th step, `number` first.
struct Worker {
    settings: Arc<LoaderSettings>,
    steps: Steps,
    every: usize,
    number: usize,
    spares: Receiver<Batch>,
    stopping: Arc<AtomicBool>,
}

impl Worker {
    fn run(mut self, steps: &SyncSender<Result<StepBatch, CorpusError>>) {
        let mut rows = Vec::new();
        for turn in (0..self.every).cycle() {
            rows.clear();
            if !self.steps.draw(|source, drawn| rows.push((source, drawn))) {
                return;
            }
            if turn == self.number {
                let Some(step) = self.step(&rows).transpose() else { return };
                let last = step.is_err();
                if steps.send(step).is_err() || last {
                    return;
                }
            }
        }
    }

    /// Reads the rows of a step; `None` when the loader is dropped meanwhile.
    fn step(&self, rows: &[(usize, u64)]) -> Result<Option<StepBatch>, CorpusError> {
        let LoaderSettings { sources, keys, micro_rows, rank, world, .. } = &*self.settings;
        let slice = |rank: u64| (u128::from(rank) * rows.len() as u128 / u128::from(*world)) as usize;
        let own = &rows[slice(*rank)..slice(*rank + 1)];
        let (mut micro, mut weight) = (Vec::new(), 0);
        for rows in own.chunks(*micro_rows as usize) {
            let mut batch = self.batch(rows.len(), sources[rows[0].0].length());
            for &(source, drawn) in rows {
                if self.stopping.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                sources[source].row(place(sources[source].rows(), keys[source], drawn), &mut batch)?;
                batch.sources.push(source as u16);
            }
            weight += units(&batch.weights);
            micro.push(batch);
        }
        Ok(Some(StepBatch { micro, weight, position: self.steps.position().clone() }))
    }

    /// An empty batch for `rows` rows.
    fn batch(&self, rows: usize, length: usize) -> Batch {
        let spare = self.spares.try_recv().ok();
        spare.map_or_else(
            || Batch::with_capacity(rows, length),
            |mut spare| {
                spare.clear();
                spare
            },
        )
    }
}

/// The sum of loss weights, in [`UNIT`]s.
fn units(weights: &[f32]) -> u64 {
    // A sum of so many weights is exact in an fp64 too, and eight sums at once keep the processor busy.
    weights
        .chunks(1 << 12)
        .map(|some| {
            let (eights, rest) = some.as_chunks::<8>();
            let mut sums = [0.0; 8];
            for eight in eights {
                sums.iter_mut().zip(eight).for_each(|(sum, weight)| *sum += f64::from(*weight));
            }
            let sum = sums.into_iter().chain(rest.iter().map(|weight| f64::from(*weight))).sum::<f64>();
            (sum * UNIT) as u64
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::corpus::sample;
    use crate::corpus::source::Packing;
    use crate::corpus::source::Settings;

    fn source(lengths: &[usize], weights: Option<&[u8]>, held_out: f64) -> Source {
        let (_folder, prefix) = sample::corpus(lengths, weights);
        let settings = Settings {
            held_out,
            packing: Packing::Split,
            length: 16,
            end: Some(1),
            vocab_size: 1 << 30,
            document_mask: true,
        };
        Source::open(&prefix, &settings).unwrap()
    }

    /// Rows of 16 tokens of all documents, without end tokens.
    fn plain() -> Settings {
        let (packing, vocab_size) = (Packing::Split, 1 << 30);
        Settings { held_out: 0.0, packing, length: 16, end: None, vocab_size, document_mask: true }
    }

    fn stage(steps: u64, shares: &[f64]) -> Stage {
        Stage { steps, shares: shares.to_vec() }
    }

    /// Two sources of 25 and 50 rows, two stages; 12 rows a step.
    fn settings() -> LoaderSettings {
        let lengths: Vec<usize> = (1..40).collect();
        let weights: Vec<u8> = (0..780).map(|i| (i % 256) as u8).collect();
        LoaderSettings {
            sources: Arc::new(vec![source(&[19; 20], None, 0.0), source(&lengths, Some(&weights), 0.05)]),
            keys: vec![key(7, "code"), key(7, "text")],
            stages: vec![stage(5, &[0.7, 0.3]), stage(4, &[0.2, 0.8])],
            rows: 12,
            micro_rows: 3,
            rank: 0,
            world: 1,
            prefetch: 4,
        }
    }

    fn steps(settings: LoaderSettings, from: Position) -> Vec<StepBatch> {
        Loader::start(settings, from).unwrap().map(Result::unwrap).collect()
    }

    /// Source and tokens of each row of some steps.
    fn rows(steps: &[StepBatch]) -> Vec<(u16, Vec<i64>)> {
        let batches = steps.iter().flat_map(|step| &step.micro);
        let row = |batch: &Batch, row: usize| {
            (batch.sources[row], batch.tokens[row * batch.length..(row + 1) * batch.length].to_vec())
        };
        batches.flat_map(|batch| (0..batch.rows).map(|i| row(batch, i)).collect::<Vec<_>>()).collect()
    }

    #[test]
    fn every_world_size_and_micro_batch_has_the_same_rows_in_the_same_order() {
        let alone = steps(settings(), Position::start(2));
        assert_eq!((alone.len(), alone[0].micro.len(), alone[0].micro[0].rows), (9, 4, 3));
        assert!(alone.iter().all(|step| step.weight > 0));
        for (world, micro_rows) in [(2, 3), (4, 3), (4, 2), (1, 12)] {
            let ranks = |rank| steps(LoaderSettings { rank, world, micro_rows, ..settings() }, Position::start(2));
            let ranks: Vec<_> = (0..world).map(ranks).collect();
            for (number, step) in alone.iter().enumerate() {
                let all: Vec<_> = ranks.iter().flat_map(|steps| rows(&steps[number..=number])).collect();
                assert_eq!(all, rows(std::slice::from_ref(step)), "step {number} of {world} ranks");
                assert_eq!(ranks.iter().map(|steps| steps[number].weight).sum::<u64>(), step.weight);
                assert!(ranks.iter().all(|steps| steps[number].position == step.position));
            }
        }
    }

    #[test]
    fn a_run_goes_on_from_any_position_as_if_it_had_never_stopped() {
        let whole = steps(settings(), Position::start(2));
        for (done, step) in whole.iter().enumerate() {
            let prefetch = 1 + done % 5;
            let rest = steps(LoaderSettings { prefetch, ..settings() }, step.position.clone());
            assert!(rest == whole[done + 1..], "resumed after {} steps", done + 1);
        }
    }

    #[test]
    fn a_new_stage_and_an_added_source_leave_the_order_inside_the_others() {
        let of = |source: u16, rows: Vec<(u16, Vec<i64>)>| -> Vec<Vec<i64>> {
            rows.into_iter().filter(|row| row.0 == source).map(|row| row.1).collect()
        };
        let before = rows(&steps(settings(), Position::start(2)));
        let (LoaderSettings { sources, mut keys, .. }, third) = (settings(), source(&[9; 40], None, 0.0));
        let mut sources = Arc::into_inner(sources).unwrap();
        sources.push(third);
        keys.push(key(7, "docs"));
        let stages = vec![stage(2, &[0.1, 0.1, 0.8]), stage(20, &[0.5, 0.3, 0.2])];
        let more = LoaderSettings { sources: Arc::new(sources), keys, stages, ..settings() };
        let after = rows(&steps(more, Position::start(3)));
        for source in 0..2 {
            let (before, after) = (of(source, before.clone()), of(source, after.clone()));
            assert!(before.len() > 30 && after.len() > before.len() && after.starts_with(&before));
        }
    }

    #[test]
    fn held_out_documents_never_come_and_all_others_do() {
        let settings = settings();
        let held = &settings.sources[1];
        let mut batch = Batch::default();
        (0..held.held_out_rows()).for_each(|row| held.held_out_row(row, &mut batch).unwrap());
        let held: BTreeSet<i64> = batch.tokens.into_iter().filter(|token| *token >= sample::FIRST).collect();
        assert!(held.len() > 10);
        let all = rows(&steps(settings, Position::start(2)));
        let seen: BTreeSet<i64> = all.into_iter().filter(|row| row.0 == 1).flat_map(|row| row.1).collect();
        assert!(seen.is_disjoint(&held));
        assert!((sample::FIRST..sample::FIRST + 780).all(|token| seen.contains(&token) || held.contains(&token)));
    }

    #[test]
    fn loss_weights_arrive_with_their_targets_and_their_sum_with_the_step() {
        for step in steps(settings(), Position::start(2)) {
            let (mut sum, mut special) = (0.0, 0);
            for batch in &step.micro {
                let length = batch.length;
                for (place, (target, weight)) in batch.targets.iter().zip(&batch.weights).enumerate() {
                    let weighted = batch.sources[place / length] == 1 && *target >= sample::FIRST;
                    let expected = match target {
                        ..0 => 0.0,
                        _ if weighted => ((target - sample::FIRST) % 256) as f32 / 255.0,
                        _ => 1.0,
                    };
                    assert_eq!(*weight, expected, "of target {target}");
                    sum += f64::from(*weight);
                    special += usize::from(weighted);
                }
            }
            assert!(special > 20);
            assert_eq!(sum, step.weight as f64 / UNIT);
        }
    }

    #[test]
    fn every_loss_weight_is_a_whole_number_of_units() {
        let units = |weight: u8| f64::from(f32::from(weight) / 255.0) * UNIT;
        assert!((0..=255).all(|weight| units(weight).fract() == 0.0));
        let weights: Vec<f32> = (0..10_003).map(|i| f32::from((i * 7 % 256) as u8) / 255.0).collect();
        let one_by_one: u64 = weights.iter().map(|weight| (f64::from(*weight) * UNIT) as u64).sum();
        assert_eq!(super::units(&weights), one_by_one);
    }

    #[test]
    fn batches_given_back_are_read_into_again_and_nothing_of_them_stays() {
        let fresh = steps(settings(), Position::start(2));
        let mut loader = Loader::start(LoaderSettings { prefetch: 1, ..settings() }, Position::start(2)).unwrap();
        let (mut places, mut number) = (BTreeSet::new(), 0);
        while let Some(step) = loader.next() {
            let step = step.unwrap();
            assert_eq!(step, fresh[number]);
            number += 1;
            places.extend(step.micro.iter().map(|batch| batch.tokens.as_ptr() as usize));
            loader.recycle(step);
        }
        // Four batches a step, at most three steps at a time: taken, sent and being read.
        assert!(number == 9 && places.len() <= 12, "{} batches", places.len());
    }

    #[test]
    fn a_loader_that_is_dropped_early_ends_its_threads() {
        let mut loader = Loader::start(settings(), Position::start(2)).unwrap();
        loader.next().unwrap().unwrap();
        let stopping = Arc::clone(&loader.stopping);
        drop(loader);
        // The threads held the others.
        assert_eq!(Arc::strong_count(&stopping), 1);
    }

    #[test]
    fn an_error_comes_in_its_place_and_nothing_after_it() {
        let (folder, prefix) = sample::corpus(&[20; 20], None);
        let source = Source::open(&prefix, &plain()).unwrap();
        // A token below 0, and how many rows come before the one that holds it.
        fs_err::write(folder.path().join("c.bin"), [&[0; 1599][..], &[255]].concat()).unwrap();
        let before = (0..).find(|drawn| place(25, 3, *drawn) == 24).unwrap();
        let (sources, stages) = (Arc::new(vec![source]), vec![stage(25, &[1.0])]);
        let settings = LoaderSettings { sources, keys: vec![3], stages, rows: 1, micro_rows: 1, ..settings() };
        let mut loader = Loader::start(settings, Position::start(1)).unwrap();
        assert_eq!(loader.by_ref().take_while(Result::is_ok).count() as u64, before);
        assert!(loader.next().is_none());
    }

    #[test]
    fn a_corpus_cut_short_is_an_error_with_its_offset_after_the_steps_before_it() {
        for packing in [Packing::Split, Packing::BestFit] {
            let (folder, prefix) = sample::corpus(&[20; 20], Some(&[9; 400]));
            let open = Settings { packing, ..plain() };
            let sources = Arc::new(vec![Source::open(&prefix, &open).unwrap()]);
            let rows = sources[0].rows();
            let settings = LoaderSettings {
                sources,
                keys: vec![3],
                stages: vec![stage(rows, &[1.0])],
                rows: 1,
                micro_rows: 1,
                ..settings()
            };
            for (extension, left) in [("bin", 400), ("loss", 100)] {
                let path = folder.path().join(format!("c.{extension}"));
                let whole = fs_err::read(&path).unwrap();
                fs_err::OpenOptions::new().write(true).open(&path).unwrap().set_len(left).unwrap();
                let mut loader = Loader::start(settings.clone(), Position::start(1)).unwrap();
                let mut given = 0;
                let error = loop {
                    match loader.next().unwrap() {
                        Ok(step) => given += step.position.step.min(1),
                        Err(error) => break error.to_string(),
                    }
                };
                assert!(given < rows && loader.next().is_none(), "{given}");
                let expected = format!("the file has {left} bytes, and had {} when it was opened", whole.len());
                let file = format!("c.{extension}: byte ");
                assert!(error.contains(&file) && error.contains(&expected), "{error}");
                fs_err::write(&path, whole).unwrap();
            }
        }
    }

    #[test]
    fn a_token_beyond_the_vocabulary_is_named_with_its_document_in_both_packings_and_where_it_is_held_out() {
        // Documents of 20 tokens from 100 on: 279 is the last one of document 8.
        let (_folder, prefix) = sample::corpus(&[20; 20], None);
        for packing in [Packing::Split, Packing::BestFit] {
            let open = Settings { packing, vocab_size: 279, ..plain() };
            let source = Source::open(&prefix, &open).unwrap();
            let mut batch = Batch::default();
            let errors = (0..source.rows()).filter_map(|row| source.row(row, &mut batch).err());
            let errors: Vec<String> = errors.map(|error| error.to_string()).collect();
            let expected = format!(
                "{0}.bin: document 8, token 19: found token 279, expected one below 279, the vocabulary of the model; run \
                 `hephaestus-forge verify {0} --tokenizer FOLDER` with the folder of the tokenizer, and tokenize the corpus again",
                prefix.display()
            );
            assert!(errors.contains(&expected), "{errors:?}");
            assert!(batch.tokens.iter().all(|token| *token < 279));
            let source = Source::open(&prefix, &Settings { held_out: 0.5, ..open }).unwrap();
            let errors = (0..source.held_out_rows()).filter(|row| source.held_out_row(*row, &mut batch).is_err());
            assert!(errors.count() > 0);
            let sound = Source::open(&prefix, &Settings { vocab_size: 500, ..open }).unwrap();
            assert!((0..sound.rows()).all(|row| sound.row(row, &mut batch).is_ok()));
        }
    }

    #[test]
    fn settings_that_contradict_each_other_are_refused_with_what_was_found() {
        let refusal = |settings, from| Loader::start(settings, from).unwrap_err().to_string();
        let error = refusal(LoaderSettings { rank: 2, world: 2, ..settings() }, Position::start(2));
        assert_eq!(error, "12 rows a step in micro-batches of 3 for rank 2 of 2");
        let error = refusal(settings(), Position::start(3));
        assert_eq!(error, "2 sources, 2 keys and 3 counts: expected as many of each");
        let empty = |share| {
            let sources = Arc::new(vec![source(&[19; 20], None, 0.0), source(&[], None, 0.0)]);
            LoaderSettings { sources, stages: vec![stage(1, &[1.0 - share, share])], ..settings() }
        };
        let error = refusal(empty(0.25), Position::start(2));
        assert!(
            error.ends_with("c.bin: no document to train on, and stage 0 takes a share of 0.25 from it"),
            "{error}"
        );
        assert_eq!(steps(empty(0.0), Position::start(2)).len(), 1);
    }
}
