//! What near-deduplication costs and finds, as Markdown: `cargo bench -p hephaestus-forge --bench duplicates`.
//!
//! - Grouping: documents with random bands, of which one in ten repeats an earlier one's; `-- group N` does only this, with N.
//! - Signing: the real data beside the checkout, on one core.
//! - Found: planted near-duplicates of Shakespeare, by how many of their words were edited.

mod planted;

use std::collections::BTreeMap;
use std::error::Error;
use std::hint::black_box;
use std::io::{Write, stdout};
use std::path::{Path, PathBuf};
use std::time::Instant;

use hephaestus_forge::duplicates::words::words;
use hephaestus_forge::duplicates::{Dropped, Settings, Signature, SignatureWriter, Signer, document_id, group};

use planted::{Numbers, chance, originals, plant, similarity};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Memory of the grouping, in bytes.
const MEMORY: u64 = 256 << 20;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "group") {
        return grouping(arguments.get(at + 1).ok_or("group N: a number of documents")?.parse()?);
    }
    // First, so that the most memory ever resident is the grouping's.
    grouping(1_000_000)?;
    signing()?;
    found()
}

fn grouping(count: usize) -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut numbers = Numbers(1);
    let (mut files, mut rows) = (Vec::new(), 0_u64);
    for part in 0..count.div_ceil(250_000) {
        let path = folder.path().join(format!("{part}.parquet"));
        let mut writer = SignatureWriter::create(&path)?;
        for number in 0..250_000.min(count - part * 250_000) {
            let seed = if numbers.below(10) == 0 { numbers.below(count) } else { part * 250_000 + number };
            let mut bands = Numbers(seed as u64);
            let signature = Signature {
                content: Some(u128::from(numbers.next()) << 64 | u128::from(numbers.next())),
                bands: (0..14).map(|_| bands.next()).collect(),
            };
            rows += 1 + signature.bands.len() as u64;
            writer.push(document_id(part as u32, number as u32), &signature)?;
        }
        writer.finish()?;
        files.push(path);
    }
    let bytes = files.iter().map(|file| Ok(file.metadata()?.len())).sum::<Outcome<u64>>()?;
    let (began, used) = (Instant::now(), processor());
    let summary = group(&files, folder.path(), &folder.path().join("duplicates.parquet"), MEMORY)?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), processor() - used);
    let mut out = stdout().lock();
    writeln!(
        out,
        "\n| documents | rows | signatures | threads | seconds | processor seconds | rows a processor second | left out | memory allowed | most resident |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|")?;
    writeln!(
        out,
        "| {} | {rows} | {} MB | {} | {seconds:.1} | {used:.1} | {:.2} M | {} | {} MB | {} |",
        summary.documents,
        bytes / 1_000_000,
        rayon::current_num_threads(),
        rows as f64 / used.max(0.01) / 1e6,
        summary.exact + summary.near,
        MEMORY / 1_000_000,
        resident(),
    )?;
    Ok(())
}

/// Seconds of processor time that this process has used, where the system says: on a machine that does other work too,
/// the measure that stands.
fn processor() -> f64 {
    let stat = fs_err::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the command's name in parentheses, user and system time are the 12th and 13th field, in hundredths (proc(5)).
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace().skip(11).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// The most memory that this process ever held, where the system says.
fn resident() -> String {
    let status = fs_err::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kilobytes.map_or("unknown".to_owned(), |kilobytes: u64| format!("{} MB", kilobytes * 1024 / 1_000_000))
}

/// Every file below a folder that is text.
fn texts(folder: &Path, all: &mut Vec<String>) -> Outcome {
    let mut paths: Vec<PathBuf> = fs_err::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            texts(&path, all)?;
        } else if let Ok(text) = String::from_utf8(fs_err::read(&path)?) {
            all.push(text);
        }
    }
    Ok(())
}

fn signing() -> Outcome {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let mut out = stdout().lock();
    writeln!(out, "\n| texts signed | texts | bytes a text | MB a second | MB a processor second |")?;
    writeln!(out, "|---|---|---|---|---|")?;
    let mut sets = vec![("prose in short documents", originals())];
    for (name, folder) in [("OpenAPI files whole", "agent/openapi"), ("API records, trajectories", "agent")] {
        let mut all = Vec::new();
        if data.join(folder).is_dir() {
            texts(&data.join(folder), &mut all)?;
        }
        if folder == "agent" {
            // As documents: pieces of about 4,000 bytes.
            let lines = all.iter().flat_map(|text| text.split_inclusive('\n'));
            let mut pieces = vec![String::new()];
            for line in lines {
                match pieces.last_mut() {
                    Some(last) if last.len() < 4_000 => last.push_str(line),
                    _ => pieces.push(line.to_owned()),
                }
            }
            all = pieces;
        }
        sets.push((name, all));
    }
    let signer = Signer::new(&Settings::default());
    for (name, texts) in sets {
        let bytes: usize = texts.iter().map(String::len).sum();
        let (began, used, mut signed) = (Instant::now(), processor(), 0);
        while signed < 100_000_000 && bytes > 0 {
            texts.iter().for_each(|text| drop(black_box(signer.sign(black_box(text)))));
            signed += bytes;
        }
        let rate = |seconds: f64| signed as f64 / seconds.max(0.01) / 1e6;
        let (seconds, used) = (rate(began.elapsed().as_secs_f64()), rate(processor() - used));
        writeln!(out, "| {name} | {} | {} | {seconds:.0} | {used:.0} |", texts.len(), bytes / texts.len().max(1))?;
    }
    Ok(())
}

fn found() -> Outcome {
    let settings = Settings::default();
    let (rates, originals) = ([0, 2, 5, 10, 20, 30], originals());
    let planted = plant(&originals, &rates);
    let signer = Signer::new(&settings);
    let folder = tempfile::tempdir()?;
    let (signatures, output) = (folder.path().join("0.parquet"), folder.path().join("duplicates.parquet"));
    let mut writer = SignatureWriter::create(&signatures)?;
    for (number, one) in planted.iter().enumerate() {
        writer.push(document_id(0, number as u32), &signer.sign(&one.text))?;
    }
    writer.finish()?;
    group(&[signatures], folder.path(), &output, MEMORY)?;
    let gone: BTreeMap<u32, i64> =
        Dropped::open(&output)?.of_part(0)?.into_iter().map(|(number, kept, _)| (number, kept)).collect();
    let list = |text: &str| {
        let mut all = Vec::new();
        words(text, &mut |word| all.push(word));
        all
    };
    let mut out = stdout().lock();
    writeln!(
        out,
        "\n| words edited | copies | mean similarity | left out | expected | left out for their own original or its copy |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for rate in rates {
        let (mut copies, mut alike, mut expected, mut dropped, mut right) = (0_u32, 0.0, 0.0, 0_u32, 0_u32);
        for (number, one) in planted.iter().enumerate().filter(|(_, one)| one.rate == Some(rate)) {
            let similar = similarity(&list(&one.text), &list(&originals[one.original]), settings.words as usize);
            copies += 1;
            alike += similar;
            expected += chance(similar, settings.bands, settings.rows);
            if let Some(kept) = gone.get(&(number as u32)) {
                dropped += 1;
                right += u32::from(planted[*kept as usize].original == one.original);
            }
        }
        let share = |part: f64| 100.0 * part / f64::from(copies);
        writeln!(
            out,
            "| {rate} % | {copies} | {:.3} | {:.1} % | {:.1} % | {right} of {dropped} |",
            alike / f64::from(copies),
            share(f64::from(dropped)),
            share(expected),
        )?;
    }
    let wrong = gone.keys().filter(|number| (**number as usize) < originals.len()).count();
    writeln!(out, "\nOriginals left out: {wrong} of {}.", originals.len())?;
    Ok(())
}
