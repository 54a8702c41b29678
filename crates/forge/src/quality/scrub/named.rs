//! The strings of a document that stand under a name: fields of a record, arguments of a call.

use serde_json::Value;

use crate::document::{Content, Document};

/// Calls `change` with the name and the text of each.
pub(super) fn each(document: &mut Document, change: &mut dyn FnMut(&str, &mut String)) {
    match &mut document.content {
        Content::Text(_) => {}
        Content::Record { fields, .. } => fields.iter_mut().for_each(|(name, value)| under(name, value, change)),
        Content::Conversation(conversation) => {
            let calls = conversation.messages.iter_mut().flat_map(|message| &mut message.calls);
            calls.for_each(|call| under("", &mut call.arguments, change));
            conversation.tools.iter_mut().for_each(|tool| under("", tool, change));
        }
    }
}

/// The strings under a name, those of a list each under the list's; the depth is that of what parsed it, 128 at most.
fn under(name: &str, value: &mut Value, change: &mut dyn FnMut(&str, &mut String)) {
    match value {
        Value::String(text) => change(name, text),
        Value::Array(items) => items.iter_mut().for_each(|item| under(name, item, change)),
        Value::Object(map) => map.iter_mut().for_each(|(name, item)| under(name, item, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
