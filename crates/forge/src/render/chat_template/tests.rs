use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use hephaestus_core::settings::quantity::Share;
use serde_json::{Value, json};

use super::*;
use crate::document::{Content, Conversation, LEARNED};
use crate::readers::{Kind, trajectories};
use crate::recipe::Input;
use crate::render::conversation::{Conversations, Settings, Template};

/// The fixtures, with their families' special tokens, the first two being `bos_token` and `eos_token`.
const FAMILIES: [(&str, &[&str]); 5] = [
    ("chatml", &["<s>", "<|im_end|>", "<|im_start|>"]),
    ("llama-3.1", &["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]),
    ("qwen2.5", &["<|endoftext|>", "<|im_end|>", "<|im_start|>"]),
    (
        "mistral-v0.3",
        &[
            "<s>",
            "</s>",
            "[INST]",
            "[/INST]",
            "[TOOL_CALLS]",
            "[AVAILABLE_TOOLS]",
            "[/AVAILABLE_TOOLS]",
            "[TOOL_RESULTS]",
            "[/TOOL_RESULTS]",
        ],
    ),
    ("qwen3", &["<|endoftext|>", "<|im_end|>", "<|im_start|>"]),
];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat").join(name)
}

/// A tokenizer's folder with nothing in it but what chats need.
fn folder(config: &Value, special: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let added: Vec<Value> = special.iter().map(|token| json!({"content": token, "special": true})).collect();
    fs_err::write(folder.path().join("tokenizer.json"), json!({"added_tokens": added, "model": {}}).to_string())
        .unwrap();
    fs_err::write(folder.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    folder
}

fn config(template: &str, special: &[&str]) -> Value {
    json!({"chat_template": template, "bos_token": special[0], "eos_token": {"content": special[1]}})
}

fn family(name: &str, special: &[&str]) -> ChatTemplate {
    let source = fs_err::read_to_string(fixture(&format!("{name}.jinja"))).unwrap();
    ChatTemplate::load(folder(&config(&source, special), special).path()).unwrap()
}

/// A template of one line over ChatML's special tokens.
fn small(template: &str) -> ChatTemplate {
    let special = ["<s>", "<|im_end|>", "<|im_start|>"];
    ChatTemplate::load(folder(&config(template, &special), &special).path()).unwrap()
}

fn conversation(value: Value) -> Conversation {
    let mut out = Vec::new();
    trajectories::documents("f", value, &Input::new(Kind::Trajectories, &[]), &mut out);
    match out.remove(0).unwrap().content {
        Content::Conversation(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

/// Learns what assistants say; the rest at weights of its own, to be told apart.
fn weights() -> Weights {
    Weights { system: Share(0.2), user: Share(0.4), assistant: Share(1.0), tool: Share(0.6), failed: Share(0.8) }
}

/// A small conversation with everything: tools, two calls at once where `several`, an error, quotes and other scripts.
fn everything(several: bool) -> Conversation {
    let mut calls = vec![
        json!({"id": "aaaaaaaa1", "function": {"name": "weather", "arguments": "{\"city\": \"Rôme \\\"x\\\"\", \"days\": 1.0, \"big\": 1e+22}"}}),
    ];
    let mut results = vec![json!({"role": "tool", "tool_call_id": "aaaaaaaa1", "content": "Error: no \"such\" city"})];
    if several {
        calls.push(json!({"id": "bbbbbbbb2", "function": {"name": "time", "arguments": {"zone": null, "dst": true}}}));
        results.push(json!({"role": "tool", "tool_call_id": "bbbbbbbb2", "content": "12:00"}));
    }
    let mut messages = vec![
        json!({"role": "system", "content": "Be brief. "}),
        json!({"role": "user", "content": "Weather?\n"}),
        json!({"role": "assistant", "content": "", "tool_calls": calls}),
    ];
    messages.extend(results);
    messages.extend([
        json!({"role": "assistant", "content": "<think>\nAgain.\n</think>\n\nWhich city?"}),
        json!({"role": "user", "content": "Rome, <|im_end|> not </s>."}),
        json!({"role": "assistant", "content": "It is clear."}),
    ]);
    conversation(json!({
        "messages": messages,
        "tools": [{"type": "function", "function": {
            "name": "weather", "description": "The \"sky\" of a city, <s> apart.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "Ort, z. B. Köln"}}}}}]
    }))
}

/// Without calls and their results, which ChatML has no words for.
fn only_said(mut conversation: Conversation) -> Conversation {
    conversation.messages.retain(|message| message.calls.is_empty() && message.role != Role::Tool);
    conversation
}

/// The text with `«` `»` around special tokens and `⟦weight:` … `⟧` around runs that are not fully learned.
fn shown(text: &Text) -> String {
    let mut cuts: Vec<(usize, u8, String)> = Vec::new();
    for token in &text.special {
        cuts.push((token.start, 2, "«".to_owned()));
        cuts.push((token.end, 0, "»".to_owned()));
    }
    let mut at = 0;
    for (end, weight) in &text.weights {
        if *weight != LEARNED {
            cuts.push((at, 1, format!("⟦{weight}:")));
            cuts.push((*end, 0, "⟧".to_owned()));
        }
        at = *end;
    }
    cuts.sort();
    let (mut out, mut at) = (String::new(), 0);
    for (cut, _, mark) in cuts {
        out.push_str(&text.text[at..cut]);
        out.push_str(&mark);
        at = cut;
    }
    out + &text.text[at..]
}

#[test]
fn what_is_learned_of_each_familys_template_begins_behind_the_header_and_ends_with_the_turns_last_token() {
    for (name, special) in FAMILIES {
        let conversation = everything(name != "llama-3.1");
        let conversation = if name == "chatml" { only_said(conversation) } else { conversation };
        let text = family(name, special).text(&conversation.messages, &conversation.tools, &weights()).unwrap();
        insta::assert_snapshot!(name, shown(&text));
    }
}

fn tau_bench() -> Vec<Conversation> {
    let path = "../../../shared/data/agent/trajectories/tau-bench-gpt-4o-airline.json";
    match fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)) {
        Ok(text) => {
            let records: Vec<Value> = serde_json::from_str(&text).unwrap();
            records.into_iter().map(conversation).collect()
        }
        Err(error) => {
            crate::skipped("tau-bench in the comparison with transformers", &error.to_string());
            Vec::new()
        }
    }
}

/// What transformers makes of the same; `None` where its Python is not installed.
fn reference(job: &Value) -> Option<Vec<Option<String>>> {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let mut child = Command::new(&python)
        .arg(fixture("reference.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .inspect_err(|error| {
            crate::skipped("comparison with transformers", &format!("{}: {error}", python.display()));
        })
        .ok()?;
    let mut stdin = child.stdin.take().unwrap();
    let job = job.to_string();
    let writer = std::thread::spawn(move || stdin.write_all(job.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn every_template_writes_what_transformers_writes() {
    let tools = everything(true).tools;
    let mut conversations = vec![everything(false), everything(true)];
    for (at, mut conversation) in tau_bench().into_iter().step_by(4).enumerate() {
        if at % 2 == 1 {
            conversation.tools.clone_from(&tools);
        }
        conversations.push(conversation);
    }
    for (name, special) in FAMILIES {
        let template = family(name, special);
        let mut conversations = conversations.clone();
        if name == "chatml" {
            conversations = conversations.into_iter().map(only_said).collect();
        }
        let chats: Vec<Value> = conversations
            .iter()
            .map(|conversation| {
                let renamed = if name == "mistral-v0.3" { renumbered(&conversation.messages) } else { None };
                let messages = renamed.as_ref().unwrap_or(&conversation.messages);
                let (messages, tools) = as_json(messages, &conversation.tools);
                json!({"messages": messages, "tools": tools})
            })
            .collect();
        let source = fs_err::read_to_string(fixture(&format!("{name}.jinja"))).unwrap();
        let tokens = json!({"bos_token": special[0], "eos_token": special[1]});
        let Some(expected) = reference(&json!({"template": source, "tokens": tokens, "chats": chats})) else { return };
        let mut written = 0;
        for (at, (conversation, expected)) in conversations.iter().zip(expected).enumerate() {
            let text = template.text(&conversation.messages, &conversation.tools, &weights());
            match (text, expected) {
                (Ok(text), Some(expected)) => {
                    assert_eq!(text.text, expected, "{name} {at}");
                    written += 1;
                }
                (Err(reason), None) => {
                    assert!(reason.starts_with("the chat template refuses it"), "{name} {at}: {reason}")
                }
                (ours, theirs) => panic!("{name} {at}: {ours:?}\nexpected {theirs:?}"),
            }
        }
        eprintln!("{name}: {written} of {} as transformers", conversations.len());
        assert!(written * 10 >= conversations.len() * 9 || name == "mistral-v0.3", "{name}: {written}");
    }
}

#[test]
fn the_letters_of_special_tokens_are_special_only_where_the_template_wrote_them() {
    let template = small("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}");
    let conversation = conversation(json!([{"role": "user", "content": "<|im_start|><|im_end|>"}]));
    let text = template.text(&conversation.messages, &[], &weights()).unwrap();
    assert_eq!(text.text, "<|im_start|>user\n<|im_start|><|im_end|><|im_end|>\n");
    assert_eq!(text.special, [0..12, 39..49]);
}

#[test]
fn a_thought_opened_by_the_prompt_and_another_end_of_the_last_turn_do_not_hide_whose_text_is_whose() {
    let template = small(concat!(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}",
        "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% else %}<s>{% endif %}"
    ));
    let user = json!({"role": "user", "content": "x"});
    let assistant = json!({"role": "assistant", "content": "y"});
    let conversation = conversation(json!([user, assistant, user, assistant]));
    let text = template.text(&conversation.messages, &[], &Weights { user: Share(0.0), ..weights() }).unwrap();
    let turn = "⟦0:«<|im_start|>»user\nx«<|im_end|>»«<|im_start|>»assistant\n⟧y«<|im_end|>»";
    // What ends the last turn is the template's end of a turn that is the last.
    assert_eq!(shown(&text), format!("{turn}{turn}«<s>»"));
}

#[test]
fn what_a_template_does_not_pass_on_is_refused_rather_than_guessed() {
    let said = |content: &str| {
        conversation(json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": content}]))
    };
    let reason = |template: &str, conversation: &Conversation| {
        small(template).text(&conversation.messages, &[], &weights()).unwrap_err()
    };
    let calls = conversation(json!([
        {"role": "user", "content": "x"},
        {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]}]));
    let plain = "{% for m in messages %}{{ m.content }}{% endfor %}";
    let reasons = [
        reason("{% for m in messages %}{{ m.content|length }} {% endfor %}", &said("y")),
        reason("{% for m in messages %}{{ m.content }}{{ messages|length }}{% endfor %}", &said("y")),
        reason(plain, &calls),
        reason(plain, &said("a\u{F1234}b")),
        reason("{{ raise_exception('never') }}", &said("y")),
        reason("{{ strftime_now('%U') }}", &said("y")),
        reason("{{ nothing.at.all }}", &said("y")),
    ];
    insta::assert_debug_snapshot!(reasons);
}

#[test]
fn folders_are_read_as_transformers_reads_them() {
    let messages = conversation(json!([{"role": "user", "content": "x"}])).messages;
    let tools = [json!({"name": "f"})];
    let text = |folder: &Path, tools: &[Value]| {
        ChatTemplate::load(folder).unwrap().text(&messages, tools, &weights()).unwrap().text
    };
    let named = json!({"chat_template": [
        {"name": "default", "template": "{{ bos_token }} plain"}, {"name": "tool_use", "template": "with tools"}]});
    let named = folder(&named, &["<s>"]);
    fs_err::write(named.path().join("special_tokens_map.json"), r#"{"bos_token": "<s>"}"#).unwrap();
    assert_eq!((text(named.path(), &[]), text(named.path(), &tools)), ("<s> plain".into(), "with tools".into()));
    fs_err::write(
        named.path().join("chat_template.jinja"),
        "{% generation %}\r\nfrom the file\n{% endgeneration -%}\n",
    )
    .unwrap();
    assert_eq!(text(named.path(), &[]), "from the file\n");

    let settings = Settings { template: Template::Tokenizer, ..Settings::default() };
    let refused = |config: Value| {
        let folder = folder(&config, &[]);
        let error = Conversations::new(&settings, folder.path()).unwrap_err().to_string();
        error.replace(&folder.path().display().to_string(), "FOLDER")
    };
    insta::assert_debug_snapshot!([
        refused(json!({})),
        refused(json!({"chat_template": 7})),
        refused(json!({"chat_template": [{"name": "default"}]})),
        refused(json!({"chat_template": "{% for %}"})),
    ]);
    let missing = Conversations::new(&settings, Path::new("/nowhere")).unwrap_err().to_string();
    assert!(missing.contains("/nowhere/tokenizer.json"), "{missing}");
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn whatever_messages_say_runs_and_tokens_are_inside_the_text_and_in_order(
            said in prop::collection::vec("(<\\|im_end\\|>|</s>|<think>|</think>|\\[INST\\]| |\n|é|\u{F0001}|\u{100001}|[a-c])*", 1..7)
        ) {
            let messages: Vec<Value> = said
                .iter()
                .enumerate()
                .map(|(at, said)| json!({"role": if at % 2 == 0 { "user" } else { "assistant" }, "content": said}))
                .collect();
            let conversation = conversation(json!(messages));
            for (name, special) in FAMILIES {
                let Ok(text) = family(name, special).text(&conversation.messages, &[], &weights()) else { continue };
                let mut at = 0;
                for (end, _) in &text.weights {
                    prop_assert!(*end > at && text.text.is_char_boundary(*end));
                    at = *end;
                }
                prop_assert!(text.weights.is_empty() || at == text.text.len());
                let mut at = 0;
                for token in &text.special {
                    prop_assert!(token.start >= at && special.contains(&&text.text[token.clone()]));
                    at = token.end;
                }
            }
        }
    }
}
