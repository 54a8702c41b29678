//! A recipe into corpora: bounded in memory, finished part by part, the same bytes however often it was interrupted.
//!
//! The work is cut into parts ([`plan`]) and goes through phases, each of which leaves a file a part in the work folder
//! ([`work`]), whole or not there:
//!
//! 1. [`gather`]: files are read, documents rendered and filtered; what is kept is written down ([`stored`]),
//!    with the signatures that tell duplicates.
//! 2. [`crate::duplicates`]: signatures of all parts are grouped; which documents to leave out is one file.
//! 3. [`tokens`]: what is left is tokenized.
//! 4. [`assemble`]: the parts of a source become its corpus, and all that was counted the report.
//!
//! A build that was killed does again only the part it was at. With `--shard i/n` a machine reads and tokenizes every n-th
//! part; [`merge`] brings work folders together. [`preview`](mod@preview) shows what the first phase makes of a source.

pub mod assemble;
pub mod gather;
pub mod merge;
mod mill;
pub mod plan;
pub mod preview;
pub mod stored;
pub mod tokens;
pub mod work;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hephaestus_core::corpus::{CorpusError, Manifest};
use hephaestus_core::vocabulary::VocabularyError;

use crate::encode::Encoder;
use crate::readers::{BadRecord, InputError};
use crate::recipe::Loaded;
use crate::report::ReportError;
use crate::{duplicates, quality, render, retrieval};

pub use plan::{Plan, Shard};
pub use preview::preview;
pub use work::Work;

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The share of the parts that this machine does; all of them where not given.
    pub shard: Option<Shard>,
    /// End at the first bad record.
    pub strict: bool,
    /// Discard the work of another recipe or of other inputs that lies in the output folder.
    pub fresh: bool,
    /// Only put together what other machines did.
    pub merge: bool,
}

/// What came of it.
#[derive(Debug)]
pub enum Built {
    /// The corpora, in the recipe's order, and how long each phase took.
    Corpora {
        /// A manifest a source that kept any document.
        corpora: Vec<Manifest>,
        /// Bytes of text in them.
        bytes: u64,
        /// Phases and their time.
        phases: Vec<(&'static str, Duration)>,
    },
    /// The corpora were there already, by the same recipe from the same inputs.
    Already,
    /// A shard is read; grouping needs those of all other machines.
    Read,
    /// A shard is tokenized; merging needs those of all other machines.
    Tokenized,
}

/// Why nothing was built, or not all.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// An input that cannot be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The tokenizer.
    #[error(transparent)]
    Vocabulary(#[from] VocabularyError),
    /// Templates.
    #[error(transparent)]
    Render(#[from] render::RenderError),
    /// Filters.
    #[error(transparent)]
    Filter(#[from] quality::FilterError),
    /// What is scrubbed.
    #[error(transparent)]
    Scrubber(#[from] quality::scrub::ScrubberError),
    /// Benchmarks.
    #[error(transparent)]
    Decontamination(#[from] quality::decontamination::BenchmarkError),
    /// The report.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Deduplication.
    #[error(transparent)]
    Duplicates(#[from] duplicates::DuplicatesError),
    /// Classifiers.
    #[error(transparent)]
    Retrieval(#[from] retrieval::RetrievalError),
    /// A corpus that cannot be written.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// A bad record, in strict mode.
    #[error("{0} (--strict)")]
    Record(BadRecord),
    /// The output folder holds work of another build.
    #[error("{}: holds the work of another build: {difference}. Finish that one, or discard it with --fresh", folder.display())]
    OtherWork {
        /// The work folder.
        folder: PathBuf,
        /// What differs.
        difference: String,
    },
    /// Another process builds there.
    #[error("{}: another process is building here", .0.display())]
    Busy(PathBuf),
    /// Work that is not done.
    #[error(
        "{missing} of {parts} parts are not {phase} yet (the first is part {first}{hint}): run `hephaestus-forge build --shard i/n` for every i, then this again"
    )]
    Unfinished {
        /// Parts missing.
        missing: usize,
        /// Parts in all.
        parts: usize,
        /// What they should be.
        phase: &'static str,
        /// The first of them.
        first: u32,
        /// What that part is.
        hint: String,
    },
    /// A file of the work folder that does not parse.
    #[error("{}: {reason}; remove it, and the build makes it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A source that the recipe does not have.
    #[error("no source \"{name}\" in the recipe{}; it has: {}", near.as_ref().map_or(String::new(), |near| format!(", did you mean {near}?")), sources.join(", "))]
    NoSource {
        /// What was asked for.
        name: String,
        /// What was meant, most likely.
        near: Option<String>,
        /// What there is.
        sources: Vec<String>,
    },
    /// Nothing was kept of anything.
    #[error("no document was kept ({read} read, {bad} bad records): see {}", report.display())]
    Empty {
        /// Documents read.
        read: u64,
        /// Bad records.
        bad: u64,
        /// The report.
        report: PathBuf,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Builds what the recipe describes. `report` hears of every bad record.
///
/// # Errors
/// Whatever can be refused is refused before anything is read; later, an input or the output that cannot be read or
/// written. What was finished by then stays, and the next run goes on from there.
pub fn run(loaded: &Loaded, options: &Options, report: &mut dyn FnMut(&BadRecord)) -> Result<Built, BuildError> {
    let mut clock = Clock::default();
    let recipe = &loaded.recipe;
    let encoder = Encoder::new(recipe.vocabulary()?);
    let end = recipe.end_of_document(encoder.vocabulary())?;
    let plan = Plan::new(recipe, encoder.vocabulary())?;
    let mill = mill::Mill::new(recipe)?;
    if plan.is_built(&recipe.output)? && !options.fresh {
        return Ok(Built::Already);
    }
    let work = Work::open(&recipe.output, &plan, options)?;
    if options.merge {
        work.require(&plan, "read", Work::is_gathered)?;
    }
    clock.ended("plan");
    let classifiers = gather::classifiers(recipe, &work)?;
    clock.ended("classifiers");
    gather::run(&plan, &work, &mill.with(classifiers), options, report)?;
    clock.ended("reading");
    let grouping = recipe.duplicates.exact || recipe.duplicates.near;
    if grouping && !work.dropped().exists() {
        if options.shard.is_some() {
            return Ok(Built::Read);
        }
        work.group(&plan)?;
    }
    clock.ended("grouping");
    tokens::run(&plan, &work, &encoder, end, options)?;
    clock.ended("tokenizing");
    if options.shard.is_some() {
        return Ok(Built::Tokenized);
    }
    let corpora = assemble::corpora(recipe, &plan, &work, &encoder)?;
    let totals = assemble::report(recipe, &plan, &work)?;
    plan.mark_built(&recipe.output)?;
    work.close(recipe.work.keep)?;
    if totals.kept.documents == 0 {
        let (read, bad) = (totals.read.documents, totals.bad.count);
        return Err(BuildError::Empty { read, bad, report: recipe.output.join("report.md") });
    }
    clock.ended("writing");
    Ok(Built::Corpora { corpora, bytes: totals.kept.bytes, phases: clock.phases })
}

/// Groups the duplicates among what all shards read: what `build --shard` then waits for.
///
/// # Errors
/// A shard that is not read yet, or what cannot be read or written.
pub fn group(loaded: &Loaded) -> Result<duplicates::Summary, BuildError> {
    let recipe = &loaded.recipe;
    let plan = Plan::new(recipe, &recipe.vocabulary()?)?;
    let work = Work::open(&recipe.output, &plan, &Options::default())?;
    work.require(&plan, "read", Work::is_gathered)?;
    work.group(&plan)
}

/// Time a phase.
struct Clock {
    since: Instant,
    phases: Vec<(&'static str, Duration)>,
}

impl Default for Clock {
    fn default() -> Self {
        Self { since: Instant::now(), phases: Vec::new() }
    }
}

impl Clock {
    /// Notes that `phase` is over.
    fn ended(&mut self, phase: &'static str) {
        self.phases.push((phase, self.since.elapsed()));
        self.since = Instant::now();
    }
}
