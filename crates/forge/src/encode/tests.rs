//! Tokens as the library gives them, on hostile text and on real text.

use std::path::PathBuf;
use std::sync::LazyLock;

use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::{Value, json};
use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel as Level;
use tokenizers::{NormalizerWrapper, TokenizerBuilder, TokenizerImpl};

use super::*;

/// The expression of o200k, which nothing here is written for.
const O200K: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// A small byte-level BPE, trained on this crate's own sources and a few scripts.
static MODEL: LazyLock<Value> = LazyLock::new(|| {
    let texts = [
        include_str!("tests.rs"),
        include_str!("split.rs"),
        include_str!("merge.rs"),
        include_str!("mod.rs"),
        "naïve café Ångström été 한국어 말 中文文本中文 日本語テスト русский текст русский العربية 12345 2024 1000 ½ ² 👍🏽👍🏽",
    ];
    let mut trainer = BpeTrainerBuilder::new()
        .show_progress(false)
        .vocab_size(1200)
        .min_frequency(2)
        .initial_alphabet(Level::alphabet().into_iter().collect())
        .build();
    let mut tokenizer: TokenizerImpl<BPE, NormalizerWrapper, Level, Level, Level> = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None)
        .with_pre_tokenizer(Some(Level::default().add_prefix_space(false)))
        .with_post_processor(Some(Level::default()))
        .with_decoder(Some(Level::default()))
        .build()
        .unwrap();
    tokenizer.train(&mut trainer, texts.into_iter().cycle().take(10)).unwrap();
    serde_json::to_value(tokenizer.get_model()).unwrap()
});

fn level(regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": regex})
}

fn split(regex: &str, behavior: &str, invert: bool) -> Value {
    json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": behavior, "invert": invert})
}

fn sequence(steps: &[Value]) -> Value {
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Added tokens of every kind.
fn added() -> Value {
    let token = |id: u32, content: &str, flags: [bool; 5]| {
        let [special, normalized, single_word, lstrip, rstrip] = flags;
        json!({"id": id, "content": content, "special": special, "normalized": normalized, "single_word": single_word,
               "lstrip": lstrip, "rstrip": rstrip})
    };
    json!([
        token(2000, "<|endoftext|>", [true, false, false, false, false]),
        token(2001, "<|user|>", [true, false, false, false, true]),
        token(2002, "<|end|>", [true, true, false, true, false]),
        token(2003, "<tool>", [false, false, false, false, false]),
        token(2004, "wordy", [false, false, true, false, false]),
        token(2005, "<left>", [false, true, false, true, false]),
        token(2006, "<right>", [false, true, false, false, true]),
        token(2007, "cafe\u{301}", [false, true, false, false, false]),
        token(2008, "text|>wide", [false, false, false, false, false]),
    ])
}

fn tokenizer(model: &Value, normalizer: Value, pre_tokenizer: Value, added: Value) -> Encoder {
    let written = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": null, "model": model,
    });
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("tokenizer.json"), written.to_string()).unwrap();
    Encoder::new(Vocabulary::load(folder.path()).unwrap())
}

/// Tokenizers that go without the library, by name.
static FAST: LazyLock<Vec<(&str, Encoder)>> = LazyLock::new(|| {
    let llama3 = split::LLAMA3;
    let mut whole = MODEL.clone();
    whole["ignore_merges"] = json!(true);
    let none = Value::Null;
    let by = |regex| sequence(&[split(regex, "Isolated", false), level(false)]);
    let removed = sequence(&[split(llama3, "Removed", true), level(false)]);
    let deepseek = sequence(&[
        split(r"\p{N}{1,3}", "Isolated", false),
        split("[一-龥぀-ゟ゠-ヿ]+", "Isolated", false),
        split(split::GPT2, "Isolated", false),
        level(false),
    ]);
    let digits = |alone: bool| sequence(&[json!({"type": "Digits", "individual_digits": alone}), level(true)]);
    vec![
        ("gpt2", tokenizer(&MODEL, none.clone(), level(true), json!([]))),
        ("gpt2, added", tokenizer(&MODEL, none.clone(), level(true), added())),
        ("llama 3", tokenizer(&whole, none.clone(), by(llama3), json!([]))),
        ("llama 3, removed", tokenizer(&MODEL, none.clone(), removed, json!([]))),
        ("qwen 2", tokenizer(&MODEL, json!({"type": "NFC"}), by(split::QWEN2), json!([]))),
        ("qwen 2, added", tokenizer(&MODEL, json!({"type": "NFC"}), by(split::QWEN2), added())),
        ("o200k", tokenizer(&whole, none.clone(), by(O200K), json!([]))),
        ("deepseek", tokenizer(&MODEL, none.clone(), deepseek, added())),
        ("each digit", tokenizer(&MODEL, none.clone(), digits(true), json!([]))),
        ("digits", tokenizer(&MODEL, none.clone(), digits(false), json!([]))),
        ("one word", tokenizer(&MODEL, none, level(false), json!([]))),
    ]
});

/// Tokenizers that the library encodes.
static SLOW: LazyLock<Vec<(&str, Encoder)>> = LazyLock::new(|| {
    let pieces = ["<unk>", "▁", "▁the", "th", "e", "a", "b", "▁a", "1", "."];
    let ids: serde_json::Map<_, _> = pieces.iter().zip(0..).map(|(piece, id)| ((*piece).into(), json!(id))).collect();
    let scored: Vec<_> = pieces.iter().map(|piece| json!([piece, -1.5])).collect();
    let metaspace = json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": true});
    let bpe = json!({"type": "BPE", "vocab": ids, "merges": [], "unk_token": "<unk>", "fuse_unk": true});
    let unigram = json!({"type": "Unigram", "unk_id": 0, "vocab": scored, "byte_fallback": false});
    let words = json!({"[UNK]": 0, "the": 1, "a": 2, "##b": 3, "b": 4, "1": 5});
    let word_piece = json!({"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                            "max_input_chars_per_word": 100, "vocab": words});
    let lower = json!({"type": "Lowercase"});
    let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true});
    vec![
        ("metaspace", tokenizer(&bpe, Value::Null, metaspace.clone(), added())),
        ("unigram", tokenizer(&unigram, json!({"type": "NFKC"}), metaspace, json!([]))),
        ("word piece", tokenizer(&word_piece, lower, json!({"type": "BertPreTokenizer"}), added())),
        ("prefix space", tokenizer(&MODEL, Value::Null, prefixed, added())),
    ]
});

/// Text that splitters trip over.
fn fragment() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[ \t\r\n]{1,6}",
        1 => "[\u{85}\u{a0}\u{2003}\u{3000}\u{2028}\u{b}\u{c}\u{1c}]{1,3}",
        3 => "[a-zA-Z]{1,12}",
        2 => "'(s|t|re|ve|m|ll|d|S|T|RE|vE|Ll|D|ſ|ſt|l|r|x)",
        2 => "[0-9]{1,8}",
        1 => "[²½Ⅷ٣१〇]{1,4}",
        2 => "[!-/:-@\\[-`{-~]{1,5}",
        1 => "[éüßſǅʰ\u{301}\u{308}\u{327}한中文ー𝒳]{1,6}",
        1 => "(<\\|endoftext\\|>|<\\|user\\|> *|<\\|end\\|>|<tool>| *<left>|<right> *|wordy|cafe\u{301}|café|<\\|endoftext\\|>wide)",
        1 => "[🎉👍🏽\u{200d}\u{fe0f}]{1,4}",
        2 => any::<char>().prop_map(String::from),
        1 => (any::<char>(), 2..60_usize).prop_map(|(character, times)| character.to_string().repeat(times)),
    ]
}

fn hostile() -> impl Strategy<Value = String> {
    proptest::collection::vec(fragment(), 0..24).prop_map(|fragments| fragments.concat())
}

/// Text in runs of weights, with special tokens where the second says so.
fn weighed() -> impl Strategy<Value = Text> {
    let special = prop_oneof![Just("<|endoftext|>"), Just("<|user|>"), Just("<|end|>")].prop_map(String::from);
    let run = prop_oneof![4 => fragment().prop_map(|text| (text, false)), 1 => special.prop_map(|text| (text, true))];
    proptest::collection::vec((run, prop_oneof![Just(LEARNED), Just(0), 0..=LEARNED]), 1..16).prop_map(|runs| {
        let mut text = Text::default();
        for ((run, special), weight) in runs {
            let start = text.text.len();
            text.push(&run, weight);
            text.special.extend(special.then_some(start..text.text.len()));
        }
        text
    })
}

fn encoded(encoder: &Encoder, text: &Text) -> Encoded {
    let mut out = Encoded::default();
    encoder.encode(text, &mut out).unwrap();
    out
}

fn gpt2(test: &str) -> Option<Encoder> {
    let folder = data("tokenizers/gpt2");
    if !folder.exists() {
        crate::skipped(test, &format!("{} is absent", folder.display()));
        return None;
    }
    Some(Encoder::new(Vocabulary::load(&folder).unwrap()))
}

fn data(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(path)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn hostile_text_has_the_tokens_that_the_library_gives_it(text in hostile()) {
        for (name, encoder) in FAST.iter().chain(SLOW.iter()) {
            let expected = encoder.vocabulary().encode(&text).unwrap();
            let found = encoded(encoder, &Text::from(text.clone()));
            prop_assert_eq!(&found.tokens, &expected, "{} {:?}", name, &text);
            prop_assert!(found.weights.is_empty());
        }
    }

    #[test]
    fn weights_and_special_tokens_are_the_same_with_the_library_and_without(text in weighed()) {
        for (name, encoder) in FAST.iter().filter(|(name, _)| name.ends_with("added") || *name == "deepseek") {
            let mut expected = Encoded::default();
            let added = encoder.added.as_ref().unwrap();
            library::encode(&encoder.vocabulary.tokenizer, added, &text, &mut expected).unwrap();
            if expected.weights.iter().all(|weight| *weight == LEARNED) {
                expected.weights.clear();
            }
            prop_assert_eq!(encoded(encoder, &text), expected, "{} {:?}", name, &text);
        }
    }

    #[test]
    fn special_tokens_split_the_text_as_in_the_library(runs in proptest::collection::vec((fragment(), 0..4_u8), 1..9)) {
        let mut text = Text::default();
        for (run, special) in runs {
            // No letters of a special token but where there is one.
            text.text.push_str(&run.replace("<|", "<"));
            let token = ["<|endoftext|>", "<|user|>", "<|end|>"].get(usize::from(special));
            let start = text.text.len();
            text.text.push_str(token.unwrap_or(&""));
            text.special.extend(token.map(|_| start..text.text.len()));
        }
        for (name, encoder) in FAST.iter().chain(SLOW.iter()).filter(|(_, encoder)| encoder.vocabulary.token("<|end|>", "").is_ok()) {
            let mut tokenizer = encoder.vocabulary.tokenizer.clone();
            tokenizer.set_encode_special_tokens(false);
            let expected = tokenizer.encode_fast(text.text.as_str(), false).unwrap();
            prop_assert_eq!(&encoded(encoder, &text).tokens, expected.get_ids(), "{} {:?}", name, &text);
        }
    }
}

#[test]
fn tokenizers_of_the_usual_shapes_go_without_the_library_and_others_say_why_not() {
    let fast = FAST.iter().map(|(name, encoder)| format!("{name}: {} {}", encoder.is_fast(), encoder.description()));
    let slow = SLOW.iter().map(|(name, encoder)| format!("{name}: {} {}", encoder.is_fast(), encoder.description()));
    insta::assert_snapshot!(fast.chain(slow).collect::<Vec<_>>().join("\n"), @"
    gpt2: true byte-level BPE (GPT-2's words)
    gpt2, added: true byte-level BPE (GPT-2's words)
    llama 3: true byte-level BPE (Llama 3's words)
    llama 3, removed: true byte-level BPE (Llama 3's words)
    qwen 2: true byte-level BPE (NFC, Qwen 2's words)
    qwen 2, added: true byte-level BPE (NFC, Qwen 2's words)
    o200k: true byte-level BPE (words by regular expression)
    deepseek: true byte-level BPE (words by regular expression, words by regular expression, GPT-2's words)
    each digit: true byte-level BPE (digits apart, GPT-2's words)
    digits: true byte-level BPE (digits apart, GPT-2's words)
    one word: true byte-level BPE (not split into words)
    metaspace: false the tokenizers library (a pre-tokenizer that does not end in the byte level)
    unigram: false the tokenizers library (no BPE)
    word piece: false the tokenizers library (no BPE)
    prefix space: false the tokenizers library (add_prefix_space)
    ");
}

#[test]
fn all_the_real_data_has_the_tokens_that_the_library_gives_it() {
    let Some(encoder) = gpt2("all_the_real_data_has_the_tokens_that_the_library_gives_it") else { return };
    let mut files: Vec<PathBuf> = ignore::WalkBuilder::new(data(""))
        .build()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    assert!(files.len() > 50, "{} files", files.len());
    files.par_iter().for_each(|file| {
        let text = String::from_utf8_lossy(&fs_err::read(file).unwrap()).into_owned();
        let expected = encoder.vocabulary().encode(&text).unwrap();
        assert!(encoded(&encoder, &Text::from(text)).tokens == expected, "{}", file.display());
    });
}

#[test]
fn real_text_has_the_same_tokens_in_other_shapes() {
    let file = data("agent/openapi/openai.yaml");
    let Ok(text) = fs_err::read_to_string(&file) else {
        crate::skipped("real_text_has_the_same_tokens_in_other_shapes", &format!("{} is absent", file.display()));
        return;
    };
    let text: String = text.chars().take(200_000).collect();
    FAST.par_iter().filter(|(name, _)| *name != "one word").for_each(|(name, encoder)| {
        let expected = encoder.vocabulary().encode(&text).unwrap();
        assert!(encoded(encoder, &Text::from(text.clone())).tokens == expected, "{name}");
    });
}

#[test]
fn a_word_of_a_megabyte_takes_no_longer_than_many_short_ones_and_is_merged_alike() {
    let Some(encoder) = gpt2("a_word_of_a_megabyte_takes_no_longer_than_many_short_ones_and_is_merged_alike") else {
        return;
    };
    for text in ["a".repeat(1 << 20), "=-".repeat(1 << 17), "ab".repeat(300_000), " ".repeat(1 << 16)] {
        let expected = encoder.vocabulary().encode(&text).unwrap();
        assert!(encoded(&encoder, &Text::from(text)).tokens == expected);
    }
}

#[test]
fn what_was_encoded_before_and_beside_changes_nothing() {
    let Some(encoder) = gpt2("what_was_encoded_before_and_beside_changes_nothing") else { return };
    let texts: Vec<Text> = (0..3000_u32)
        .map(|number| {
            format!("{} word{} {:x}", number % 17, number % 251, number.wrapping_mul(0x9e37_79b9)).repeat(20).into()
        })
        .collect();
    let fresh = gpt2("").unwrap();
    let alone: Vec<Encoded> = texts.iter().rev().map(|text| encoded(&fresh, text)).collect();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(9).build().unwrap();
    let beside: Vec<Encoded> = pool.install(|| texts.par_iter().map(|text| encoded(&encoder, text)).collect());
    assert!(beside.iter().eq(alone.iter().rev()));
}

#[test]
fn a_special_token_that_is_none_is_refused() {
    let (_, encoder) = FAST.iter().find(|(name, _)| *name == "gpt2, added").unwrap();
    let special = |special: &[(usize, usize)]| {
        let special = special.iter().map(|(start, end)| *start..*end).collect();
        let text = Text { special, ..Text::from("é<|end|><tool>".to_owned()) };
        encoder.encode(&text, &mut Encoded::default()).unwrap_err()
    };
    let found = [&[(0, 1)][..], &[(9, 15)], &[(2, 9), (2, 9)], &[(0, 99)], &[(2, 1)]].map(special);
    insta::assert_snapshot!(found.join("\n"), @r#"
    special token at bytes 0 to 1: no such place in a text of 15 bytes
    special token at bytes 9 to 15: "<tool>" is no special token of the vocabulary
    special token at bytes 2 to 9: it overlaps the one before it
    special token at bytes 0 to 99: no such place in a text of 15 bytes
    special token at bytes 2 to 1: no such place in a text of 15 bytes
    "#);
}

#[test]
fn a_regular_expression_that_gives_up_is_an_error_and_the_encoder_goes_on() {
    let steps = sequence(&[split(r"(a+)+b", "Isolated", false), level(false)]);
    let encoder = tokenizer(&MODEL, Value::Null, steps, json!([]));
    assert!(encoder.is_fast());
    let mut out = Encoded::default();
    let error = encoder.encode(&Text::from("a".repeat(64)), &mut out).unwrap_err();
    assert!(error.starts_with("the tokenizers library gave up: "), "{error}");
    encoder.encode(&Text::from("ab".to_owned()), &mut out).unwrap();
    assert_eq!(out.tokens, encoder.vocabulary().encode("ab").unwrap());
}
