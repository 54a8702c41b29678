//! Parts into corpora, and what was counted into the report.

use std::io::{BufReader, Read, Write as _};

use hephaestus_core::corpus::format::TokenType;
use hephaestus_core::corpus::{Manifest, ManifestInfo, Writer};
use hephaestus_core::progress;
use hephaestus_core::whole::{self, Whole};

use super::BuildError;
use super::gather::Gathered;
use super::plan::{Part, Plan};
use super::stored;
use super::tokens::{Tokenized, token_type};
use super::work::Work;
use crate::encode::Encoder;
use crate::recipe::Recipe;
use crate::report::{Classifier, Cluster, Duplicates, Figures, Report, SourceTally, Sweep};
use crate::retrieval::{Evaluation, Row, TellingGram};

/// Writes the corpora that are not in their places yet; a source of which nothing is left has none.
pub(super) fn corpora(
    recipe: &Recipe,
    plan: &Plan,
    work: &Work,
    encoder: &Encoder,
) -> Result<Vec<Manifest>, BuildError> {
    let mut manifests = Vec::new();
    let size = |part: &Part| fs_err::metadata(work.part("tokens", part.number, "bin")).map_or(0, |file| file.len());
    let bar = progress::bytes(plan.parts.iter().map(size).sum(), "writing");
    for (source, name) in recipe.sources.keys().enumerate() {
        let marker = work.folder().join("corpora").join(format!("{name}.json"));
        let parts: Vec<&Part> = plan.parts.iter().filter(|part| part.source == source).collect();
        if !marker.is_file() {
            let info = ManifestInfo {
                source: name.clone(),
                tokenizer: plan.tokenizer.clone(),
                vocab_size: encoder.vocabulary().size,
                recipe: plan.recipe.clone(),
            };
            let kind = token_type(info.vocab_size);
            let mut writer = Writer::create(&recipe.output.join(name), kind)?;
            let mut documents = 0;
            for part in &parts {
                documents += append(part, work, kind, &mut writer)?;
            }
            let manifest = if documents > 0 { Some(writer.finish(info)?) } else { None };
            work.write_json(&marker, &manifest)?;
        }
        bar.inc(parts.iter().map(|part| size(part)).sum());
        manifests.extend(work.read_json::<Option<Manifest>>(&marker)?);
    }
    bar.finish_and_clear();
    Ok(manifests)
}

/// Appends a part's documents to a corpus; returns how many.
fn append(part: &Part, work: &Work, kind: TokenType, writer: &mut Writer) -> Result<u64, BuildError> {
    let open = |extension: &str| -> std::io::Result<_> {
        Ok(BufReader::with_capacity(1 << 20, fs_err::File::open(work.part("tokens", part.number, extension))?))
    };
    let (mut bin, mut loss, mut lengths) = (open("bin")?, open("loss")?, open("len")?);
    let documents = fs_err::metadata(work.part("tokens", part.number, "len"))?.len() / 4;
    let (mut raw, mut tokens, mut weights) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..documents {
        let mut length = [0; 4];
        lengths.read_exact(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        raw.resize(length * kind.width() as usize, 0);
        weights.resize(length, 0);
        bin.read_exact(&mut raw)?;
        loss.read_exact(&mut weights)?;
        tokens.clear();
        match kind {
            TokenType::U16 => {
                tokens.extend(raw.chunks_exact(2).map(|id| u32::from(u16::from_le_bytes([id[0], id[1]]))))
            }
            TokenType::I32 => {
                tokens.extend(raw.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])));
            }
        }
        writer.document(&tokens, Some(&weights))?;
    }
    Ok(documents)
}

/// Writes the report, the list of bad records and the resolved recipe; returns what was counted.
pub(super) fn report(recipe: &Recipe, plan: &Plan, work: &Work) -> Result<Figures, BuildError> {
    let named = |name: &String| SourceTally { name: name.clone(), ..SourceTally::default() };
    let mut sources: Vec<SourceTally> = recipe.sources.keys().map(named).collect();
    let mut bad = Whole::create(&recipe.output.join("bad-records.txt"))?;
    for part in &plan.parts {
        let source = &mut sources[part.source];
        let gathered: Gathered = work.read_json(&work.part("documents", part.number, "json"))?;
        for record in &gathered.bad {
            writeln!(bad, "{record}")?;
        }
        let tokenized: Tokenized = work.read_json(&work.part("tokens", part.number, "json"))?;
        source.tally.merge(&gathered.tally);
        source.tally.merge(&tokenized.tally);
        source.exact.merge(tokenized.exact);
        source.near.merge(tokenized.near);
    }
    bad.finish()?;
    let title = recipe.output.file_name().map_or("corpora".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut report = Report::new(&title, &plan.recipe, &plan.tokenizer, &sources);
    report.duplicates = duplicates(work)?;
    report.classifiers = classifiers(recipe, work)?;
    report.write(&recipe.output)?;
    whole::write(&recipe.output.join("forge.yaml"), plan.recipe.as_bytes())?;
    Ok(report.total.figures)
}

/// Groups of duplicates, the largest with where their first document came from.
fn duplicates(work: &Work) -> Result<Duplicates, BuildError> {
    let Some(summary) = work.grouped()? else { return Ok(Duplicates::default()) };
    let mut found = Duplicates::default();
    for (size, clusters) in &summary.sizes {
        (0..*clusters).for_each(|_| found.add(*size));
    }
    for cluster in &summary.largest {
        let (part, number) = ((cluster.root >> 32) as u32, (cluster.root & 0xFFFF_FFFF) as usize);
        let mut documents = stored::read(&work.part("documents", part, "jsonl.zst"))?;
        let kept = documents.nth(number).transpose()?.map_or(String::new(), |stored| stored.origin);
        found.largest.push(Cluster { kept, documents: cluster.size });
    }
    Ok(found)
}

/// How the classifiers did on documents held out.
fn classifiers(recipe: &Recipe, work: &Work) -> Result<Vec<Classifier>, BuildError> {
    let one = |name: &String| {
        let evaluation: Evaluation = work.read_json(&work.folder().join("classifiers").join(format!("{name}.json")))?;
        Ok(shown(name, &evaluation))
    };
    recipe.classifiers.keys().map(one).collect()
}

fn shown(name: &str, evaluation: &Evaluation) -> Classifier {
    let row = |row: &Row| {
        let (taken, all) = (
            row.true_positive + row.false_positive,
            row.true_positive + row.false_positive + row.false_negative + row.true_negative,
        );
        Sweep {
            threshold: row.threshold,
            precision: row.precision.unwrap_or(1.0),
            recall: row.recall,
            f1: row.f1,
            kept: taken as f64 / all.max(1) as f64,
        }
    };
    let chosen = row(&evaluation.chosen);
    let telling = &evaluation.telling;
    let words = |grams: &[TellingGram]| grams.iter().map(|gram| gram.text.clone()).collect();
    Classifier {
        name: name.to_owned(),
        positive: evaluation.documents.positive.held_out,
        negative: evaluation.documents.negative.held_out,
        threshold: chosen.threshold,
        precision: chosen.precision,
        recall: chosen.recall,
        f1: chosen.f1,
        auc: evaluation.roc_auc,
        sweep: evaluation.sweep.iter().map(row).collect(),
        telling_for: words(&telling.positive_words),
        telling_against: words(&telling.negative_words),
    }
}
