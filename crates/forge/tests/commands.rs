//! The commands but for `build`: tokenizer, read, inspect, verify, and what they say of bad input.

use std::path::Path;
use std::process::Command as Program;

use tempfile::TempDir;

use crate::{PYTHON, SHARED, build, fail, recipe, sentences, skipped, succeed, with_tokenizer, write};

/// The texts that `read` prints.
fn texts(out: &str) -> Vec<String> {
    let value = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
    out.lines().map(|line| value(line)["text"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_corpus_goes_round_from_text_to_tokens_and_back() {
    let folder = with_tokenizer();
    write(&folder, "docs/b.txt", "second\n");
    write(&folder, "docs/a.txt", "first\n<|endoftext|> is only text here\n");
    write(&folder, "docs/empty.txt", " \n");
    let (_, err) = build(&folder, "prose", "{ reader: text, paths: [docs] }");
    assert!(err.contains("2 documents"), "{err}");
    let (out, _) = succeed(&folder, &["inspect", "prose", "--tokenizer", "tok"]);
    let first = out.find("first\n<|endoftext|> is only text here\n<|endoftext|>").unwrap();
    let second = out.find("second\n<|endoftext|>").unwrap();
    assert!(first < second && out.contains("source      prose"), "{out}");
    let (out, _) = succeed(&folder, &["verify", "prose"]);
    assert!(out.contains("2 documents") && out.contains("hashes"), "{out}");
}

#[test]
fn the_same_input_gives_the_same_tokenizer_and_corpus() {
    let (one, two) = (with_tokenizer(), with_tokenizer());
    for folder in [&one, &two] {
        recipe(folder, "c", "{ reader: text, paths: [text.txt] }");
        succeed(folder, &["build", "--recipe", "c.yaml", "--set", "end_of_document=none"]);
    }
    for name in ["tok/tokenizer.json", "tok/tokenizer_config.json", "c.bin", "c.idx"] {
        let read = |folder: &TempDir| fs_err::read(folder.path().join(name)).unwrap();
        assert!(read(&one) == read(&two), "{name} differs");
    }
}

#[test]
fn documents_keep_their_order_however_many_there_are() {
    let folder = with_tokenizer();
    let lines: String = (0..40_000).map(|number| format!("{{\"text\": \"number {number}\"}}\n")).collect();
    write(&folder, "x.jsonl", &lines);
    build(&folder, "c", "{ reader: jsonl, paths: [x.jsonl] }");
    for number in [0, 1, 16_383, 16_384, 16_385, 32_768, 39_999] {
        let arguments = ["inspect", "c", "--tokenizer", "tok", "--document", &number.to_string()];
        let (out, _) = succeed(&folder, &arguments);
        assert!(out.contains(&format!("\nnumber {number}<|endoftext|>\n")), "{out}");
    }
    let (out, _) = succeed(&folder, &["inspect", "c", "--stats", "--documents", "0"]);
    assert!(out.contains("documents   40,000") && out.contains("50 %") && !out.contains("── document"), "{out}");
}

#[test]
fn a_bad_json_line_is_named_counted_and_skipped() {
    let folder = with_tokenizer();
    write(&folder, "x.jsonl", "{\"body\": \"one\"}\n{\"body\": \n\n{\"body\": 3}\n{\"body\": \"two\"}\n");
    let (_, err) = build(&folder, "c", "{ reader: jsonl, paths: [x.jsonl], field: body }");
    assert!(err.contains("x.jsonl:2:8: not JSON: EOF while parsing a value"), "{err}");
    assert!(err.contains("x.jsonl:4: field \"body\" holds a number, expected a string"), "{err}");
    assert!(err.contains("skipped 2 bad records") && err.contains("2 documents"), "{err}");
    let err = fail(&folder, &["build", "--recipe", "c.yaml", "--fresh", "--strict"]);
    assert!(err.contains("x.jsonl:2") && !err.contains("x.jsonl:4"), "{err}");
}

#[test]
fn read_shows_what_a_recipe_makes_of_a_source_and_what_it_would_drop() {
    let folder = with_tokenizer();
    write(&folder, "x.jsonl", "{\"text\": \"Write to smith@anvils.dev, please.\"}\n{\"text\": \"no\"}\n{\n");
    recipe(&folder, "c", "{ reader: jsonl, paths: [x.jsonl] }");
    let set = ["--set", "sources.c.quality.min_bytes=10", "--set", "sources.c.quality.scrub.emails=true"];
    let (out, err) = succeed(&folder, &[&["read", "--recipe", "c.yaml", "--source", "c"][..], &set].concat());
    insta::assert_snapshot!(format!("{out}{err}"), @r#"
    {"text":"Write to email@example.com, please.","origin":"x.jsonl:1"}
    {"text":"no","origin":"x.jsonl:2","dropped":"size.min_bytes: 2 bytes, at least 10 expected"}
    bad record: x.jsonl:3:1: not JSON: EOF while parsing an object
    skipped 1 bad records (--strict stops at the first)
    "#);
    let err = fail(&folder, &["read", "--recipe", "c.yaml", "--source", "cc"]);
    assert!(err.contains("no source \"cc\" in the recipe, did you mean c?; it has: c"), "{err}");
}

#[test]
fn parquet_of_another_writer_is_read_whatever_types_codecs_and_pages_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let script = r#"
import duckdb
for codec in ("zstd", "snappy", "uncompressed", "gzip", "brotli", "lz4_raw"):
    for version in ("V1", "V2"):
        duckdb.sql(f"""copy (select i, 'text number ' || i as text, now() as at, current_date as day, time '10:00:00' as hour,
            i::decimal(10, 2) as price, [i, i + 1] as list, {{'a': i, 'b': 'x' || i}} as struct, map {{'k': i}} as map,
            i::tinyint as small, gen_random_uuid() as uuid, i::double as real, i % 2 = 0 as even, 'x'::blob as bytes,
            '{{}}'::json as json from range(0, 100) r(i))
            to '{codec}-{version}.parquet' (format parquet, codec '{codec}', parquet_version '{version}')""")
"#;
    let made = Program::new(PYTHON).current_dir(folder.path()).args(["-c", script]).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    for field in ["text", "struct.b"] {
        let (out, err) = succeed(&folder, &["read", ".", "--reader", "parquet", "--field", field]);
        let texts = texts(&out);
        assert!(texts.len() == 12 * 100 && err.is_empty(), "{} rows\n{err}", texts.len());
        let last = if field == "text" { "text number 99" } else { "x99" };
        assert!(texts.chunks(100).all(|texts| texts[99] == last), "{texts:?}");
    }
}

#[test]
fn a_source_tree_honours_gitignore_and_leaves_binaries_out() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "tree/.gitignore", "build/\n*.gen.py\n");
    write(&folder, "tree/src/main.py", "print('kept')\n");
    write(&folder, "tree/src/table.gen.py", "print('ignored')\n");
    write(&folder, "tree/build/out.py", "print('ignored')\n");
    write(&folder, "tree/.hidden/x.py", "print('hidden')\n");
    write(&folder, "tree/notes.xyz", "not source\n");
    write(&folder, "tree/vendor/lib.py", "print('excluded')\n");
    fs_err::write(folder.path().join("tree/blob.py"), b"\x00\xff\xfe").unwrap();
    let (out, _) = succeed(&folder, &["read", "tree", "--reader", "source", "--exclude", "vendor/**"]);
    assert_eq!(texts(&out), ["print('kept')\n"]);
}

#[test]
fn a_python_package_gives_code_pages_calls_and_prose_that_do_not_overlap() {
    let folder = tempfile::tempdir().unwrap();
    let module = concat!(
        "\"\"\"Smiths' arithmetic.\n\n",
        "This package exists so that readers can be tested on something that has every part: a module docstring long\n",
        "enough to be prose, functions that are documented, and sessions that show what calls of them return, all of\n",
        "which have to end up in exactly one of the four sources.\n\"\"\"\n\n",
        "def weld(a: int, b: int = 2) -> int:\n",
        "    \"\"\"Join two numbers, as :func:`forge.join` does.\n\n",
        "    Example::\n\n        >>> weld(1)\n        3\n    \"\"\"\n",
        "    return a + b\n\n",
        "def _secret():\n    \"\"\"Nobody should read about this one.\"\"\"\n",
    );
    write(&folder, "site/smith/__init__.py", module);
    write(&folder, "site/smith-1.0.dist-info/METADATA", "Name: smith\nVersion: 1.0\n\nSmith joins numbers.\n");
    write(&folder, "site/smith-1.0.dist-info/licenses/LICENSE", "Do as you please.\n");
    write(&folder, "site/other-2.0.dist-info/LICENSE", "Do as you please.\n");
    let read = |reader: &str| texts(&succeed(&folder, &["read", "site/smith", "--reader", reader]).0);

    let code = read("python-code");
    let stripped = "\ndef weld(a: int, b: int = 2) -> int:\n    return a + b\n\ndef _secret():\n    ...\n";
    assert_eq!(code, [stripped]);
    assert_eq!(
        read("python-docs"),
        [
            "# smith.weld\n\n```python\ndef weld(a: int, b: int = 2) -> int\n```\n\nJoin two numbers, as `forge.join` does.\n"
        ]
    );
    let call = "### API\nsmith.weld\ndef weld(a: int, b: int = 2) -> int\nJoin two numbers, as `forge.join` does.\n\n### Call\nweld(1)\n### Result\n3\n";
    assert_eq!(read("python-calls"), [call]);
    let prose = read("python-text");
    assert_eq!(prose.len(), 3);
    assert!(prose[0].starts_with("Smiths' arithmetic.") && prose[1] == "Smith joins numbers.\n", "{prose:?}");

    // The folder of packages: licences repeat, and are kept once.
    succeed(&folder, &["tokenizer", "site", "--reader", "python-code,python-text", "--vocab-size", "300", "-o", "tok"]);
    let (_, err) = build(&folder, "c", "{ reader: python-text, paths: [site] }");
    assert!(err.contains("3 documents"), "{err}");
}

#[test]
fn verify_finds_a_flipped_byte_and_names_the_file() {
    let folder = with_tokenizer();
    build(&folder, "c", "{ reader: text, paths: [text.txt] }");
    let flip = |name: &str, at: usize| {
        let path = folder.path().join(name);
        let mut bytes = fs_err::read(&path).unwrap();
        bytes[at] ^= 0x40;
        fs_err::write(&path, bytes).unwrap();
    };
    succeed(&folder, &["verify", "c"]);
    for (name, at, expected) in [
        ("c.bin", 10, "c.bin: SHA-256"),
        ("c.bin", 11, ", the vocabulary has "),
        ("c.idx", 0, "not a Megatron-LM index"),
        ("c.idx", 17, "token type 72"),
        ("c.idx", 35, "end at byte"),
        ("c.idx", 40, "begins at byte 4194304"),
        ("c.idx", 54, "ends at sequence 65"),
    ] {
        flip(name, at);
        let err = fail(&folder, &["verify", "c"]);
        assert!(err.contains(expected), "byte {at} of {name}: {err}");
        flip(name, at);
    }
    write(&folder, "c.loss", "too short");
    let err = fail(&folder, &["verify", "c"]);
    assert!(
        err.contains("c.loss: 9 bytes, expected one for each of") && err.contains("has no hash for .loss"),
        "{err}"
    );
    fs_err::remove_file(folder.path().join("c.loss")).unwrap();
    fs_err::write(folder.path().join("c.manifest.json"), "{\"version\": 1}").unwrap();
    let err = fail(&folder, &["verify", "c"]);
    assert!(err.contains("c.manifest.json: missing field"), "{err}");
    fs_err::remove_file(folder.path().join("c.manifest.json")).unwrap();
    let (out, _) = succeed(&folder, &["verify", "c", "--tokenizer", "tok"]);
    assert!(out.contains("no manifest: hashes not checked"), "{out}");
}

#[test]
fn ids_are_those_of_the_python_tokenizers() {
    let folder = tempfile::tempdir().unwrap();
    let shared = Path::new(SHARED).join("general/tinyshakespeare.txt");
    let text = match fs_err::read_to_string(&shared) {
        Ok(text) => text.chars().take(200_000).collect(),
        Err(_) => {
            let why = format!("{} is absent, made-up text stands in for it", shared.display());
            skipped("ids_are_those_of_the_python_tokenizers on real text", &why);
            sentences(2000)
        }
    };
    write(&folder, "text.txt", &(text + "\n\ttabs  and   spaces, naïve 世界 🔥\u{200d}\r\n"));
    succeed(&folder, &["tokenizer", "text.txt", "--vocab-size", "1000", "--special", "<|call|>", "--output", "tok"]);
    build(&folder, "c", "{ reader: text, paths: [text.txt] }");
    let script = r#"
import struct, sys
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained("tok")
text = open("text.txt", newline="").read()
ids = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
raw = open("c.bin", "rb").read()
ours = list(struct.unpack(f"<{len(raw) // 2}H", raw))
assert ours == ids, (ours[:20], ids[:20], len(ours), len(ids))
assert tokenizer.decode(ours[:-1]) == text
assert len(tokenizer) == 1000 and tokenizer.convert_tokens_to_ids("<|call|>") == 1, len(tokenizer)
assert "<|call|>" in tokenizer.all_special_tokens, tokenizer.all_special_tokens
"#;
    assert!(Path::new(PYTHON).is_file(), "{PYTHON} is missing: run `make setup`");
    let output = Program::new(PYTHON).args(["-c", script]).current_dir(folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_published_tokenizer_gives_its_own_ids() {
    let tokenizer = Path::new(SHARED).join("tokenizers/gpt2");
    if !tokenizer.is_dir() {
        let why = format!("{} is absent", tokenizer.display());
        skipped("a_published_tokenizer_gives_its_own_ids", &why);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "x.txt", "Hello world");
    recipe(&folder, "c", "{ reader: text, paths: [x.txt] }");
    succeed(&folder, &["build", "--recipe", "c.yaml", "--set", &format!("tokenizer={}", tokenizer.display())]);
    let ids: Vec<u16> = fs_err::read(folder.path().join("c.bin"))
        .unwrap()
        .chunks_exact(2)
        .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
        .collect();
    assert_eq!(ids, [15496, 995, 50256]);
}

#[test]
fn bad_input_is_refused_with_a_message_that_says_what_to_do() {
    let folder = with_tokenizer();
    write(&folder, "empty/readme.bin", "x");
    write(&folder, "none.txt", "\n");
    write(&folder, "broken/tokenizer.json", "{\"model\": ");
    write(&folder, "noeos/tokenizer.json", &fs_err::read_to_string(folder.path().join("tok/tokenizer.json")).unwrap());
    write(&folder, "bad.jsonl", "[1]\n");
    write(&folder, "short.idx", "MMIDIDX");
    write(&folder, "short.bin", "");
    build(&folder, "good", "{ reader: text, paths: [text.txt] }");
    recipe(&folder, "c", "{ reader: text, paths: [text.txt] }");
    succeed(&folder, &["tokenizer", "text.txt", "--vocab-size", "300", "--output", "othertok"]);
    let cases: &[&[&str]] = &[
        &["tokenizer", "missing.txt", "--output", "t"],
        &["tokenizer", "none.txt", "--output", "t"],
        &["tokenizer", "text.txt", "--vocab-size", "100", "--output", "t"],
        &["tokenizer", "text.txt", "--vocab-size", "300", "--output", "text.txt/sub"],
        &["tokenizer", "text.txt", "--max-bytes", "lots", "--output", "t"],
        &["build", "--recipe", "c.yaml", "--set", "sources.c.inputs.0.paths.0=empty"],
        &["build", "--recipe", "c.yaml", "--set", "tokenizer=nowhere"],
        &["build", "--recipe", "c.yaml", "--set", "tokenizer=broken"],
        &["build", "--recipe", "c.yaml", "--set", "tokenizer=noeos"],
        &["build", "--recipe", "c.yaml", "--set", "end_of_document=<|eot|>"],
        &["build", "--recipe", "c.yaml", "--set", "output=text.txt/c"],
        &["build", "--recipe", "c.yaml", "--set", "sources.c.inputs.0.paths.0=none.txt"],
        &[
            "build",
            "--recipe",
            "c.yaml",
            "--set",
            "sources.c.inputs.0.reader=jsonl",
            "--set",
            "sources.c.inputs.0.paths.0=bad.jsonl",
        ],
        &[
            "build",
            "--recipe",
            "c.yaml",
            "--set",
            "sources.c.inputs.0.reader=python-docs",
            "--set",
            "sources.c.inputs.0.paths.0=empty",
        ],
        &["build", "--recipe", "c.yaml", "--set", "sources.c.inputs.0.exclude=['[']"],
        &[
            "build",
            "--recipe",
            "c.yaml",
            "--set",
            "sources.c.inputs.0.field=body",
            "--set",
            "sources.c.select={classifier: x, threshold: 0.5}",
            "--set",
            "work.part=1",
        ],
        &["build", "--recipe", "nowhere.yaml"],
        &["build", "--recipe", "c.yaml", "--shard", "3/2"],
        &["merge", "--recipe", "c.yaml"],
        &["merge", "--recipe", "c.yaml", "--from", "empty"],
        &["inspect", "missing"],
        &["inspect", "short"],
        &["inspect", "good", "--document", "5"],
        &["inspect", "good", "--tokenizer", "othertok"],
        &["verify", "missing"],
        &["verify", "short"],
    ];
    let shown: Vec<String> = cases
        .iter()
        .map(|arguments| format!("$ hephaestus-forge {}\n{}", arguments.join(" "), fail(&folder, arguments)))
        .collect();
    let leftovers: Vec<_> = fs_err::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| (name.starts_with("c.") && name != "c.yaml") || name == "t" || name.contains("tmp"))
        .collect();
    assert!(leftovers.is_empty(), "failed commands left {leftovers:?}");
    insta::assert_snapshot!(shown.join("\n"));
}
