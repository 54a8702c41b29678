use std::path::Path;

use serde_json::json;

use super::*;
use crate::document::{Message, Role};
use crate::readers::Kind;

fn input() -> Input {
    Input::new(Kind::Trajectories, &[])
}

fn read(value: Value) -> Vec<Read> {
    read_with(value, &input())
}

fn read_with(value: Value, input: &Input) -> Vec<Read> {
    let mut out = Vec::new();
    documents("f.json", value, input, &mut out);
    out
}

fn conversation_of(read: Read) -> Conversation {
    match read.unwrap().content {
        Content::Conversation(conversation) => conversation,
        other => panic!("{other:?}"),
    }
}

fn one(value: Value) -> Conversation {
    let mut reads = read(value);
    assert_eq!(reads.len(), 1);
    conversation_of(reads.remove(0))
}

fn reason(value: Value) -> String {
    match read(value).remove(0) {
        Err(bad) => bad.reason,
        Ok(document) => panic!("{document:?}"),
    }
}

/// A message in a line: who, what, which calls with their arguments, of which tool, whether it failed.
fn shown(message: &Message) -> String {
    let calls: String = message.calls.iter().map(|call| format!(" -> {} {}", call.name, call.arguments)).collect();
    let name = message.name.as_deref().map(|name| format!(" ({name})")).unwrap_or_default();
    let failed = if message.failed { " FAILED" } else { "" };
    format!("{:?}{name}: {}{calls}{failed}", message.role, message.content)
}

fn all(conversation: &Conversation) -> Vec<String> {
    conversation.messages.iter().map(shown).collect()
}

#[test]
fn openai_messages_keep_calls_results_and_tools_and_a_failed_call_marks_its_turn() {
    let conversation = one(json!({
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather "}, {"type": "text", "text": "in Rome?"}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{\"city\": \"Rome\"}"}},
                {"id": "b", "type": "function", "function": {"name": "time", "arguments": "not json"}}]},
            {"role": "tool", "tool_call_id": "b", "content": "Error: no such zone"},
            {"role": "tool", "tool_call_id": "a", "content": "{\"sky\": \"clear\"}"},
            {"role": "assistant", "content": "Clear."}
        ],
        "tools": [{"type": "function", "function": {"name": "weather"}}],
        "reward": 1.0, "note": null
    }));
    insta::assert_debug_snapshot!(all(&conversation), @r#"
    [
        "System: Be brief.",
        "User: Weather in Rome?",
        "Assistant:  -> weather {\"city\":\"Rome\"} -> time \"not json\" FAILED",
        "Tool (time): Error: no such zone FAILED",
        "Tool (weather): {\"sky\": \"clear\"}",
        "Assistant: Clear.",
    ]
    "#);
    assert_eq!(conversation.tools, [json!({"name": "weather"})]);
    assert_eq!(Value::Object(conversation.fields.clone()), json!({"reward": 1.0}));
    assert_eq!(conversation.called().collect::<Vec<_>>(), ["weather", "time"]);
}

#[test]
fn the_older_function_call_is_read_too_and_calls_get_identifiers() {
    let conversation = one(json!([
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "Sure.", "function_call": {"name": "add", "arguments": {"a": 1}}},
        {"role": "function", "name": "add", "content": 3}
    ]));
    assert_eq!(all(&conversation), ["User: Add.", "Assistant: Sure. -> add {\"a\":1}", "Tool (add): 3"]);
    assert_eq!(conversation.messages[1].calls[0].id.as_deref(), Some("call00001"));
    assert_eq!(conversation.messages[2].call_id.as_deref(), Some("call00001"));
}

#[test]
fn sharegpt_is_read_with_calls_as_turns_or_in_tags() {
    let conversation = one(json!({
        "conversations": [
            {"from": "human", "value": "Weather?"},
            {"from": "function_call", "value": "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}"},
            {"from": "observation", "value": "{\"error\": \"no key\"}"},
            {"from": "gpt", "value": "Again.\n<tool_call>\n{'name': 'weather', 'arguments': {'city': 'Rome', 'key': True}}\n</tool_call>"},
            {"from": "tool", "value": "<tool_response>\nclear\n</tool_response>"},
            {"from": "gpt", "value": "It is clear."}
        ],
        "system": "Be brief.",
        "tools": "[{\"name\": \"weather\"}]"
    }));
    insta::assert_debug_snapshot!(all(&conversation), @r#"
    [
        "System: Be brief.",
        "User: Weather?",
        "Assistant:  -> weather {\"city\":\"Rome\"} FAILED",
        "Tool (weather): {\"error\": \"no key\"} FAILED",
        "Assistant: Again. -> weather {\"city\":\"Rome\",\"key\":true}",
        "Tool (weather): clear",
        "Assistant: It is clear.",
    ]
    "#);
    assert_eq!(conversation.tools, [json!({"name": "weather"})]);
}

#[test]
fn toolbench_gives_its_apis_as_tools_and_its_actions_as_calls() {
    let conversation = one(json!({
        "id": "Step 3: find a song",
        "conversations": [
            {"from": "system", "value": "You are AutoGPT.\nSpecifically, you have access to the following APIs: [{'name': 'lyrics_for_genius', 'description': \"It's a search\", 'parameters': {'type': 'object', 'optional': []}}, {'name': 'Finish'}]"},
            {"from": "user", "value": "\nFind a song.\nBegin!\n"},
            {"from": "assistant", "value": "\nThought: I search.\nAction: lyrics_for_genius\nAction Input: {\n  \"q\": \"rain\"\n}"},
            {"from": "function", "value": "{\"error\": \"\", \"response\": \"['rain']\"}"},
            {"from": "assistant", "value": "\nThought: \nAction: lyrics_for_genius\nAction Input: {\"q\": }"},
            {"from": "function", "value": "{\"error\": \"Unable to parse\", \"response\": \"\"}"},
            {"from": "assistant", "value": "\nThought: Done.\nAction: Finish\nAction Input: {\"return_type\": \"give_answer\", \"final_answer\": \"Rain\"}"}
        ]
    }));
    insta::assert_debug_snapshot!(all(&conversation), @r#"
    [
        "System: You are AutoGPT.",
        "User: Find a song.\nBegin!",
        "Assistant: I search. -> lyrics_for_genius {\"q\":\"rain\"}",
        "Tool (lyrics_for_genius): {\"error\": \"\", \"response\": \"['rain']\"}",
        "Assistant:  -> lyrics_for_genius \"{\\\"q\\\": }\" FAILED",
        "Tool (lyrics_for_genius): {\"error\": \"Unable to parse\", \"response\": \"\"} FAILED",
        "Assistant: Done. -> Finish {\"return_type\":\"give_answer\",\"final_answer\":\"Rain\"}",
    ]
    "#);
    assert_eq!(conversation.tools[0]["description"], "It's a search");
}

#[test]
fn react_text_is_a_conversation_a_question_in_both_ways_of_writing_actions() {
    let text = "Solve with tools.\n\nQuestion: Who?\nThought 1: I search.\nAction 1: Search[Colorado orogeny]\nObservation 1: It \
                is\na mountain.\nThought 2: Done.\nAction 2: Finish[A mountain]\n\nQuestion: How much?\nThought: Add.\nAction: \
                calculator\nAction Input: {\"x\": \"1+1\"}\nObservation: 2\nThought: I know.\nFinal Answer: two\n\nQuestion: \
                And?\nObservation: lost\n";
    let mut reads = Vec::new();
    super::text("f.txt", text, &input(), &mut reads);
    let bad = reads.pop().unwrap().unwrap_err();
    assert_eq!(bad.to_string(), "f.txt:19: turn/1: a tool's result that answers no call before it");
    let origins: Vec<_> = reads.iter().map(|read| read.as_ref().unwrap().origin.clone()).collect();
    assert_eq!(origins, ["f.txt:3", "f.txt:11"]);
    let shown: Vec<_> = reads.into_iter().map(|read| all(&conversation_of(read))).collect();
    insta::assert_debug_snapshot!(shown, @r#"
    [
        [
            "System: Solve with tools.",
            "User: Who?",
            "Assistant: I search. -> Search \"Colorado orogeny\"",
            "Tool (Search): It is\na mountain.",
            "Assistant: Done. -> Finish \"A mountain\"",
        ],
        [
            "User: How much?",
            "Assistant: Add. -> calculator {\"x\":\"1+1\"}",
            "Tool (calculator): 2",
            "Assistant: I know.\n\ntwo",
        ],
    ]
    "#);
}

#[test]
fn what_is_broken_is_named_with_its_place() {
    let reasons: Vec<String> = [
        json!(7),
        json!([]),
        json!({"prompt": "x", "completion": "y"}),
        json!({"messages": "x"}),
        json!({"messages": []}),
        json!({"messages": [{"role": "robot", "content": "x"}]}),
        json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}),
        json!({"messages": [{"role": "user", "content": "x"}, {"role": "tool", "content": "y", "tool_call_id": "z"}]}),
        json!({"messages": [
            {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
            {"role": "tool", "content": "y", "tool_call_id": "z", "name": "f"}]}),
        json!({"messages": [{"role": "assistant", "tool_calls": [{"id": "a", "function": {}}]}]}),
        json!({"messages": [{"role": "user", "content": "x"}], "tools": "[{"}),
        json!({"conversations": [{"from": "alien", "value": "x"}]}),
        json!({"conversations": [{"from": "function_call", "value": "f(x)"}]}),
        json!({"messages_display": "nobody said it"}),
        json!("no label"),
    ]
    .into_iter()
    .map(reason)
    .collect();
    insta::assert_debug_snapshot!(reasons);
}

#[test]
fn records_are_selected_by_their_numbers_and_a_missing_one_is_said() {
    let record =
        |reward: Value| json!({"reward": reward, "info": {"n": 3}, "messages": [{"role": "user", "content": "x"}]});
    let mut input = input();
    input.at_least = [("reward".to_owned(), 1.0), ("/info/n".to_owned(), 2.0)].into();
    assert_eq!(read_with(record(json!(1.0)), &input).len(), 1);
    assert_eq!(read_with(record(json!(true)), &input).len(), 1);
    assert_eq!(read_with(record(json!(0.5)), &input), []);
    let bad = read_with(record(json!("high")), &input).remove(0).unwrap_err();
    assert_eq!(bad.reason, "holds no number at `reward`, which at_least selects by");
}

fn tau_bench(file: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/agent/trajectories").join(file);
    let read = fs_err::read_to_string(path);
    if let Err(error) = &read {
        crate::skipped("trajectories of tau-bench", &error.to_string());
    }
    read.ok()
}

#[test]
fn every_tau_bench_conversation_is_read_with_its_reward_and_without_the_simulators_signal() {
    let Some(text) = tau_bench("tau-bench-gpt-4o-airline.json") else { return };
    let records: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut input = input();
    let read_all = |input: &Input| -> Vec<Conversation> {
        records.iter().flat_map(|record| read_with(record.clone(), input)).map(conversation_of).collect()
    };
    let conversations = read_all(&input);
    assert_eq!(conversations.len(), 200);
    let count = |role: Role| {
        conversations
            .iter()
            .flat_map(|conversation| &conversation.messages)
            .filter(|message| message.role == role)
            .count()
    };
    // Counted in the file with a few lines of Python.
    assert_eq!((count(Role::Assistant), count(Role::Tool), count(Role::System)), (2454, 1164, 200));
    let messages = || conversations.iter().flat_map(|conversation| &conversation.messages);
    assert_eq!(messages().filter(|message| message.role == Role::Tool && message.failed).count(), 73);
    assert_eq!(messages().filter(|message| message.role == Role::Assistant && message.failed).count(), 73);
    assert!(messages().all(|message| !message.content.contains("###STOP###")));
    input.at_least = [("reward".to_owned(), 1.0)].into();
    assert_eq!(read_all(&input).len(), 84);
}

#[test]
fn every_displayed_tau_bench_conversation_is_read() {
    let Some(text) = tau_bench("tau-bench-retail-few-shot.jsonl") else { return };
    let conversations: Vec<Conversation> = text.lines().map(|line| one(serde_json::from_str(line).unwrap())).collect();
    assert_eq!(conversations.len(), 69);
    let count = |role: Role| {
        conversations
            .iter()
            .flat_map(|conversation| &conversation.messages)
            .filter(|message| message.role == role)
            .count()
    };
    assert_eq!((count(Role::Assistant), count(Role::Tool)), (503, 479));
}

mod hostile {
    use proptest::prelude::*;

    use super::*;

    fn scalar() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            prop::sample::select(vec![
                "user",
                "assistant",
                "tool",
                "system",
                "human",
                "gpt",
                "function_call",
                "observation",
                "text",
                "",
                "\nThought: a\nAction: b\nAction Input: {",
                "Question: é\nObservation 2: x",
                "<tool_call>{'name': '",
                "user: a\ntool: b",
                "{\"name\": \"f\"}",
                "[{\"name\": \"f\", \"arguments\": [1]}]",
                "Specifically, you have access to the following APIs: [{'name': 'é'}] x",
            ])
            .prop_map(Value::from),
            "\\PC{0,12}".prop_map(Value::from),
        ]
    }

    fn value() -> impl Strategy<Value = Value> {
        let keys = prop::sample::select(vec![
            "messages",
            "traj",
            "conversations",
            "messages_display",
            "role",
            "from",
            "value",
            "content",
            "tool_calls",
            "function_call",
            "function",
            "name",
            "arguments",
            "id",
            "tool_call_id",
            "tools",
            "type",
            "text",
            "system",
        ]);
        scalar().prop_recursive(5, 64, 6, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((keys.clone(), inner), 0..6).prop_map(|pairs| pairs
                    .into_iter()
                    .map(|(key, item)| (key.to_owned(), item))
                    .collect::<Map<_, _>>()
                    .into()),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_value_is_more_than_a_bad_record_in_any_form(value in value(), turns in prop::collection::vec(value(), 0..4)) {
            let wrapped = [
                value,
                json!({"messages": turns.clone()}),
                json!({"conversations": turns.clone()}),
                Value::Array(turns),
            ];
            for form in [Form::Auto, Form::Openai, Form::Sharegpt, Form::Toolbench, Form::React] {
                let input = Input { form: Some(form), ..input() };
                for value in wrapped.clone() {
                    prop_assert!(!read_with(value, &input).is_empty());
                }
            }
        }

        #[test]
        fn no_text_breaks_the_reader_of_react(
            lines in prop::collection::vec("(Question|Thought|Action|Action Input|Observation|Final Answer|)( 1)?:?\\PC{0,8}", 0..12)
        ) {
            let mut out = Vec::new();
            super::super::text("f", &lines.join("\n"), &input(), &mut out);
            prop_assert!(!out.is_empty());
        }
    }
}
