//! The grouping against a model of it, against DuckDB, and against planted near-duplicates.

use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use proptest::prelude::*;

use super::group::{Cluster, grouped};
use super::spill::Limits;
use super::*;

#[path = "../../benches/duplicates/planted.rs"]
mod planted;

use planted::{Numbers, chance, originals, plant, similarity};

/// Document, the one it goes for, and whether it equals one before.
type Gone = (i64, i64, bool);

fn signature(content: u64, bands: &[u64]) -> Signature {
    Signature { content: Some(u128::from(content) << 64 | u128::from(content)), bands: bands.to_vec() }
}

/// Writes signatures in files of `each` documents; a file is a part.
fn signed(folder: &Path, documents: &[Signature], each: usize) -> Vec<PathBuf> {
    let write = |(part, documents): (usize, &[Signature])| {
        let path = folder.join(format!("signatures-{part:03}.parquet"));
        let mut writer = SignatureWriter::create(&path).unwrap();
        for (number, signature) in documents.iter().enumerate() {
            writer.push(document_id(part as u32, number as u32), signature).unwrap();
        }
        writer.finish().unwrap();
        path
    };
    documents.chunks(each).enumerate().map(write).collect()
}

fn gone(path: &Path, parts: usize) -> Vec<Gone> {
    let dropped = Dropped::open(path).unwrap();
    let of = |part: usize| {
        let part = part as u32;
        let whole = move |(number, kept, exact)| (document_id(part, number), kept, exact);
        dropped.of_part(part).unwrap().into_iter().map(whole)
    };
    (0..parts).flat_map(of).collect()
}

/// The rule, spelled out: every document against every one before it.
fn model(documents: &[(i64, Signature)]) -> (Vec<Gone>, Summary) {
    let mut gone = Vec::new();
    for (at, (id, signature)) in documents.iter().enumerate() {
        let same = |other: &Signature| signature.content == other.content;
        let alike = |other: &Signature| same(other) || signature.bands.iter().zip(&other.bands).any(|(a, b)| a == b);
        if let Some((kept, _)) = documents[..at].iter().find(|(_, other)| alike(other)) {
            gone.push((*id, *kept, documents[..at].iter().any(|(_, other)| same(other))));
        }
    }
    let target: BTreeMap<i64, i64> = gone.iter().map(|(id, kept, _)| (*id, *kept)).collect();
    let mut members = BTreeMap::<i64, u64>::new();
    for (id, ..) in &gone {
        let mut root = *id;
        while let Some(further) = target.get(&root) {
            root = *further;
        }
        *members.entry(root).or_insert(1) += 1;
    }
    let mut summary =
        Summary { documents: documents.len() as u64, clusters: members.len() as u64, ..Summary::default() };
    summary.exact = gone.iter().filter(|(.., exact)| *exact).count() as u64;
    summary.near = gone.len() as u64 - summary.exact;
    members.values().for_each(|size| *summary.sizes.entry(*size).or_default() += 1);
    summary.largest = members.into_iter().map(|(root, size)| Cluster { root, size }).collect();
    summary.largest.sort_by_key(|cluster| (std::cmp::Reverse(cluster.size), cluster.root));
    summary.largest.truncate(20);
    (gone, summary)
}

fn numbered(documents: &[Signature], each: usize) -> Vec<(i64, Signature)> {
    let id = |at: usize| document_id((at / each) as u32, (at % each) as u32);
    documents.iter().enumerate().map(|(at, signature)| (id(at), signature.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn grouping_finds_what_comparing_every_document_with_every_one_before_finds(
        documents in prop::collection::vec((0_u64..40, prop::collection::vec(0_u64..30, 0..4)), 0..120),
        each in 1_usize..50,
        threads in 1_usize..4,
        chunk in 1_usize..3000,
        runs in 2_usize..5,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let documents: Vec<_> = documents.iter().map(|(content, bands)| signature(*content, bands)).collect();
        let mut files = signed(folder.path(), &documents, each);
        files.reverse();
        let output = folder.path().join("duplicates.parquet");
        let limits = Limits::exactly(threads, 5, chunk, 200, runs);
        let summary = grouped(&files, folder.path(), &output, &limits).unwrap();
        let expected = model(&numbered(&documents, each));
        prop_assert_eq!((gone(&output, files.len()), summary), expected);
        prop_assert!(!folder.path().join("grouping").exists());
    }
}

/// Documents in chains and in one bucket that holds half of them all.
fn skewed(count: usize) -> Vec<Signature> {
    let mut numbers = Numbers(3);
    (0..count as u64)
        .map(|at| {
            let hot = if numbers.below(2) == 0 { 7 } else { 1000 + at };
            signature(numbers.below(4 * count) as u64, &[hot, at / 2, at.div_ceil(2)])
        })
        .collect()
}

#[test]
fn neither_threads_nor_memory_nor_what_a_killed_run_left_change_a_byte_of_the_grouping() {
    let folder = tempfile::tempdir().unwrap();
    let files = signed(folder.path(), &skewed(20_000), 3_000);
    let again = tempfile::tempdir().unwrap();
    for (one, other) in files.iter().zip(signed(again.path(), &skewed(20_000), 3_000)) {
        assert_eq!(fs_err::read(one).unwrap(), fs_err::read(other).unwrap(), "signatures of the same documents");
    }
    let left = folder.path().join("grouping");
    fs_err::create_dir(&left).unwrap();
    fs_err::write(left.join("rows-000.run-0"), "left by a run that was killed").unwrap();
    let mut results = Vec::new();
    for (threads, partitions, chunk, runs) in [(1, 1, 1 << 30, 64), (3, 7, 5_000, 3), (2, 64, 100_000, 64)] {
        let output = folder.path().join(format!("duplicates-{threads}.parquet"));
        let limits = Limits::exactly(threads, partitions, chunk, 10_000, runs);
        let summary = grouped(&files, folder.path(), &output, &limits).unwrap();
        results.push((fs_err::read(&output).unwrap(), summary));
    }
    let output = folder.path().join("duplicates.parquet");
    let summary = group(&files, folder.path(), &output, 0).unwrap();
    results.push((fs_err::read(&output).unwrap(), summary));
    assert!(results.windows(2).all(|two| two[0] == two[1]));
    // Chains of 20,000 documents have one root, as every document shares a band with its neighbour.
    assert_eq!((results[0].1.clusters, results[0].1.sizes.clone()), (1, BTreeMap::from([(20_000, 1)])));
}

#[test]
fn memory_keeps_to_its_bound_on_input_of_many_times_its_size_even_where_one_bucket_holds_half_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let files = signed(folder.path(), &skewed(60_000), 10_000);
    let (threads, chunk, buffers) = (2, 100_000, 50_000);
    let input = 60_000 * 4 * 32;
    for partitions in [1, 16] {
        let limits = Limits::exactly(threads, partitions, chunk, buffers, 4);
        grouped(&files, folder.path(), &folder.path().join("duplicates.parquet"), &limits).unwrap();
        let bound = threads * (chunk + buffers);
        assert!(bound * 20 < input);
        assert!((chunk..=bound).contains(&limits.peak()), "{} of {bound} bytes", limits.peak());
    }
}

#[test]
fn a_table_has_its_name_once_it_is_whole_and_is_hidden_before() {
    let folder = tempfile::tempdir().unwrap();
    let names = || -> Vec<_> {
        let entries = fs_err::read_dir(folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let mut writer = SignatureWriter::create(&folder.path().join("part.parquet")).unwrap();
    writer.push(1, &signature(1, &[2])).unwrap();
    assert_eq!(names(), [".part.parquet.tmp"]);
    writer.finish().unwrap();
    assert_eq!(names(), ["part.parquet"]);
    assert!(Dropped::open(&folder.path().join("no.parquet")).unwrap_err().to_string().contains("no.parquet"));
}

/// Groups with a Python module that runs [`SQL`], and by ourselves, and compares. `program` is given the folder of
/// signatures, the statement and where its result goes.
fn elsewhere(test: &str, module: &str, program: &str) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let imports = Command::new(&python).args(["-c", &format!("import {module}")]).output();
    if !imports.is_ok_and(|output| output.status.success()) {
        crate::skipped(test, &format!("{} cannot import {module}", python.display()));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut numbers = Numbers(4);
    let mut documents = skewed(2_000);
    documents.extend((0..10_000).map(|at| {
        let bands: Vec<u64> = (0..14).map(|_| numbers.below(100_000) as u64 | 1 << 63).collect();
        signature(numbers.below(9_000) as u64 | 1 << 63, if at % 5 == 0 { &[] } else { &bands })
    }));
    let signatures = folder.path().join("signatures");
    fs_err::create_dir(&signatures).unwrap();
    let files = signed(&signatures, &documents, 5_000);
    let ours = folder.path().join("ours.parquet");
    group(&files, folder.path(), &ours, 1 << 26).unwrap();
    let theirs = folder.path().join("theirs.parquet");
    let output = Command::new(&python)
        .args(["-c", program])
        .args([signatures.as_path(), Path::new(SQL), &theirs])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (ours, theirs) = (gone(&ours, files.len()), gone(&theirs, files.len()));
    assert!(ours.len() > 3_000 && ours.iter().any(|(.., exact)| *exact) && ours.iter().any(|(.., exact)| !exact));
    assert_eq!(ours, theirs);
    assert_eq!(ours, model(&numbered(&documents, 5_000)).0);
}

#[test]
fn duckdb_runs_the_sql_and_finds_the_same_and_what_it_writes_is_read_as_our_own() {
    let program = "import sys, duckdb
signatures, sql, output = sys.argv[1:]
duckdb.sql(f\"CREATE VIEW signatures AS SELECT * FROM read_parquet('{signatures}/*.parquet')\")
duckdb.sql(f\"COPY ({sql}) TO '{output}' (FORMAT parquet)\")";
    elsewhere("duckdb_runs_the_sql_and_finds_the_same_and_what_it_writes_is_read_as_our_own", "duckdb", program);
}

#[test]
fn spark_runs_the_sql_and_finds_the_same_and_what_it_writes_is_read_as_our_own() {
    let program = "import sys
from pyspark.sql import SparkSession
signatures, sql, output = sys.argv[1:]
spark = SparkSession.builder.master('local[2]').config('spark.ui.enabled', False).getOrCreate()
spark.read.parquet(signatures).createOrReplaceTempView('signatures')
spark.sql(sql).write.parquet(output)";
    elsewhere("spark_runs_the_sql_and_finds_the_same_and_what_it_writes_is_read_as_our_own", "pyspark", program);
}

#[test]
fn planted_near_duplicates_are_found_as_often_as_theory_says_and_nothing_else_is() {
    let settings = Settings::default();
    let (rates, originals) = ([0, 2, 5, 10, 20, 30], originals());
    let planted = plant(&originals, &rates);
    let signer = Signer::new(&settings);
    let signatures: Vec<_> = planted.iter().map(|one| signer.sign(&one.text)).collect();
    let folder = tempfile::tempdir().unwrap();
    let files = signed(folder.path(), &signatures, originals.len());
    let output = folder.path().join("duplicates.parquet");
    group(&files, folder.path(), &output, 1 << 26).unwrap();
    let gone: BTreeMap<i64, (i64, bool)> =
        gone(&output, files.len()).into_iter().map(|(id, kept, exact)| (id, (kept, exact))).collect();
    let ids = numbered(&signatures, originals.len());
    let number: BTreeMap<i64, usize> = ids.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
    let wrong = gone.iter().filter(|(id, (kept, _))| planted[number[id]].original != planted[number[kept]].original);
    assert_eq!(wrong.count(), 0, "documents that go for one they do not come from");
    let words = |text: &str| {
        let mut all = Vec::new();
        words::words(text, &mut |word| all.push(word));
        all
    };
    for rate in rates {
        let (mut pairs, mut shared, mut expected, mut variance) = (0.0, 0.0, 0.0, 0.0);
        for (one, signature) in planted.iter().zip(&signatures).filter(|(one, _)| one.rate == Some(rate)) {
            let original = &planted[one.original].text;
            let alike = similarity(&words(&one.text), &words(original), settings.words as usize);
            let chance = chance(alike, settings.bands, settings.rows);
            let found = signature.bands.iter().zip(&signatures[one.original].bands).any(|(a, b)| a == b);
            pairs += 1.0;
            shared += f64::from(u8::from(found));
            expected += chance;
            variance += chance * (1.0 - chance);
        }
        // Four standard deviations: nothing is random but the seed, and one in 16,000 seeds would fail.
        let off: f64 = shared - expected;
        assert!(off.abs() <= 4.0 * f64::sqrt(variance) + 1e-9, "{rate} %: {shared} of {pairs}, expected {expected:.1}");
        let least = match rate {
            0 => 1.0,
            2 => 0.9,
            _ => 0.0,
        };
        assert!(shared >= least * pairs, "{rate} %: {shared} of {pairs}");
    }
}

/// Calls `look` with every file that differs from the one at `path` in one byte, and with every beginning of it.
fn damaged(path: &Path, look: impl Fn(&Path)) {
    let whole = fs_err::read(path).unwrap();
    // In place: a file that is cut to nothing and written again is flushed each time.
    let mut file = fs_err::OpenOptions::new().write(true).open(path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, byte) in whole.iter().enumerate() {
        for change in [0x01, 0x80, 0xff] {
            put(at, byte ^ change);
            look(path);
        }
        put(at, *byte);
    }
    for at in (0..whole.len()).rev() {
        file.set_len(at as u64).unwrap();
        look(path);
    }
}

#[test]
fn a_damaged_file_is_refused_or_read_and_never_a_panic() {
    let folder = tempfile::tempdir().unwrap();
    let files = signed(folder.path(), &skewed(40), 40);
    let output = folder.path().join("duplicates.parquet");
    group(&files, folder.path(), &output, 0).unwrap();
    damaged(&output, |path| drop(Dropped::open(path).and_then(|dropped| dropped.of_part(0))));
    damaged(&files[0], |path| {
        let chunks = signatures::chunks(&[path.to_owned()]).unwrap_or_default();
        for chunk in chunks {
            let mut rows = 0_u64;
            let read = signatures::rows(path, chunk.group, &mut |_| {
                rows += 1;
                Ok(())
            });
            // What is read whole has as many rows as the footer says, or the damage was to the footer's number.
            assert!(read.is_err() || rows <= 160, "{rows} rows");
        }
    });
}
