//! Which call each result answers, and which turns failed.

use std::collections::{HashMap, VecDeque};

use super::clipped;
use super::failure::is_failure;
use crate::document::{Message, Role};

/// Calls that no result has answered yet; every question about them is answered in constant time.
#[derive(Default)]
struct Pending {
    /// The message and the call in it, in order; `None` once answered.
    calls: Vec<Option<(usize, usize)>>,
    by_id: HashMap<String, Vec<usize>>,
    by_name: HashMap<String, VecDeque<usize>>,
    /// No call before this one is unanswered.
    first: usize,
}

impl Pending {
    fn add(&mut self, message: usize, call: usize, id: Option<&str>, name: &str) {
        let at = self.calls.len();
        self.calls.push(Some((message, call)));
        if let Some(id) = id {
            self.by_id.entry(id.to_owned()).or_default().push(at);
        }
        self.by_name.entry(name.to_owned()).or_default().push_back(at);
    }

    /// By identifier where calls have them, else by the tool's name, else the oldest.
    fn answer(&mut self, id: Option<&str>, name: Option<&str>) -> Option<(usize, usize)> {
        if let Some(id) = id
            && !self.by_id.is_empty()
        {
            let at = self.by_id.get_mut(id)?.pop()?;
            return self.calls[at].take();
        }
        if let Some(name) = name {
            let queue = self.by_name.get_mut(name)?;
            while let Some(at) = queue.pop_front() {
                if let Some(call) = self.calls[at].take() {
                    return Some(call);
                }
            }
            return None;
        }
        while let Some(call) = self.calls.get_mut(self.first) {
            self.first += 1;
            if let Some(call) = call.take() {
                return Some(call);
            }
        }
        None
    }
}

/// Gives each call an identifier, and each result the name and identifier of the call that it answers; marks as failed the results that are errors
/// and the turns that called for them. A turn of several calls fails with any of them. `list` is the messages' JSON pointer.
///
/// # Errors
/// In words, with the message's pointer, where a result answers no call, or there is no message at all.
pub(super) fn pair(messages: &mut [Message], list: &str) -> Result<(), String> {
    if messages.is_empty() {
        return Err(format!("{list} holds no message"));
    }
    let mut pending = Pending::default();
    for at in 0..messages.len() {
        let (before, rest) = messages.split_at_mut(at);
        let Some(message) = rest.first_mut() else { break };
        match message.role {
            Role::Assistant => {
                for (index, call) in message.calls.iter_mut().enumerate() {
                    pending.add(at, index, call.id.as_deref(), &call.name);
                    // Nine letters and digits, as the strictest chat templates want them.
                    let number = pending.calls.len();
                    call.id.get_or_insert_with(|| format!("call{number:05}"));
                }
            }
            Role::Tool => {
                let Some((caller, call)) = pending.answer(message.call_id.as_deref(), message.name.as_deref()) else {
                    return Err(orphan(message, list, at));
                };
                let caller = &mut before[caller];
                let call = &caller.calls[call];
                message.name.get_or_insert_with(|| call.name.clone());
                message.call_id.clone_from(&call.id);
                if is_failure(&message.content) {
                    message.failed = true;
                    caller.failed = true;
                }
            }
            Role::System | Role::User => {}
        }
    }
    Ok(())
}

fn orphan(message: &Message, list: &str, at: usize) -> String {
    let of = match (&message.call_id, &message.name) {
        (Some(id), Some(name)) => format!(" of `{}` (call `{}`)", clipped(name, 60), clipped(id, 60)),
        (Some(id), None) => format!(" (call `{}`)", clipped(id, 60)),
        (None, Some(name)) => format!(" of `{}`", clipped(name, 60)),
        (None, None) => String::new(),
    };
    format!("{list}/{at}: a tool's result{of} that answers no call before it")
}
