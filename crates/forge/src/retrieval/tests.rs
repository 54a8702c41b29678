//! The classifier as a whole.

use std::path::PathBuf;

use hephaestus_core::settings::quantity::{Count, Share};
use proptest::prelude::*;

use super::*;
use crate::document::{Conversation, RecordKind};
use crate::readers::Kind;

fn settings() -> Settings {
    Settings { buckets: Count(1 << 14), held_out: Share(0.2), ..Settings::new(Vec::new(), Vec::new()) }
}

/// Sentences of words drawn from a list by a seed.
fn sentences(words: &[&str], seed: u64, count: u64) -> Vec<String> {
    let word = |i: u64, j: u64| {
        words[(hephaestus_core::corpus::permutation::mix(&[seed, i, j]) % words.len() as u64) as usize]
    };
    (0..count).map(|i| (0..30).map(|j| word(i, j)).collect::<Vec<_>>().join(" ")).collect()
}

const CALLS: &[&str] = &["parameter", "returns", "request", "endpoint", "the", "a", "with", "json", "of", "response"];
const PLAYS: &[&str] = &["thou", "king", "sweet", "lord", "the", "a", "with", "love", "of", "night"];

fn trained(seed: u64) -> (Classifier, Evaluation) {
    let (positive, negative) = (sentences(CALLS, 1, 100), sentences(PLAYS, 2, 300));
    Classifier::train(positive.into_iter(), negative.into_iter(), &settings(), seed).unwrap()
}

#[test]
fn classes_that_differ_are_told_apart_and_the_words_that_differ_are_named() {
    let (classifier, evaluation) = trained(0);
    assert_eq!((evaluation.roc_auc, evaluation.average_precision, evaluation.chosen.f1), (1.0, 1.0, 1.0));
    assert!(classifier.score("the endpoint returns a JSON response") > 0.9);
    assert!(classifier.score("the king of a sweet night") < 0.1);
    let Documents { positive, negative, .. } = evaluation.documents;
    assert_eq!((positive.trained, positive.validated, positive.held_out), (60, 20, 20));
    assert_eq!((negative.trained, negative.validated, negative.held_out), (180, 60, 60));
    let words = |grams: &[TellingGram]| grams.iter().map(|gram| gram.text.clone()).collect::<Vec<_>>();
    let (telling, plain) = (&evaluation.telling, |word: &String| !word.contains(' '));
    let (calls, plays) = (words(&telling.positive_words), words(&telling.negative_words));
    assert!(calls.iter().filter(|word| plain(word)).all(|word| CALLS.contains(&word.as_str())), "{calls:?}");
    assert!(calls.contains(&"endpoint".to_owned()) && plays.contains(&"thou".to_owned()), "{calls:?} {plays:?}");
    assert!(!telling.positive_characters.is_empty() && !telling.negative_characters.is_empty());
}

#[test]
fn classes_that_do_not_differ_are_not_told_apart() {
    let (positive, negative) = (sentences(PLAYS, 3, 1000), sentences(PLAYS, 4, 1000));
    let settings = Settings { held_out: Share(0.3), ..settings() };
    let (_, evaluation) = Classifier::train(positive.into_iter(), negative.into_iter(), &settings, 0).unwrap();
    // The area's standard deviation is 0.024 where nothing is to be found.
    assert!((evaluation.roc_auc - 0.5).abs() < 0.1, "{}", evaluation.roc_auc);
}

#[test]
fn scores_are_probabilities_where_classes_overlap() {
    // A third of the positive documents are of the other class's kind: such a document is positive in one of four, both
    // classes being as frequent.
    let mut positive = sentences(CALLS, 5, 400);
    positive.extend(sentences(PLAYS, 6, 200));
    let (classifier, _) =
        Classifier::train(positive.into_iter(), sentences(PLAYS, 7, 600).into_iter(), &settings(), 0).unwrap();
    let fresh = sentences(PLAYS, 8, 200);
    let mean = fresh.iter().map(|text| f64::from(classifier.score(text))).sum::<f64>() / 200.0;
    assert!((mean - 0.25).abs() < 0.07, "{mean}");
}

#[test]
fn the_same_texts_in_any_order_give_the_same_classifier_and_another_seed_another() {
    let (classifier, evaluation) = trained(0);
    let positive = sentences(CALLS, 1, 100).into_iter().rev();
    let negative = sentences(PLAYS, 2, 300).into_iter().rev();
    assert_eq!(Classifier::train(positive, negative, &settings(), 0).unwrap(), (classifier.clone(), evaluation));
    assert_ne!(trained(1).0, classifier);
}

#[test]
fn a_text_of_both_classes_counts_as_positive_alone() {
    let positive = sentences(CALLS, 1, 50);
    let negative = positive[..30].iter().map(|text| text.to_uppercase()).chain(sentences(PLAYS, 2, 50));
    let (_, evaluation) = Classifier::train(positive.clone().into_iter(), negative, &settings(), 0).unwrap();
    let Documents { positive, negative, in_both } = evaluation.documents;
    assert_eq!((in_both, negative.read, negative.trained + negative.validated + negative.held_out), (30, 80, 50));
    assert_eq!(positive.trained + positive.validated + positive.held_out, 50);
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let few = sentences(CALLS, 1, 9).into_iter().cycle().take(90);
    let error = Classifier::train(few, sentences(PLAYS, 2, 50).into_iter(), &settings(), 0).unwrap_err();
    assert_eq!(
        error.to_string(),
        "9 different positive documents: at least 10 are needed, to learn from and to judge by"
    );
    let broken = Settings {
        buckets: Count(0),
        word_ngrams: 5,
        char_ngrams: Lengths { from: 4, to: 3 },
        epochs: 0,
        learning_rate: f64::NAN,
        held_out: Share(0.5),
        max_documents: Count(9),
        max_bytes: Count(0),
        ..settings()
    };
    let problems: Vec<String> = broken.broken().iter().map(|(key, why)| format!("{key} {why}")).collect();
    insta::assert_snapshot!(problems.join("\n"), @r"
    buckets is 0: expected 1 to 268435456
    word_ngrams is 5: expected 0 to 4
    char_ngrams goes from 4 to 3: expected lengths from 1 to 8, the shortest first
    epochs is 0: there is at least one
    learning_rate is NaN: expected a number above 0
    held_out is 0.5: expected a share above 0 and 0.4 at most, as just as much validates
    max_documents is 9: expected 10 at least
    max_bytes is 0: nothing would be looked at
    ");
    let error = train_from(&broken, 0).unwrap_err();
    assert_eq!(error.to_string(), problems[0]);
}

#[test]
fn a_recipe_takes_the_settings_and_says_where_one_is_out_of_range() {
    let recipe = "version: 1\noutput: out\ntokenizer: tokenizer\nsources:\n  web:\n    inputs: [{reader: text, paths: [a]}]\n\
                  classifiers:\n  agent:\n    positive: [{reader: text, paths: [b]}]\n    \
                  negative: [{reader: text, paths: [c]}]\n    buckets: 65536\n    char_ngrams: {from: 2, to: 4}\n    \
                  held_out: 20%\n    epochs: 3\n";
    let file = std::path::Path::new("forge.yaml");
    let loaded = crate::recipe::parse(recipe, file, &[]).unwrap();
    let expected = Settings {
        buckets: Count(65536),
        char_ngrams: Lengths { from: 2, to: 4 },
        held_out: Share(0.2),
        epochs: 3,
        ..loaded.recipe.classifiers["agent"].clone()
    };
    assert_eq!(loaded.recipe.classifiers["agent"], expected);
    let problems = crate::recipe::parse(&recipe.replace("20%", "50%"), file, &[]).unwrap_err();
    insta::assert_snapshot!(problems, @"forge.yaml:13:15: classifiers.agent.held_out: is 0.5: expected a share above 0 and 0.4 at most, as just as much validates");
}

#[test]
fn inputs_are_read_and_what_cannot_be_read_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, texts: Vec<String>| {
        let path = folder.path().join(name);
        let mut lines: Vec<String> = texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
        lines.push("{\"text\": ".to_owned());
        fs_err::write(&path, lines.join("\n")).unwrap();
        Input::new(Kind::Jsonl, &[path])
    };
    let (positive, negative) = (sentences(CALLS, 1, 100), sentences(PLAYS, 2, 300));
    let settings = Settings {
        positive: vec![file("positive.jsonl", positive)],
        negative: vec![file("negative.jsonl", negative)],
        ..settings()
    };
    let (classifier, evaluation) = train_from(&settings, 0).unwrap();
    assert_eq!(classifier, trained(0).0, "the same as from the texts themselves");
    let Documents { positive, negative, .. } = evaluation.documents;
    assert_eq!((positive.read, positive.bad, negative.read, negative.bad), (100, 1, 300, 1));
    let missing = Settings { positive: vec![Input::new(Kind::Jsonl, &[PathBuf::from("/no/such")])], ..settings };
    assert_eq!(train_from(&missing, 0).unwrap_err().to_string(), "/no/such: no such file or folder");
}

#[test]
fn a_record_and_a_conversation_are_seen_as_what_they_say_and_not_as_they_are_rendered() {
    let fields = serde_json::json!({ "name": "pets.list", "parameters": [{ "name": "limit", "required": true }] });
    let record = Document {
        content: Content::Record { kind: RecordKind::Api, fields: fields.as_object().unwrap().clone() },
        ..Document::text("x", "")
    };
    assert_eq!(plain(record), "pets.list\nlimit\n");
    let messages = serde_json::json!([
        { "role": "user", "content": "Book it." },
        { "role": "assistant", "calls": [{ "name": "book", "arguments": { "flight": "HAT001" } }] },
    ]);
    let messages = serde_json::from_value(messages).unwrap();
    let conversation = Conversation { messages, ..Conversation::default() };
    let document = Document { content: Content::Conversation(conversation), ..Document::text("x", "") };
    assert_eq!(plain(document), "Book it.\nHAT001\n");
    assert_eq!(plain(Document::text("x", "as it is")), "as it is");
}

#[test]
fn documents_of_the_largest_weights_and_hostile_scales_still_have_a_score() {
    let (mut classifier, _) = trained(0);
    classifier.weights.fill(i16::MAX);
    (classifier.slope, classifier.intercept) = (f64::MAX, f64::MIN);
    assert!((0.0..=1.0).contains(&classifier.score("any text")));
    assert_eq!(classifier.score(""), 0.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_text_has_a_score_from_0_to_1(texts in prop::collection::vec("(?s).{0,200}", 20)) {
        thread_local!(static CLASSIFIER: Classifier = trained(0).0);
        CLASSIFIER.with(|classifier| {
            for text in &texts {
                let score = classifier.score(text);
                prop_assert!(score.is_finite() && (0.0..=1.0).contains(&score));
            }
            Ok(())
        })?;
    }
}
