//! `hephaestus-forge`, driven as a user drives it.

use std::path::{Path, PathBuf};
use std::process::Command as Program;

use assert_cmd::Command;
use tempfile::TempDir;

const SHARED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data");
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python");

/// Says that a test skipped, past the test runner, which shows what a passing test prints to nobody.
fn skipped(test: &str, why: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
}

/// Text whose words repeat often enough to be merged.
fn sentences(count: usize) -> String {
    let words =
        ["the", "forge", "heats", "iron", "until", "hammer", "bends", "it", "naïve", "世界", "🔥", "x_1 = f(2)"];
    let mut text = String::new();
    for number in 0..count {
        let word = |step: usize| words[(number * 7 + step * step * 5) % words.len()];
        text.push_str(&format!("{} {} {}\n  {} {number}. ", word(0), word(1), word(2), word(3)));
    }
    text
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, text).unwrap();
    path
}

/// Runs the program in `folder`; returns whether it succeeded, its stdout and its stderr.
fn forge(folder: &TempDir, arguments: &[&str]) -> (bool, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hephaestus-forge"));
    let output = command.current_dir(folder.path()).args(arguments).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn succeed(folder: &TempDir, arguments: &[&str]) -> (String, String) {
    let (ok, out, err) = forge(folder, arguments);
    assert!(ok, "{arguments:?} failed:\n{err}");
    (out, err)
}

fn fail(folder: &TempDir, arguments: &[&str]) -> String {
    let (ok, out, err) = forge(folder, arguments);
    assert!(!ok, "{arguments:?} succeeded:\n{out}{err}");
    err
}

/// A folder with a trained tokenizer in `tok` and its text in `text.txt`.
fn with_tokenizer() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "text.txt", &sentences(300));
    succeed(&folder, &["tokenizer", "text.txt", "--vocab-size", "400", "--output", "tok"]);
    folder
}

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
    let arguments = ["tokenize", "docs", "--tokenizer", "tok", "--output", "out/docs_v1.0", "--source", "prose"];
    let (_, err) = succeed(&folder, &arguments);
    assert!(err.contains("2 documents"), "{err}");
    let (out, _) = succeed(&folder, &["inspect", "out/docs_v1.0", "--tokenizer", "tok"]);
    let first = out.find("first\n<|endoftext|> is only text here\n<|endoftext|>").unwrap();
    let second = out.find("second\n<|endoftext|>").unwrap();
    assert!(first < second && out.contains("source      prose"), "{out}");
    let (out, _) = succeed(&folder, &["verify", "out/docs_v1.0"]);
    assert!(out.contains("2 documents") && out.contains("hashes"), "{out}");
}

#[test]
fn the_same_input_gives_the_same_tokenizer_and_corpus() {
    let (one, two) = (with_tokenizer(), with_tokenizer());
    for folder in [&one, &two] {
        let arguments = ["tokenize", "text.txt", "--tokenizer", "tok", "--output", "c", "--end-of-document", "none"];
        succeed(folder, &arguments);
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
    succeed(&folder, &["tokenize", "x.jsonl", "--reader", "jsonl", "--tokenizer", "tok", "--output", "c"]);
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
    let arguments =
        ["tokenize", "x.jsonl", "--reader", "jsonl", "--field", "body", "--tokenizer", "tok", "--output", "c"];
    let (_, err) = succeed(&folder, &arguments);
    assert!(err.contains("x.jsonl:2: not JSON at column 9"), "{err}");
    assert!(err.contains("x.jsonl:4: field \"body\" holds a number, expected a string"), "{err}");
    assert!(err.contains("skipped 2 bad records") && err.contains("2 documents"), "{err}");
    let err = fail(&folder, &[&arguments[..], &["--strict"]].concat());
    assert!(err.contains("x.jsonl:2") && !err.contains("x.jsonl:4"), "{err}");
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
    let arguments = ["tokenize", "site", "--reader", "python-text", "--tokenizer", "tok", "--output", "c"];
    let (_, err) = succeed(&folder, &arguments);
    assert!(err.contains("3 documents") && err.contains("1 repeated"), "{err}");
}

#[test]
fn verify_finds_a_flipped_byte_and_names_the_file() {
    let folder = with_tokenizer();
    succeed(&folder, &["tokenize", "text.txt", "--tokenizer", "tok", "--output", "c"]);
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
    succeed(&folder, &["tokenize", "text.txt", "--tokenizer", "tok", "--output", "c"]);
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
    let tokenizer = tokenizer.to_str().unwrap();
    succeed(&folder, &["tokenize", "x.txt", "--tokenizer", tokenizer, "--output", "c"]);
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
    succeed(&folder, &["tokenize", "text.txt", "--tokenizer", "tok", "--output", "good"]);
    succeed(&folder, &["tokenizer", "text.txt", "--vocab-size", "300", "--output", "othertok"]);
    let cases: &[&[&str]] = &[
        &["tokenizer", "missing.txt", "--output", "t"],
        &["tokenizer", "none.txt", "--output", "t"],
        &["tokenizer", "text.txt", "--vocab-size", "100", "--output", "t"],
        &["tokenizer", "text.txt", "--vocab-size", "300", "--output", "text.txt/sub"],
        &["tokenizer", "text.txt", "--max-bytes", "lots", "--output", "t"],
        &["tokenize", "empty", "--tokenizer", "tok", "--output", "c"],
        &["tokenize", "text.txt", "--tokenizer", "nowhere", "--output", "c"],
        &["tokenize", "text.txt", "--tokenizer", "broken", "--output", "c"],
        &["tokenize", "text.txt", "--tokenizer", "noeos", "--output", "c"],
        &["tokenize", "text.txt", "--tokenizer", "tok", "--end-of-document", "<|eot|>", "--output", "c"],
        &["tokenize", "text.txt", "--tokenizer", "tok", "--output", "text.txt/c"],
        &["tokenize", "none.txt", "--tokenizer", "tok", "--output", "c"],
        &["tokenize", "bad.jsonl", "--reader", "jsonl", "--tokenizer", "tok", "--output", "c"],
        &["tokenize", "empty", "--reader", "python-docs", "--tokenizer", "tok", "--output", "c"],
        &["tokenize", "empty", "--exclude", "[", "--tokenizer", "tok", "--output", "c"],
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
        .filter(|name| name.starts_with("c.") || name == "t" || name.contains("tmp"))
        .collect();
    assert!(leftovers.is_empty(), "failed commands left {leftovers:?}");
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn inspect_searches_a_corpus_and_colours_only_where_it_is_told_to() {
    let folder = with_tokenizer();
    let lines: String = (0..5_000).map(|number| format!("{{\"text\": \"iron number {number}\"}}\n")).collect();
    write(&folder, "x.jsonl", &lines);
    succeed(&folder, &["tokenize", "x.jsonl", "--reader", "jsonl", "--tokenizer", "tok", "--output", "c"]);
    let inspect = |more: &[&str]| succeed(&folder, &[&["inspect", "c", "--tokenizer", "tok"], more].concat()).0;
    let out = inspect(&["--search", "IRON NUMBER 43", "--ignore-case", "--documents", "200"]);
    // 43, 430 to 439, 4300 to 4399.
    assert_eq!(out.matches("»iron number 43«").count(), 111, "{out}");
    assert!(out.ends_with("111 documents, 5,000 of 5,000 searched\n"), "{out}");
    let out = inspect(&["--search", r"\b4[23]\b", "--regex", "--color", "always"]);
    assert!(out.contains("iron number \u{1b}[1;30;43m42\u{1b}[0m<|endoftext|>"), "{out}");
    assert!(!inspect(&["--tokens"]).contains('\u{1b}') && inspect(&["--tokens"]).contains("│"));
    let refused = [
        fail(&folder, &["inspect", "c", "--search", "iron"]),
        fail(&folder, &["inspect", "c", "--tokenizer", "tok", "--search", "x(", "--regex"]),
        fail(&folder, &["inspect", "c", "--tokenizer", "tok", "--search", ""]),
        fail(&folder, &["inspect", "c", "--regex"]),
    ];
    insta::assert_snapshot!(refused.join("\n"));
}
