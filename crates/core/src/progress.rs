//! Progress bars on stderr; silent where stderr is no terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};

/// A bar over bytes of input, with rate and time left.
pub fn bytes(total: u64, what: &'static str) -> ProgressBar {
    bar(total, what, "{msg:<10} {wide_bar:.cyan/dim} {bytes}/{total_bytes} · {bytes_per_sec} · {eta} left")
}

/// A bar over things counted in tokens, with rate and time left.
pub fn tokens(total: u64, what: &'static str) -> ProgressBar {
    bar(total, what, "{msg:<10} {wide_bar:.cyan/dim} {human_pos}/{human_len} tokens · {per_sec} · {eta} left")
}

/// A spinner with the time that has passed, for what cannot be counted. It goes when it is dropped.
pub fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner:.cyan} {msg} · {elapsed}");
    let bar = ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar.with_message(what).with_finish(ProgressFinish::AndClear)
}

fn bar(total: u64, what: &'static str, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total).with_style(style.progress_chars("━╸─")).with_message(what)
}
