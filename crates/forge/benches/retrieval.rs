//! What the retrieval classifier tells apart, and how fast it scores.
//!
//! - `cargo bench -p hephaestus-forge --bench retrieval`: trains it on what `../shared/data` and `.venv` hold, prints its
//!   evaluation, and measures scoring on one core.
//! - `cargo bench -p hephaestus-forge --bench retrieval -- write FOLDER`: writes the same documents as fastText reads them,
//!   `train.txt` and `test.txt`, for `benches/peers/fasttext_classifier.py`.

use std::error::Error;
use std::hint::black_box;
use std::io::{Write, stderr, stdout};
use std::path::{Path, PathBuf};

use criterion::{Criterion, Throughput};
use hephaestus_forge::readers::{Kind, Reader};
use hephaestus_forge::recipe::Input;
use hephaestus_forge::retrieval::{Classifier, Evaluation, Settings, TellingGram, plain};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    // `cargo test` runs benches too: there it is enough that this one builds.
    if !std::env::args().any(|argument| argument == "--bench") {
        return Ok(());
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    if !root.join("../shared/data/agent").exists() || !root.join(".venv/lib").exists() {
        return Ok(writeln!(stderr(), "SKIPPED retrieval: there is no ../shared/data or no .venv (make setup)")?);
    }
    let tasks = [easy(&root)?, hard(&root)?];
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let [write, folder] = &arguments[..]
        && write == "write"
    {
        return tasks.iter().try_for_each(|task| task.write(&Path::new(folder).join(task.name)));
    }
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    for task in &tasks {
        let classifier = task.show()?;
        let texts: Vec<&str> =
            task.positive.iter().chain(&task.negative).map(|member| looked_at(&member.text)).collect();
        let mut group = criterion.benchmark_group("score");
        group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
        group.bench_function(task.name, |b| {
            b.iter(|| texts.iter().map(|text| black_box(classifier.score(text))).sum::<f32>());
        });
        group.finish();
    }
    criterion.final_summary();
    Ok(())
}

/// The part of a text that the classifier looks at.
fn looked_at(text: &str) -> &str {
    &text[..text.floor_char_boundary(16_000)]
}

/// What is to be found, among what.
struct Task {
    name: &'static str,
    positive: Vec<Member>,
    negative: Vec<Member>,
}

/// A document, and what it is of: a package, or a file of many documents.
struct Member {
    of: String,
    text: String,
}

/// What documentation of APIs says, of every kind, among verse, source code and the prose of packages.
fn easy(root: &Path) -> Outcome<Task> {
    let agent = root.join("../shared/data/agent");
    let mut positive = Vec::new();
    for file in ["huggingface_api.jsonl", "torchhub_api.jsonl", "tensorflowhub_api.jsonl"] {
        for line in fs_err::read_to_string(agent.join("apibench").join(file))?.lines() {
            let text = serde_json::from_str(line).ok().map(|record| strings(&record));
            positive.extend(text.map(|text| Member { of: text.clone(), text }));
        }
    }
    for file in fs_err::read_dir(agent.join("openapi/twilio"))? {
        let path = file?.path();
        let document: Value = serde_json::from_slice(&fs_err::read(&path)?)?;
        let paths = document["paths"].as_object().into_iter().flat_map(|paths| paths.values());
        let texts = paths.filter_map(Value::as_object).flat_map(|path| path.values().map(strings));
        positive.extend(texts.map(|text| Member { of: path.display().to_string(), text }));
    }
    positive.extend(docstrings(root)?);
    let verse = fs_err::read_to_string(root.join("../shared/data/general/tinyshakespeare.txt"))?;
    let scenes: Vec<&str> = verse.split("\n\n").collect();
    let scenes = scenes.chunks(12).map(|scene| scene.join("\n\n"));
    let mut negative: Vec<Member> = scenes.map(|text| Member { of: text.clone(), text }).collect();
    negative.extend(read(Kind::PythonCode, &packages(root)?));
    negative.extend(read(Kind::PythonText, &packages(root)?));
    Ok(Task { name: "agent", positive, negative })
}

/// The docstrings of Python packages among the same packages' prose and the read-me files of Rust's: words about much the
/// same things.
fn hard(root: &Path) -> Outcome<Task> {
    let mut negative = read(Kind::PythonText, &packages(root)?);
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    negative.extend(read(Kind::Markdown, &home.ok_or("no home folder")?.join("registry/src")));
    Ok(Task { name: "prose", positive: docstrings(root)?, negative })
}

/// What Python's documentation pages say below their heading and signature, which any classifier would know them by.
fn docstrings(root: &Path) -> Outcome<Vec<Member>> {
    let mut pages = read(Kind::PythonDocs, &packages(root)?);
    for page in &mut pages {
        page.text = page.text.splitn(3, "```").nth(2).unwrap_or_default().trim().to_owned();
    }
    pages.retain(|page| !page.text.is_empty());
    Ok(pages)
}

/// The virtual environment's packages.
fn packages(root: &Path) -> Outcome<PathBuf> {
    let libraries = root.join(".venv/lib");
    let python = fs_err::read_dir(&libraries)?.next().ok_or("no Python in .venv/lib")??;
    Ok(python.path().join("site-packages"))
}

/// The texts of what a reader finds.
fn read(kind: Kind, path: &Path) -> Vec<Member> {
    let reader = Reader::new(Input::new(kind, &[path.to_owned()]));
    let Ok(listing) = reader.list() else { return Vec::new() };
    let slices = listing.slices();
    let units: Vec<_> = reader.units(&slices).flatten().collect();
    let documents = units.iter().flat_map(|unit| reader.documents(unit)).flatten();
    documents.map(|document| Member { of: package(&document.origin, path), text: plain(document) }).collect()
}

/// The package that a file or a qualified name belongs to.
fn package(origin: &str, folder: &Path) -> String {
    match Path::new(origin).strip_prefix(folder) {
        // Rust's packages lie in a folder for each registry.
        Ok(inside) => inside.components().take(2).filter_map(|part| part.as_os_str().to_str()).collect(),
        Err(_) => origin.split(['.', ':']).next().unwrap_or_default().to_owned(),
    }
}

/// Every string in a JSON value, a line each: no braces give it away.
fn strings(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(strings).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n"),
        Value::Object(map) => map.values().map(strings).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    }
}

impl Task {
    /// Documents of one class to learn from, or to test on: those of a fifth of the packages, of which none is learned from.
    fn part(&self, positive: bool, test: bool) -> impl Iterator<Item = String> + '_ {
        let texts = if positive { &self.positive } else { &self.negative };
        let chosen = move |member: &&Member| xxh3_64(member.of.as_bytes()).is_multiple_of(5) == test;
        texts.iter().filter(chosen).map(|member| member.text.clone())
    }

    /// Trains, and prints what came of it.
    fn show(&self) -> Outcome<Classifier> {
        let settings = Settings::new(Vec::new(), Vec::new());
        let start = std::time::Instant::now();
        let (classifier, evaluation) =
            Classifier::train(self.part(true, false), self.part(false, false), &settings, 0)?;
        let seconds = start.elapsed().as_secs_f64();
        let Evaluation { documents, epochs, threshold, roc_auc, average_precision, .. } = &evaluation;
        let mut out = stdout().lock();
        writeln!(out, "\n{}: {documents:?}", self.name)?;
        writeln!(out, "trained in {seconds:.1} s, {epochs} rounds; AUC {roc_auc:.4}, AP {average_precision:.4}")?;
        let scores = |positive| -> Vec<f32> { self.part(positive, true).map(|text| classifier.score(&text)).collect() };
        let (positive, negative) = (scores(true), scores(false));
        let kept = |scores: &[f32]| scores.iter().filter(|score| f64::from(**score) >= *threshold).count();
        let (right, wrong) = (kept(&positive), kept(&negative));
        let won = |p: &f32| {
            negative
                .iter()
                .map(|n| {
                    if p > n {
                        1.0
                    } else if p == n {
                        0.5
                    } else {
                        0.0
                    }
                })
                .sum::<f64>()
        };
        let (positives, negatives) = (positive.len(), negative.len());
        let area = positive.iter().map(won).sum::<f64>() / (positives as f64 * negatives as f64);
        let f1 = 2.0 * right as f64 / (right + wrong + positives) as f64;
        writeln!(out, "packages not learned from: AUC {area:.4}; at {threshold:.3}, ")?;
        writeln!(out, "{right} of {positives} positive kept, {wrong} of {negatives} negative; F1 {f1:.4}")?;
        for row in std::iter::once(&evaluation.chosen).chain(&evaluation.sweep) {
            let precision = row.precision.map_or("      -".to_owned(), |precision| format!("{precision:7.4}"));
            writeln!(out, "{:6.3} precision {precision} recall {:7.4} F1 {:7.4}", row.threshold, row.recall, row.f1)?;
        }
        let telling = &evaluation.telling;
        for (name, grams) in [
            ("positive words", &telling.positive_words),
            ("positive characters", &telling.positive_characters),
            ("negative words", &telling.negative_words),
            ("negative characters", &telling.negative_characters),
        ] {
            let text = |gram: &TellingGram| format!("{:?} {:.0}", gram.text, gram.weight);
            writeln!(out, "{name}: {}", grams.iter().map(text).collect::<Vec<_>>().join(", "))?;
        }
        Ok(classifier)
    }

    /// Writes what is learned from and what is tested on, a line a document behind its label.
    fn write(&self, folder: &Path) -> Outcome {
        fs_err::create_dir_all(folder)?;
        for (name, test) in [("train.txt", false), ("test.txt", true)] {
            let mut lines = String::new();
            for positive in [true, false] {
                for text in self.part(positive, test) {
                    let words: Vec<&str> = text.split_whitespace().collect();
                    lines += &format!("__label__{positive} {}\n", words.join(" "));
                }
            }
            fs_err::write(folder.join(name), lines)?;
        }
        Ok(())
    }
}
