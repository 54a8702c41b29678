use std::path::Path;

use serde_json::json;

use super::*;
use crate::document::Content;
use crate::readers::{Kind, trajectories};
use crate::recipe::Input;

fn conversation(value: Value) -> Conversation {
    let mut out = Vec::new();
    trajectories::documents("f", value, &Input::new(Kind::Trajectories, &[]), &mut out);
    match out.remove(0).unwrap().content {
        Content::Conversation(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

/// The text with `⟦weight:` … `⟧` around each run that is not fully learned.
fn shown(text: &Text) -> String {
    let (mut out, mut at) = (String::new(), 0);
    for (end, weight) in &text.weights {
        match *weight {
            LEARNED => out.push_str(&text.text[at..*end]),
            weight => out.push_str(&format!("⟦{weight}:{}⟧", &text.text[at..*end])),
        }
        at = *end;
    }
    out + &text.text[at..]
}

/// Learns what assistants say; the rest at weights of its own, to be told apart.
fn settings() -> Settings {
    let weights =
        Weights { system: Share(0.2), user: Share(0.4), assistant: Share(1.0), tool: Share(0.6), failed: Share(0.8) };
    Settings { weights, ..Settings::default() }
}

fn rendered(settings: &Settings, value: Value) -> String {
    let render = Conversations::new(settings, Path::new("/no/tokenizer/is/needed")).unwrap();
    shown(&render.text(&conversation(value)).unwrap())
}

fn everything() -> Value {
    json!({
        "messages": [
            {"role": "system", "content": "# Policy\n\nBe brief."},
            {"role": "user", "content": "Weather and time?\n"},
            {"role": "assistant", "content": "I ask for both.", "tool_calls": [
                {"id": "a", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\", \"days\": 1.0}"}},
                {"id": "b", "function": {"name": "time", "arguments": "Rome"}}]},
            {"role": "tool", "tool_call_id": "a", "content": "{\n  \"sky\": \"clear\"\n}"},
            {"role": "tool", "tool_call_id": "b", "content": "Error: no such zone"},
            {"role": "assistant", "content": "", "tool_calls": [
                {"id": "c", "function": {"name": "think", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c", "content": ""},
            {"role": "assistant", "content": "It is clear."}
        ],
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}, {"name": "time"}]
    })
}

#[test]
fn the_builtin_template_reads_like_a_transcript_and_never_learns_the_assistants_heading() {
    insta::assert_snapshot!(rendered(&settings(), everything()));
}

#[test]
fn by_default_all_is_learned_but_instructions_headings_and_failed_turns() {
    insta::assert_snapshot!(rendered(&Settings::default(), everything()));
}

#[test]
fn tools_stand_behind_the_instructions_or_alone_or_not_at_all() {
    let bare = |messages: Value| json!({"messages": messages, "tools": [{"name": "f"}]});
    let learned = Settings { weights: Weights { system: Share(1.0), ..Weights::default() }, ..Settings::default() };
    let user = json!([{"role": "user", "content": "x"}]);
    assert_eq!(rendered(&learned, bare(user.clone())), "Tools:\n{\"name\":\"f\"}\n\nUser: x");
    let system = json!([{"role": "system", "content": "x"}]);
    assert_eq!(rendered(&learned, bare(system)), "System: x\n\nTools:\n{\"name\":\"f\"}");
    assert_eq!(rendered(&Settings { tools: false, ..learned }, bare(user)), "User: x");
}

#[test]
fn the_settings_are_read_and_an_unknown_key_is_refused() {
    let settings: Settings =
        serde_json::from_value(json!({"template": "tokenizer", "weights": {"tool": 0.5, "failed": 0.1}})).unwrap();
    assert_eq!(
        (settings.template, settings.weights.tool, settings.weights.user),
        (Template::Tokenizer, Share(0.5), Share(1.0))
    );
    let error = serde_json::from_value::<Settings>(json!({"weights": {"robot": 1}})).unwrap_err();
    assert!(error.to_string().contains("unknown field `robot`"), "{error}");
}

/// Of five conversations whose rendering was read and found good.
#[test]
fn real_conversations_learn_about_what_they_say_and_no_heading() {
    let path = "../../../shared/data/agent/trajectories/tau-bench-gpt-4o-airline.json";
    let text = match fs_err::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)) {
        Ok(text) => text,
        Err(error) => {
            let test = "real_conversations_learn_about_what_they_say_and_no_heading";
            return crate::skipped(test, &error.to_string());
        }
    };
    let records: Vec<Value> = serde_json::from_str(&text).unwrap();
    let render = Conversations::new(&Settings::default(), Path::new("")).unwrap();
    for at in [0, 31, 77, 120, 180] {
        let conversation = conversation(records[at].clone());
        let text = render.text(&conversation).unwrap();
        let (mut unlearned, mut from) = (String::new(), 0);
        for (end, weight) in &text.weights {
            if *weight == 0 {
                unlearned.push_str(&text.text[from..*end]);
            }
            from = *end;
        }
        let turns = conversation.messages.iter().filter(|message| message.role == Role::Assistant).count();
        let failed = conversation.messages.iter().filter(|message| message.role == Role::Assistant && message.failed);
        assert_eq!(unlearned.matches("Assistant:").count(), turns, "{at}");
        assert_eq!(
            unlearned.matches("Call: ").count(),
            failed.map(|message| message.calls.len()).sum::<usize>(),
            "{at}"
        );
        assert!(!unlearned.contains("User:") && !unlearned.contains("Result:"), "{at}");
    }
}
