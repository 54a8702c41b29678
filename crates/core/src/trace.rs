//! What a program does inside, on stderr: nothing, unless `HEPHAESTUS_LOG` asks for it, as `debug` or
//! `hephaestus::checkpoint=trace` (the directives of `tracing_subscriber::EnvFilter`).

use tracing_subscriber::EnvFilter;

/// Listens, if the environment asks for it. Every program calls it first.
pub fn start() {
    if let Ok(filter) = EnvFilter::try_from_env("HEPHAESTUS_LOG") {
        // Refused only where something listens already, and then that is what was wanted.
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
    }
}
