//! TensorBoard event files, written without TensorFlow.
//!
//! An event file is TFRecord-framed (tensorflow `core/lib/io/record_writer.h`) `Event` messages (`core/util/event.proto`,
//! `core/framework/summary.proto`). The few fields that scalars need are encoded here by hand; field numbers stand beside
//! them. Scalars are single precision in that format.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::append::Appended;
use super::kept::Log;
use super::{Progress, Validation};

/// Name of the folder in a run's output folder.
pub const FOLDER: &str = "tensorboard";

/// One open event file.
#[derive(Debug)]
pub struct EventFile {
    file: Appended,
}

impl EventFile {
    /// Makes a new event file in `output/tensorboard`: TensorBoard reads all that lie there, in order of their names.
    ///
    /// Each says at which step it starts, so TensorBoard forgets what earlier files tell of that step and later ones: of
    /// steps after `from_step`, which are trained again, or of everything where a run starts anew in a used folder.
    ///
    /// # Errors
    /// What the system refuses.
    pub fn open(output: &Path, from_step: u64) -> io::Result<Self> {
        let folder = output.join(FOLDER);
        fs_err::create_dir_all(&folder)?;
        let mut events = Self { file: create(&folder)? };
        // Event.file_version = 3
        events.write(0, &bytes_field(3, b"brain.Event:2"))?;
        // Event.session_log = 7, SessionLog.status = 1, START = 1
        let first = if from_step == 0 { 0 } else { from_step + 1 };
        events.write(first, &bytes_field(7, &varint_field(1, 1)))?;
        Ok(events)
    }

    /// One event with a summary of named values.
    fn scalars(&mut self, step: u64, scalars: &[(String, f64)]) -> io::Result<()> {
        let mut summary = Vec::new();
        for (tag, value) in scalars {
            // Summary.value = 1, Value.tag = 1, Value.simple_value = 2
            let mut message = bytes_field(1, tag.as_bytes());
            message.push(key(2, FIXED32));
            message.extend((*value as f32).to_le_bytes());
            summary.extend(bytes_field(1, &message));
        }
        // Event.summary = 5
        self.write(step, &bytes_field(5, &summary))
    }

    /// One framed event: wall time, step, and what it says.
    fn write(&mut self, step: u64, what: &[u8]) -> io::Result<()> {
        // Event.wall_time = 1 (double), Event.step = 2 (int64)
        let mut event = vec![key(1, FIXED64)];
        event.extend(now().to_le_bytes());
        event.extend(varint_field(2, step));
        event.extend(what);
        self.file.append(&record(&event))
    }
}

impl Log for EventFile {
    fn progress(&mut self, progress: &Progress) -> io::Result<()> {
        let mut scalars = vec![
            ("train/loss".to_owned(), progress.loss),
            ("train/grad_norm".to_owned(), progress.grad_norm),
            ("train/lr".to_owned(), progress.lr),
            ("train/tokens_per_second".to_owned(), progress.tokens_per_second),
        ];
        scalars.extend(progress.mfu.map(|mfu| ("train/mfu".to_owned(), mfu)));
        scalars.extend(progress.sources.iter().map(|(name, loss)| (format!("train/loss/{name}"), *loss)));
        self.scalars(progress.step, &scalars)
    }

    fn validation(&mut self, validation: &Validation) -> io::Result<()> {
        let scalars = validation.sources.iter().flat_map(|source| {
            let loss = (format!("validation/loss/{}", source.name), source.loss);
            [loss, (format!("validation/perplexity/{}", source.name), source.perplexity())]
        });
        self.scalars(validation.step, &scalars.collect::<Vec<_>>())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }
}

/// A file that no other has made: runs that start within one second on one host get a number behind the name.
fn create(folder: &Path) -> io::Result<Appended> {
    let name = format!("events.out.tfevents.{:010}.{}", now() as u64, host());
    let path =
        |number: u32| -> PathBuf { folder.join(if number == 0 { name.clone() } else { format!("{name}.{number}") }) };
    let mut number = 0;
    loop {
        match Appended::create(&path(number)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < 1000 => number += 1,
            made => return made,
        }
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |time| time.as_secs_f64())
}

/// This machine's name, of characters that file names bear.
fn host() -> String {
    let name = fs_err::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    if name.is_empty() { "localhost".to_owned() } else { name }
}

/// A TFRecord: length, its checksum, the bytes, their checksum.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_crc(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc(bytes).to_le_bytes());
    record
}

/// CRC-32C, rotated and shifted so that a checksum of data that holds checksums is not weak (tensorflow
/// `core/lib/hash/crc32c.h`).
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

// Wire types of Protocol Buffers' encoding.
const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const BYTES: u8 = 2;
const FIXED32: u8 = 5;

/// The key of a field below number 16.
const fn key(field: u8, wire: u8) -> u8 {
    field << 3 | wire
}

fn varint_field(field: u8, value: u64) -> Vec<u8> {
    let mut out = vec![key(field, VARINT)];
    varint(&mut out, value);
    out
}

fn bytes_field(field: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![key(field, BYTES)];
    varint(&mut out, bytes.len() as u64);
    out.extend(bytes);
    out
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_are_those_of_the_specification() {
        // 150 and 300 are the examples of protobuf.dev/programming-guides/encoding.
        assert_eq!(varint_field(1, 150), [0x08, 0x96, 0x01]);
        let mut out = Vec::new();
        varint(&mut out, 300);
        assert_eq!(out, [0xac, 0x02]);
    }

    #[test]
    fn runs_that_start_in_one_second_do_not_share_a_file() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..3 {
            EventFile::open(folder.path(), 0).unwrap();
        }
        assert_eq!(fs_err::read_dir(folder.path().join(FOLDER)).unwrap().count(), 3);
    }
}
