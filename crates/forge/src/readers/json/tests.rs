use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The sound records of a stream, and what is wrong with the others.
fn read_from(source: impl Read, limit: u64, named_lines: bool) -> (Vec<Value>, Vec<String>) {
    let (mut sound, mut bad) = (Vec::new(), Vec::new());
    for record in Records::new(source, limit, named_lines) {
        match record {
            Ok(Raw { position, bytes }) => match parse(Path::new("f"), position, &bytes) {
                Ok(value) => sound.push(value),
                Err(record) => bad.push(record.to_string()),
            },
            Err(flaw) => bad.push(format!("{}: {}", flaw.position.place(Path::new("f")), flaw.reason)),
        }
    }
    (sound, bad)
}

fn read(text: &str) -> (Vec<Value>, Vec<String>) {
    read_from(text.as_bytes(), 10_000, false)
}

/// The values under `n` of sound records.
fn numbers(sound: &[Value]) -> Vec<i64> {
    sound.iter().map(|value| value["n"].as_i64().unwrap_or(-1)).collect()
}

#[test]
fn records_are_told_by_content_however_they_are_arranged() {
    for text in [
        "{\"n\":1}\n{\"n\":2}\n\n  {\"n\":3}",
        "[{\"n\":1},{\"n\":2},{\"n\":3}]",
        "[\n  {\n    \"n\": 1\n  },\n  {\n    \"n\": 2\n  },\n  {\n    \"n\": 3\n  }\n]\n",
        "{\n \"n\": 1\n}\n{\n \"n\": 2\n} {\"n\": 3}",
        "\u{feff}[{\"n\":1}]\n[{\"n\":2},\n{\"n\":3}]",
        "\u{feff}{\"n\":1}\r\n{\"n\":2}\r\n{\"n\":3}\r\n",
    ] {
        let (sound, bad) = read(text);
        assert_eq!((numbers(&sound), bad), (vec![1, 2, 3], vec![]), "{text}");
    }
    assert_eq!(read("{\"n\": {\n\"a\": [1]}}"), (vec![json!({"n": {"a": [1]}})], vec![]));
    assert_eq!(read(" \n [ ] \n"), (vec![], vec![]));
    assert_eq!(read(""), (vec![], vec![]));
}

#[test]
fn an_array_on_each_line_is_a_record_a_line() {
    assert_eq!(read("[1, 2]\n[3]\n").0, vec![json!([1, 2]), json!([3])]);
}

#[test]
fn a_broken_line_of_json_lines_costs_itself_alone_even_the_first() {
    let (sound, bad) = read_from(&b"{\"n\": 1\n{\"n\":2}\n{\"n\": oops}\n{\"n\":4}\n"[..], 100, true);
    assert_eq!(numbers(&sound), [2, 4]);
    assert_eq!(bad, ["f:1:7: not JSON: EOF while parsing an object", "f:3:7: not JSON: expected value"]);
}

/// Three elements, of which the second is `broken`, in the layout that most files have.
fn indented(broken: &str) -> String {
    format!(
        "[\n  {{\n    \"n\": 1,\n    \"list\": [\n      {{\"x\": 1}}\n    ]\n  }},\n{broken}\n  {{\n    \"n\": 3\n  }}\n]\n"
    )
}

#[test]
fn a_broken_element_is_one_bad_record_at_the_place_of_its_error() {
    for (broken, expected) in [
        ("  {\n    \"n\": 2,\n  },", "f:10:3: not JSON: trailing comma"),
        ("  {\n    \"n\": \u{201c}two\u{201d}\n  },", "f:9:10: not JSON: expected value"),
        ("  {\n    \"n\": 2\n    \"m\": 3\n  },", "f:10:5: not JSON: expected `,` or `}`"),
        ("  {\n    \"n\" 2\n  },", "f:9:9: not JSON: expected `:`"),
        (
            "  {\n    \"n\": \"two\n  },",
            "f:9:14: not JSON: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        (
            "  {\n    \"n: 2,\n    \"m\": 1\n  },",
            "f:9:11: not JSON: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        ("  {\n    \"n\": [1, 2\n  },", "f:10:3: not JSON: expected `,` or `]`"),
        ("  {\n    \"n\": {\"m\": \"a\"\n  },", "f:10:3: not JSON: EOF while parsing an object"),
        ("  {\n    \"n\": 2,\n", "f:9:10: not JSON: EOF while parsing an object"),
        ("  {\n    \"n\": [{\"a\": 2,\n", "f:9:17: not JSON: EOF while parsing an object"),
        ("  {\n    \"n\": [{\"a\": 2},\n", "f:9:18: not JSON: EOF while parsing a list"),
        ("  {\n    \"n\": NaN\n  },", "f:9:10: not JSON: expected value"),
        ("  {\n    'n': 'it{s'\n  },", "f:9:5: not JSON: key must be a string"),
        ("  {\n    \"n\": 1e999\n  },", "f:9:14: not JSON: number out of range"),
        ("  {\n    \"n\": \"\\ud800\"\n  },", "f:9:17: not JSON: unexpected end of hex escape"),
        (
            "  {\n    \"n\": \"\0\"\n  },",
            "f:9:11: not JSON: control character (\\u0000-\\u001F) found while parsing a string",
        ),
        ("  {\n    \"n\": 2 // two\n  },", "f:9:12: not JSON: expected `,` or `}`"),
        ("  oops,", "f:8:3: found `oops`, expected a value"),
        ("  \"key\": {\"n\": 2},", "f:8:3: found the key \"key\" outside of an object"),
    ] {
        let (sound, bad) = read(&indented(broken));
        assert_eq!(numbers(&sound), [1, 3], "{broken}\n{bad:?}");
        assert_eq!(bad, [expected], "{broken}");
    }
}

#[test]
fn a_comma_too_many_or_too_few_costs_no_element() {
    let object = "  {\n    \"n\": 2\n  }";
    for (broken, expected) in [
        (object.to_owned(), "f:11:3: found `{`, expected `,` or `]`"),
        (format!("{object},,"), "f:10:5: found `,`, expected an element"),
        (format!("[\n{object},"), "f:8:1: found `[`, expected `{` as the elements before begin"),
        (format!("{object}}},"), "f:10:4: found `}`, expected `,` or `]`"),
    ] {
        let (sound, bad) = read(&indented(&broken));
        assert_eq!((numbers(&sound), bad), (vec![1, 2, 3], vec![expected.to_owned()]), "{broken}");
    }
    assert_eq!(
        read("[{\"n\":1},\n]"),
        (vec![json!({"n": 1})], vec!["f:2:1: a comma before `]`: expected an element".to_owned()])
    );
}

#[test]
fn a_bracket_that_is_missing_around_the_elements_is_reported_once() {
    let (sound, bad) = read("{\n \"n\": 1\n},\n{\n \"n\": 2\n},\n{\n \"n\": 3\n}\n]");
    assert_eq!(
        (numbers(&sound), bad),
        (vec![1, 2, 3], vec!["f:3:2: a comma between values that no `[` opens".to_owned()])
    );
    let (sound, bad) = read("[\n{\"n\": 1},\n{\"n\": 2}\n");
    let expected = "f:4:1: the array that begins at 1:1 does not end: expected `,` or `]`".to_owned();
    assert_eq!((numbers(&sound), bad), (vec![1, 2], vec![expected]));
    let (sound, bad) = read("[{\"n\": 1}, {\"n\": 2}]]");
    assert_eq!((numbers(&sound), bad), (vec![1, 2], vec!["f:1:21: `]` closes nothing: expected a value".to_owned()]));
}

#[test]
fn in_an_array_on_one_line_a_missing_quote_does_not_reach_the_end() {
    let (sound, bad) = read("[{\"n\":1},{\"n\":\"x},{\"n\":3},{\"n\":4}]");
    assert_eq!(numbers(&sound), [1, 3, 4], "{bad:?}");
    assert_eq!(bad.len(), 1, "{bad:?}");
    let (sound, bad) = read("[{\"n\":1},{\"n\":2,{\"n\":3},{\"n\":4}]");
    assert_eq!((numbers(&sound), bad.len()), (vec![1, 3, 4], 1), "{bad:?}");
}

#[test]
fn elements_that_are_not_indented_inside_are_not_taken_apart() {
    let text = "[\n{\n\"n\": 1,\n\"list\": [\n{\n\"x\": 1\n},\n{\n\"x\": 2\n}\n]\n},\n{\n\"n\": 2,\n\"list\": [\n{\n\"x\": 1,\n},\n{\n\"x\": 2\n}\n]\n},\n{\n\"n\": 3\n}\n]";
    let (sound, bad) = read(text);
    assert_eq!((numbers(&sound), bad), (vec![1, 3], vec!["f:18:1: not JSON: trailing comma".to_owned()]));
}

#[test]
fn an_element_over_the_limit_is_let_go_and_the_next_is_read() {
    let long = "y".repeat(600_000);
    for text in [
        format!("[{{\"n\":1}},{{\"n\":\"{long}\"}},{{\"n\":3}}]"),
        format!("[\n  {{\"n\":1}},\n  {{\"n\":\"{long}\"}},\n  {{\"n\":3}}\n]"),
        format!("{{\"n\":1}}\n{{\"n\":\"{long}\"}}\n{{\"n\":3}}\n"),
    ] {
        let (sound, bad) = read_from(text.as_bytes(), 1000, false);
        assert_eq!(numbers(&sound), [1, 3], "{bad:?}");
        assert_eq!(bad.len(), 1);
        assert!(bad[0].ends_with(": record over the limit of 1000 bytes (max_bytes, --max-file-bytes)"), "{bad:?}");
    }
}

#[test]
fn nesting_without_end_is_refused_without_a_deep_stack() {
    let deep = format!("[{{\"n\":1}},{}{},{{\"n\":3}}]", "[".repeat(200_000), "]".repeat(200_000));
    let (sound, bad) = read_from(deep.as_bytes(), 1_000_000, false);
    assert_eq!((numbers(&sound), bad), (vec![1, 3], vec!["f:1:137: not JSON: recursion limit exceeded".to_owned()]));
}

#[test]
fn what_is_no_json_at_all_is_one_bad_record() {
    let (sound, bad) = read("This is a README, not a list of records.\nIt has \"quotes\" and [brackets], too.\n");
    assert_eq!((sound.len(), bad.len()), (0, 1), "{bad:?}");
    assert_eq!(bad[0], "f:1:1: found `This`, expected a value");
    let (_, bad) = read_from(&b"\xff\xfe[\0{\0}\0]\0"[..], 100, false);
    assert_eq!(bad, ["f:1:1: UTF-16: expected UTF-8"]);
}

/// Hands out its bytes a few at a time, then fails.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::Error::other("the disk is gone"));
        }
        let count = self.0.len().min(buffer.len()).min(5);
        let (now, later) = self.0.split_at(count);
        buffer[..count].copy_from_slice(now);
        self.0 = later;
        Ok(count)
    }
}

#[test]
fn what_came_before_a_failure_is_kept() {
    for text in ["{\"n\":1}\n{\"n\":2}\n{\"n\":", "[{\"n\":1},\n{\"n\":2},\n{\"n\":", "[{\"n\":1},{\"n\":2}"] {
        let (sound, bad) = read_from(Failing(text.as_bytes()), 100, false);
        assert_eq!(numbers(&sound), [1, 2], "{text}");
        assert_eq!(bad.len(), 1, "{bad:?}");
        assert!(bad[0].ends_with("the disk is gone"), "{bad:?}");
    }
}

fn apizoo() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/agent/apizoo");
    let mut files: Vec<_> = fs_err::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    Some(files)
}

#[test]
fn every_bad_file_of_apizoo_is_reported_with_its_place_and_every_sound_record_is_read() {
    let Some(files) = apizoo() else {
        let test = "every_bad_file_of_apizoo_is_reported_with_its_place_and_every_sound_record_is_read";
        crate::skipped(test, "agent/apizoo of the shared data is absent");
        return;
    };
    let mut report = String::new();
    for path in files {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = fs_err::read(&path).unwrap();
        let (sound, bad) = read_from(&bytes[..], 64 << 20, false);
        match serde_json::from_slice::<Vec<Value>>(&bytes) {
            Ok(all) => assert!(all == sound && bad.is_empty(), "{name}: {} of {}, {bad:?}", sound.len(), all.len()),
            Err(_) => {
                // Every record of these files is indented alike and names its author once.
                let text = String::from_utf8(bytes).unwrap();
                let records = text.matches("\"user_name\"").count();
                let elements = text.split("\n  {").skip(1);
                let parses = |element: &&str| {
                    let element = element.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, ',' | '[' | ']'));
                    serde_json::from_str::<Value>(&format!("{{{element}")).is_ok()
                };
                assert_eq!(sound.len(), elements.filter(parses).count(), "{name}: {bad:?}");
                let broken = bad.iter().filter(|bad| bad.contains("not JSON")).count();
                assert_eq!(sound.len() + broken, records, "{name}: {bad:#?}");
                let (count, first) = (sound.len(), bad[..bad.len().min(4)].join("\n  "));
                report += &format!("{name}: {count} sound, {} bad\n  {first}\n", bad.len());
            }
        }
    }
    insta::assert_snapshot!(report, @r"
    Gmail_API.json: 1 sound, 67 bad
      f:39:5: not JSON: trailing comma
      f:50:3: not JSON: trailing comma
      f:51:3: found `{`, expected `,` or `]`
      f:61:3: not JSON: trailing comma
    KubernetesAPI.JSON: 122 sound, 44 bad
      f:34:3: not JSON: trailing comma
      f:55:3: not JSON: trailing comma
      f:75:3: not JSON: trailing comma
      f:90:3: not JSON: trailing comma
    KubernetesPodPodTemplateAPI.json: 2 sound, 21 bad
      f:60:3: not JSON: trailing comma
      f:72:3: not JSON: trailing comma
      f:92:3: not JSON: trailing comma
      f:111:3: not JSON: trailing comma
    Salesforce API in REST Format.JSON: 6 sound, 121 bad
      f:76:3: not JSON: trailing comma
      f:88:3: not JSON: trailing comma
      f:100:3: not JSON: trailing comma
      f:111:3: not JSON: trailing comma
    ");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn nothing_makes_the_reader_panic_or_stall(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "{", "}", "[", "]", ",", ":", "\"", "\"n\"", "\"n\":1", "\n", "  ", "\\", "1", "true", "{\"n\":1}", "[1]",
                "},{\"n\":2}", "\n  {", "x", "é", "\0", "\u{feff}", "]]", ",,", "\t",
            ]),
            0..60,
        ),
        limit in 1_u64..60,
        lines in any::<bool>(),
    ) {
        let text = pieces.concat();
        let records = Records::new(text.as_bytes(), limit, lines).take(1000);
        let mut read = 0;
        for record in records {
            read += 1;
            if let Ok(raw) = record {
                // Up to the limit, and what it takes to see that it is over it.
                prop_assert!(raw.bytes.len() as u64 <= limit + 64, "{} bytes", raw.bytes.len());
            }
        }
        prop_assert!(read <= text.len() + 1);
    }

    #[test]
    fn sound_records_around_a_broken_one_are_read(
        cut in 1_usize..60, insert in prop::sample::select(vec!["", "\"", "}", "]", ",", "x"])
    ) {
        let broken = "  {\n    \"n\": 2,\n    \"a\": {\"b\": [1, \"two\"]},\n    \"c\": \"d\"\n  },";
        let cut = cut.min(broken.len() - 2);
        let mut changed = broken.to_owned();
        changed.replace_range(cut..=cut, insert);
        let (sound, bad) = read(&indented(&changed));
        let found = numbers(&sound);
        prop_assert_eq!(found.first(), Some(&1), "{}\n{:?}", &changed, &bad);
        prop_assert_eq!(found.last(), Some(&3), "{}\n{:?}", &changed, &bad);
    }
}
