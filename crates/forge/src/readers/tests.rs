use std::sync::Arc as Shared;

use proptest::prelude::*;

use super::*;

/// What a reader makes of all of an input, in one part.
fn read(reader: &Reader) -> (Vec<Document>, Vec<BadRecord>) {
    let slices = reader.list().unwrap().slices();
    read_slices(reader, &slices)
}

fn read_slices(reader: &Reader, slices: &[Slice]) -> (Vec<Document>, Vec<BadRecord>) {
    let (mut sound, mut bad) = (Vec::new(), Vec::new());
    for unit in reader.units(slices) {
        match unit.map(|unit| reader.documents(&unit)) {
            Ok(documents) => documents.into_iter().for_each(|document| match document {
                Ok(document) => sound.push(document),
                Err(record) => bad.push(record),
            }),
            Err(record) => bad.push(record),
        }
    }
    (sound, bad)
}

fn contents(documents: &[Document]) -> Vec<&Content> {
    documents.iter().map(|document| &document.content).collect()
}

use crate::document::Content;

fn jsonl(folder: &Path) -> Reader {
    Reader::new(Input::new(Kind::Jsonl, &[folder.to_owned()]))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn parts_cut_anywhere_hold_the_same_documents_as_one_part(
        lengths in prop::collection::vec(0_usize..80, 1..60), bytes in 1_u64..600, broken in 0_usize..60,
    ) {
        let folder = tempfile::tempdir().unwrap();
        for (file, lengths) in lengths.chunks(20).enumerate() {
            let line = |(at, length): (usize, &usize)| match at {
                at if at == broken => "{\"text\": oops}\n\n".to_owned(),
                at => format!("  {{\"text\": \"{at} {}\"}}\n", "é".repeat(*length)),
            };
            let text: String = lengths.iter().enumerate().map(line).collect();
            fs_err::write(folder.path().join(format!("{file}.jsonl")), text).unwrap();
        }
        let reader = jsonl(folder.path());
        let listing = reader.list().unwrap();
        let parts = reader.parts(&listing, bytes).unwrap();
        let (whole, bad) = read(&reader);
        let (mut cut, mut cut_bad) = (Vec::new(), 0);
        for part in &parts {
            let (sound, bad) = read_slices(&reader, part);
            cut.extend(sound);
            cut_bad += bad.len();
        }
        prop_assert_eq!((contents(&whole), bad.len()), (contents(&cut), cut_bad));
        let held: u64 = parts.iter().flatten().map(|slice| slice.bytes).sum();
        prop_assert_eq!(held, listing.bytes);
        prop_assert!(parts.iter().all(|part| part.len() == 1 || part.iter().map(|slice| slice.bytes).sum::<u64>() <= bytes));
        prop_assert_eq!(&reader.parts(&listing, bytes).unwrap(), &parts);
        let written = serde_json::to_string(&parts).unwrap();
        prop_assert_eq!(serde_json::from_str::<Vec<Vec<Slice>>>(&written).unwrap(), parts);
    }
}

#[test]
fn packed_files_hold_what_plain_ones_do() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\": \"one\"}\n{\"text\": 2}\n{\"text\": \"three\"}\n".repeat(100);
    let mut read_as = Vec::new();
    for (name, bytes) in [
        ("a.jsonl", lines.clone().into_bytes()),
        ("a.jsonl.gz", stream::tests::gzip(lines.as_bytes())),
        ("a.jsonl.zst", zstd::encode_all(lines.as_bytes(), 3).unwrap()),
    ] {
        let inside = folder.path().join(name.replace('.', "_"));
        fs_err::create_dir_all(&inside).unwrap();
        fs_err::write(inside.join(name), bytes).unwrap();
        let (sound, bad) = read(&jsonl(&inside));
        assert_eq!((sound.len(), bad.len()), (200, 100), "{name}");
        assert!(bad[1].origin.ends_with(&format!("{name}:5")), "{}", bad[1]);
        read_as.push(contents(&sound).into_iter().cloned().collect::<Vec<_>>());
    }
    assert!(read_as.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_packed_stream_that_is_cut_off_is_a_bad_record_and_what_came_before_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    // Lines that do not pack well, so that many lie before the cut.
    let line =
        |n: u32| format!("{{\"text\": \"{:08x}{:08x}\"}}\n", n.wrapping_mul(2_654_435_761), n.wrapping_mul(40_503 * n));
    let lines: String = (0..20_000).map(line).collect();
    let packed = stream::tests::gzip(lines.as_bytes());
    fs_err::write(folder.path().join("x.jsonl.gz"), &packed[..packed.len() / 2]).unwrap();
    let (sound, bad) = read(&jsonl(folder.path()));
    assert!(sound.len() > 5_000, "{}", sound.len());
    assert_eq!(bad.len(), 1);
    assert!(bad[0].reason.starts_with("gzip stream damaged or cut off after "), "{}", bad[0]);
    assert!(bad[0].origin.contains(&format!("x.jsonl.gz:{}:", sound.len() + 1)), "{}", bad[0]);
}

#[test]
fn a_range_inside_a_file_says_at_which_byte_a_record_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    fs_err::write(&path, "{\"text\": \"a\"}\n{\"text\": \"b\"}\n{\"text\": ?}\n").unwrap();
    let range = Range::Bytes { begin: 5, end: 40 };
    let slice = Slice { path: path.clone(), bytes: 35, range, module: None };
    let (sound, bad) = read_slices(&jsonl(folder.path()), &[slice]);
    assert_eq!(sound[0].origin, format!("{}@14", path.display()));
    assert_eq!(bad[0].origin, format!("{}@37", path.display()));
}

#[test]
fn a_file_that_changes_gives_the_listing_another_fingerprint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.jsonl");
    fs_err::write(&path, "{}\n").unwrap();
    let before = jsonl(folder.path()).list().unwrap().fingerprint();
    assert_eq!(before, jsonl(folder.path()).list().unwrap().fingerprint());
    fs_err::write(&path, "{}\n\n").unwrap();
    assert_ne!(before, jsonl(folder.path()).list().unwrap().fingerprint());
}

#[test]
fn progress_counts_every_byte_once_packed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let lines = "{\"text\": \"one\"}\n".repeat(50_000);
    fs_err::write(folder.path().join("a.jsonl"), &lines).unwrap();
    fs_err::write(folder.path().join("b.jsonl.gz"), stream::tests::gzip(lines.as_bytes())).unwrap();
    let reader = jsonl(folder.path());
    let listing = reader.list().unwrap();
    let slices = listing.slices();
    let counted: u64 = reader.units(&slices).map(|unit| unit.unwrap().bytes()).sum();
    assert_eq!(counted, listing.bytes);
}

/// A Parquet file of one string column under `text`, with row groups of `rows`.
fn parquet_file(path: &Path, texts: &[Option<&str>], rows: usize) {
    use ::parquet::data_type::{ByteArray, ByteArrayType};
    let schema = "message m { required int64 id; optional group doc { optional binary text (UTF8); } }";
    let schema = Shared::new(::parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = fs_err::File::create(path).unwrap().into_parts().0;
    let mut writer = ::parquet::file::writer::SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    for texts in texts.chunks(rows) {
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let ids: Vec<i64> = (0..).take(texts.len()).collect();
        column.typed::<::parquet::data_type::Int64Type>().write_batch(&ids, None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        let values: Vec<ByteArray> = texts.iter().flatten().map(|text| ByteArray::from(*text)).collect();
        let levels: Vec<i16> = texts.iter().map(|text| if text.is_some() { 2 } else { 0 }).collect();
        column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
    }
    writer.close().unwrap();
}

fn parquet_reader(path: &Path, field: &str) -> Reader {
    Reader::new(Input { field: Some(field.to_owned()), ..Input::new(Kind::Parquet, &[path.to_owned()]) })
}

#[test]
fn a_column_of_parquet_is_read_by_its_path_row_group_by_row_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let texts: Vec<String> = (0..500).map(|at| format!("text {at}")).collect();
    let rows: Vec<Option<&str>> =
        texts.iter().enumerate().map(|(at, text)| (at != 7).then_some(text.as_str())).collect();
    parquet_file(&path, &rows, 100);
    let reader = parquet_reader(&path, "doc.text");
    let (whole, bad) = read(&reader);
    assert_eq!((whole.len(), bad), (499, vec![]));
    assert_eq!(whole[7], Document::text(format!("{}#9", path.display()), "text 8"));
    let listing = reader.list().unwrap();
    let parts = reader.parts(&listing, 1).unwrap();
    assert_eq!(parts.len(), 5);
    let cut: Vec<Document> = parts.iter().flat_map(|part| read_slices(&reader, part).0).collect();
    assert_eq!(whole, cut);
    let (_, bad) = read(&parquet_reader(&path, "body"));
    assert!(bad[0].reason == "no column \"body\"; it has: id, doc.text (choose one with --field)", "{}", bad[0]);
    let (_, bad) = read(&parquet_reader(&path, "id"));
    assert!(bad[0].reason == "column \"id\" holds INT64, expected strings", "{}", bad[0]);
}

#[test]
fn a_damaged_parquet_file_gives_bad_records_and_never_ends_the_build() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.parquet");
    let texts: Vec<String> = (0..200).map(|at| format!("text {at}")).collect();
    let rows: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
    parquet_file(&path, &rows, 50);
    let sound = fs_err::read(&path).unwrap();
    let damaged = folder.path().join("y.parquet");
    let mut reported = 0;
    for at in (0..sound.len()).step_by(7) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0xa5;
        fs_err::write(&damaged, &bytes).unwrap();
        reported += usize::from(!read(&parquet_reader(&damaged, "doc.text")).1.is_empty());
        fs_err::write(&damaged, &sound[..at]).unwrap();
        assert_eq!(read(&parquet_reader(&damaged, "doc.text")).1.len(), 1, "cut at {at}");
    }
    assert!(reported > 20, "{reported}");
}
