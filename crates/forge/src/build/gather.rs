//! Phases before grouping: classifiers are trained, files read, documents kept or left out.

use std::collections::BTreeMap;

use hephaestus_core::progress;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::mill::{Mill, Outcome};
use super::plan::{Part, Plan};
use super::stored::StoredWriter;
use super::work::Work;
use super::{BuildError, Options};
use crate::ahead::ahead;
use crate::duplicates::{self, SignatureWriter};
use crate::readers::{self, BadRecord, Unit};
use crate::recipe::Recipe;
use crate::report::Tally;
use crate::retrieval::{self, Classifier};

/// Bytes of input in flight at once.
const CHUNK: u64 = 8 << 20;

/// Bad records of a part that are listed; the rest are only counted.
const LISTED: usize = 10_000;

/// What is known of a part when it is read.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Gathered {
    /// What was counted.
    pub(super) tally: Tally,
    /// Its bad records, a line each.
    pub(super) bad: Vec<String>,
}

/// Trains the classifiers that are not trained yet.
pub(super) fn classifiers(recipe: &Recipe, work: &Work) -> Result<BTreeMap<String, Classifier>, BuildError> {
    let mut trained = BTreeMap::new();
    for (name, settings) in &recipe.classifiers {
        let folder = work.folder().join("classifiers");
        let (path, evaluation_path) = (folder.join(format!("{name}.bin")), folder.join(format!("{name}.json")));
        if !(path.is_file() && evaluation_path.is_file()) {
            let _spinner = progress::spinner("training the classifier");
            let (classifier, evaluation) = retrieval::train_from(settings, recipe.seed)?;
            classifier.save(&path)?;
            work.write_json(&evaluation_path, &evaluation)?;
        }
        trained.insert(name.clone(), Classifier::load(&path)?);
    }
    Ok(trained)
}

/// Reads the parts that are not read yet.
pub(super) fn run(
    plan: &Plan,
    work: &Work,
    mill: &Mill,
    options: &Options,
    report: &mut dyn FnMut(&BadRecord),
) -> Result<(), BuildError> {
    let parts: Vec<&Part> = plan.share(options.shard).filter(|part| !work.is_gathered(part.number)).collect();
    let bar = progress::bytes(parts.iter().map(|part| part.bytes).sum(), "reading");
    for part in parts {
        let mut hear = |bad: &BadRecord| bar.suspend(|| report(bad));
        gather(part, work, mill, options.strict, &mut hear, &|bytes| bar.inc(bytes))?;
    }
    bar.finish_and_clear();
    Ok(())
}

/// Reads one part: a thread lists its units ahead, all cores take them apart, in order they are written.
fn gather(
    part: &Part,
    work: &Work,
    mill: &Mill,
    strict: bool,
    report: &mut dyn FnMut(&BadRecord),
    progress: &dyn Fn(u64),
) -> Result<(), BuildError> {
    let mut documents = StoredWriter::create(&work.part("documents", part.number, "jsonl.zst"))?;
    let mut signatures = SignatureWriter::create(&work.part("signatures", part.number, "parquet"))?;
    let Gathered { mut tally, mut bad } = Gathered::default();
    let mut kept = 0;
    let mut units = mill.reader(part.source, part.input).units(&part.slices);
    std::thread::scope(|scope| -> Result<(), BuildError> {
        for chunk in ahead(scope, move || Some(readers::chunk(&mut units, CHUNK)).filter(|chunk| !chunk.is_empty())) {
            let outcomes: Vec<Outcome> =
                chunk.par_iter().flat_map_iter(|unit| mill.grind(part.source, part.input, unit)).collect();
            for outcome in outcomes {
                match outcome {
                    Outcome::Bad(record) if strict => return Err(BuildError::Record(record)),
                    Outcome::Bad(record) => {
                        tally.bad(&record);
                        report(&record);
                        if bad.len() < LISTED {
                            bad.push(record.to_string());
                        }
                    }
                    Outcome::Dropped { rule, detail, benchmark, origin, text, scrubbed } => {
                        tally.read(text.len());
                        tally.dropped(rule, &detail, &origin, &text);
                        benchmark.iter().for_each(|name| tally.benchmark(name));
                        scrubbed.counts.iter().for_each(|(kind, count)| tally.scrubbed(kind.name(), *count));
                    }
                    Outcome::Kept { stored, signature, scrubbed } => {
                        tally.read(stored.text.text.len());
                        scrubbed.counts.iter().for_each(|(kind, count)| tally.scrubbed(kind.name(), *count));
                        documents.push(&stored)?;
                        signatures.push(duplicates::document_id(part.number, kept), &signature)?;
                        kept += 1;
                    }
                }
            }
            progress(chunk.iter().flatten().map(Unit::bytes).sum());
        }
        Ok(())
    })?;
    documents.finish()?;
    signatures.finish()?;
    work.write_json(&work.part("documents", part.number, "json"), &Gathered { tally, bad })
}
