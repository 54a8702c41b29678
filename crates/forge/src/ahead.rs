//! Reading ahead: what is taken next is made while what was taken last is worked on.

use std::sync::mpsc::{IntoIter, sync_channel};
use std::thread::Scope;

/// Calls `next` on a thread of its own until it has no more, one value ahead of what is taken. Dropping the iterator ends
/// the thread with the value it is at.
pub(crate) fn ahead<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    mut next: impl FnMut() -> Option<T> + Send + 'scope,
) -> IntoIter<T> {
    let (send, values) = sync_channel(1);
    scope.spawn(move || {
        while let Some(value) = next() {
            if send.send(value).is_err() {
                break;
            }
        }
    });
    values.into_iter()
}
