//! What opening, seeking and loading cost.
//!
//! - `cargo bench --bench corpus`: a corpus that claims 100 B tokens, and the loader's throughput.
//! - `cargo bench --bench corpus -- write PREFIX`: writes the corpus of the throughput measurements.
//! - `cargo bench --bench corpus -- measure PREFIX split|best_fit SECONDS`: tokens a second that the loader delivers from
//!   it, as one number, for `peers/loader.py`.

use std::error::Error;
use std::hint::black_box;
use std::io::{BufWriter, Seek, SeekFrom, Write, stdout};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use hephaestus_core::corpus::batch::Batch;
use hephaestus_core::corpus::format::{MAGIC, TokenType};
use hephaestus_core::corpus::loader::{Loader, LoaderSettings, Position, Stage, key};
use hephaestus_core::corpus::permutation::mix;
use hephaestus_core::corpus::source::{Packing, Settings, Source};
use hephaestus_core::corpus::{ManifestInfo, Writer};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Documents of the corpus that claims 100 B tokens: 1 to 1999 tokens in each.
const DOCUMENTS: u64 = 100_000_000;

/// Tokens of the corpus that throughput is measured on; its end-of-document token; B rows of T tokens a step.
const MEASURED: usize = 50_000_000;
const END: u32 = 2;
const ROWS: u64 = 8;
const LENGTH: usize = 2048;

fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", prefix] => write_measured(Path::new(prefix)),
        ["measure", prefix, packing, seconds] => {
            let packing = if packing == "best_fit" { Packing::BestFit } else { Packing::Split };
            let rate = measure(loader(Path::new(prefix), packing)?, Duration::from_secs_f64(seconds.parse()?))?;
            Ok(writeln!(stdout(), "{rate:.0}")?)
        }
        // `cargo test` runs benches too: there it is enough that this one builds.
        [] if !std::env::args().any(|argument| argument == "--bench") => Ok(()),
        _ => {
            let mut criterion = Criterion::default().configure_from_args();
            let folder = tempfile::tempdir()?;
            huge(&mut criterion, folder.path())?;
            throughput(&mut criterion, folder.path())?;
            criterion.final_summary();
            Ok(())
        }
    }
}

/// Opening a corpus of 100 B tokens and seeking in it.
fn huge(criterion: &mut Criterion, folder: &Path) -> Outcome {
    let prefix = write_huge(folder)?;
    let settings = Settings {
        held_out: 0.01,
        packing: Packing::Split,
        length: 4096,
        end: Some(END),
        vocab_size: 32_000,
        document_mask: true,
    };
    let before = resident()?;
    let asked = Instant::now();
    let source = Source::open(&prefix, &settings)?;
    let (opened, grown) = (asked.elapsed(), resident()?.saturating_sub(before));
    let tokens = source.corpus().tokens() as f64 / 1e9;
    writeln!(stdout(), "{tokens:.1} B tokens: first opened in {opened:?}, {:.1} MiB more resident", mebibytes(grown))?;
    let (mut batch, mut taken) = (Batch::default(), Vec::new());
    for number in 0..10_000 {
        batch.clear();
        let asked = Instant::now();
        source.row(mix(&[number]) % source.rows(), &mut batch)?;
        taken.push(asked.elapsed());
    }
    taken.sort_unstable();
    let (median, late) = (taken[taken.len() / 2], taken[taken.len() * 99 / 100]);
    writeln!(stdout(), "10,000 random rows of 4096 tokens: median {median:?}, 99 of 100 within {late:?}")?;
    criterion.bench_function("open 100 B tokens", |bench| {
        bench.iter(|| black_box(Source::open(&prefix, &settings).map(|source| source.rows()).ok()));
    });
    let mut number = 0;
    criterion.bench_function("any row of 100 B tokens", |bench| {
        bench.iter(|| {
            batch.clear();
            number += 1;
            black_box(source.row(mix(&[number]) % source.rows(), &mut batch).is_ok())
        });
    });
    Ok(())
}

/// Batches from the background, one source, rows in shuffled order.
fn throughput(criterion: &mut Criterion, folder: &Path) -> Outcome {
    let prefix = folder.join("measured");
    write_measured(&prefix)?;
    let mut group = criterion.benchmark_group("loader");
    group.throughput(Throughput::Elements(ROWS * LENGTH as u64));
    for (name, packing) in [("split", Packing::Split), ("best fit", Packing::BestFit)] {
        let mut loader = loader(&prefix, packing)?;
        group.bench_function(name, |bench| {
            bench.iter(|| {
                if let Some(Ok(step)) = loader.next() {
                    loader.recycle(black_box(step));
                }
            });
        });
    }
    group.finish();
    Ok(())
}

fn loader(prefix: &Path, packing: Packing) -> Outcome<Loader> {
    let settings =
        Settings { held_out: 0.01, packing, length: LENGTH, end: None, vocab_size: 32_000, document_mask: true };
    let settings = LoaderSettings {
        sources: Arc::new(vec![Source::open(prefix, &settings)?]),
        keys: vec![key(0, "measured")],
        stages: vec![Stage { steps: 1 << 40, shares: vec![1.0] }],
        rows: ROWS,
        micro_rows: ROWS,
        rank: 0,
        world: 1,
        prefetch: 8,
    };
    Ok(Loader::start(settings, Position::start(1))?)
}

/// Tokens a second over `time`, after a warm-up as long as an epoch.
fn measure(mut loader: Loader, time: Duration) -> Outcome<f64> {
    let epoch = MEASURED / (ROWS as usize * LENGTH);
    for _ in 0..epoch {
        let step = loader.next().ok_or("an early end")??;
        loader.recycle(black_box(step));
    }
    let (begun, mut tokens) = (Instant::now(), 0);
    while begun.elapsed() < time {
        let step = black_box(loader.next().ok_or("an early end")??);
        tokens += step.micro.iter().map(|batch| batch.tokens.len()).sum::<usize>();
        loader.recycle(step);
    }
    Ok(tokens as f64 / begun.elapsed().as_secs_f64())
}

/// 100 M documents of 1000 tokens on average: offsets and boundaries are written, lengths and tokens are holes, which read as
/// 0 and cost no disk. Lengths are redundant: only the last one is looked at, and is there.
fn write_huge(folder: &Path) -> Outcome<PathBuf> {
    let prefix = folder.join("huge");
    let idx = fs_err::File::create(prefix.with_extension("idx"))?;
    let mut head = MAGIC.to_vec();
    head.extend(1_u64.to_le_bytes());
    head.push(4);
    head.extend(DOCUMENTS.to_le_bytes());
    head.extend((DOCUMENTS + 1).to_le_bytes());
    let offsets = head.len() as u64 + 4 * DOCUMENTS;
    idx.set_len(offsets + 8 * DOCUMENTS + 8 * (DOCUMENTS + 1))?;
    let length = |document: u64| 1 + mix(&[document]) % 1999;
    let mut to = BufWriter::with_capacity(1 << 20, idx);
    to.write_all(&head)?;
    to.seek(SeekFrom::Start(offsets - 4))?;
    to.write_all(&(length(DOCUMENTS - 1) as u32).to_le_bytes())?;
    let mut at = 0;
    for document in 0..DOCUMENTS {
        to.write_all(&(at * 4_u64).to_le_bytes())?;
        at += length(document);
    }
    for boundary in 0..=DOCUMENTS {
        to.write_all(&boundary.to_le_bytes())?;
    }
    to.flush()?;
    fs_err::File::create(prefix.with_extension("bin"))?.set_len(at * 4)?;
    Ok(prefix)
}

/// 50 M random tokens of a vocabulary of 32,000 in documents of log-normal length, median 500 and mean about 1000. Each ends
/// with an end-of-document token of the corpus's own, as Megatron-LM's loader needs it.
fn write_measured(prefix: &Path) -> Outcome {
    let mut state = 0;
    let mut random = || {
        state += 1;
        mix(&[state])
    };
    let mut writer = Writer::create(prefix, TokenType::U16)?;
    let mut written = 0;
    while written < MEASURED {
        // Box & Muller 1958.
        let [a, b] = [random(), random()].map(|bits| (bits >> 11) as f64 / (1_u64 << 53) as f64);
        let normal = (-2.0 * (1.0 - a).ln()).sqrt() * (std::f64::consts::TAU * b).cos();
        let length = (500.0 * (1.18 * normal).exp()).ceil() as usize;
        let mut tokens: Vec<u32> = (0..length).map(|_| 3 + (random() % 31_997) as u32).collect();
        tokens.push(END);
        writer.document(&tokens, None)?;
        written += tokens.len();
    }
    let info = ManifestInfo {
        source: "random".into(),
        tokenizer: "none".into(),
        vocab_size: 32_000,
        ..ManifestInfo::default()
    };
    writer.finish(info)?;
    Ok(())
}

/// Bytes of this process in memory.
fn resident() -> Outcome<u64> {
    let pages = fs_err::read_to_string("/proc/self/statm")?;
    Ok(pages.split(' ').nth(1).ok_or("no resident pages in /proc/self/statm")?.parse::<u64>()? * 4096)
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
