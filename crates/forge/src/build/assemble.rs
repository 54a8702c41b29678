//! Parts into corpora, and what was counted into the report.

use std::io::{BufReader, Read, Write as _};

use hephaestus_core::corpus::format::TokenType;
use hephaestus_core::corpus::{Manifest, ManifestInfo, Writer};
use hephaestus_core::whole::{self, Whole};
use hephaestus_core::progress;

use super::BuildError;
use super::gather::Gathered;
use super::plan::{Part, Plan};
use super::tokens::token_type;
use super::work::Work;
use crate::encode::Encoder;
use crate::recipe::Recipe;
use crate::report::{Report, Tally};

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
            TokenType::U16 => tokens.extend(raw.chunks_exact(2).map(|id| u32::from(u16::from_le_bytes([id[0], id[1]])))),
            TokenType::I32 => {
                tokens.extend(raw.chunks_exact(4).map(|id| u32::from_le_bytes([id[0], id[1], id[2], id[3]])));
            }
        }
        writer.document(&tokens, Some(&weights))?;
    }
    Ok(documents)
}

/// Writes the report, the list of bad records and the resolved recipe; returns the bytes of text kept.
pub(super) fn report(recipe: &Recipe, plan: &Plan, work: &Work, encoder: &Encoder) -> Result<u64, BuildError> {
    let mut tallies: Vec<Tally> = recipe.sources.iter().map(|_| Tally::default()).collect();
    let mut bad = Whole::create(&recipe.output.join("bad-records.txt"))?;
    for part in &plan.parts {
        let gathered: Gathered = work.read_json(&work.part("documents", part.number, "json"))?;
        for record in &gathered.bad {
            writeln!(bad, "{record}")?;
        }
        tallies[part.source].merge(&gathered.tally);
        tallies[part.source].merge(&work.read_json(&work.part("tokens", part.number, "json"))?);
    }
    bad.finish()?;
    let report = Report::new(recipe, plan, encoder.vocabulary(), tallies, work)?;
    report.write(&recipe.output)?;
    whole::write(&recipe.output.join("forge.yaml"), plan.recipe.as_bytes())?;
    match report.totals() {
        totals if totals.kept == 0 => Err(BuildError::Empty {
            read: totals.read,
            bad: totals.bad,
            report: recipe.output.join("report.md"),
        }),
        totals => Ok(totals.bytes),
    }
}
