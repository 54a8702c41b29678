//! A Parquet file, checked before the library reads it.
//!
//! The library checks much of what it reads; what it does not is checked here by walking over footers and page headers
//! ([`thrift`]), and where it panics all the same, that is an error.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use bytes::Bytes;
use parquet::file::reader::{ChunkReader as _, FileReader, Length as _, SerializedFileReader};

use super::super::stream;
use super::thrift;

/// Largest page that is unpacked; writers make pages of about a megabyte.
const PAGE: u64 = 256 << 20;
/// Bytes that a page's header may take.
const HEADER: u64 = 1 << 20;
/// What a file ends with: the length of its footer, and "PAR1".
const TAIL: u64 = 8;

/// Runs what calls the library; its panics are errors.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // What the closure changes is dropped when it panics: callers end the row group.
    catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err("not Parquet that can be read: its structure contradicts itself".to_owned()))
}

/// The bytes of a file, as they lie on the disk or unpacked in memory.
pub(super) enum Source {
    File(File),
    Memory(Bytes),
}

impl Source {
    fn bytes(&self, at: u64, length: u64) -> Result<Bytes, String> {
        let length = usize::try_from(length).map_err(|error| error.to_string())?;
        match self {
            Self::File(file) => file.get_bytes(at, length),
            Self::Memory(bytes) => bytes.get_bytes(at, length),
        }
        .map_err(|error| error.to_string())
    }

    fn len(&self) -> u64 {
        match self {
            Self::File(file) => file.len(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Whether the footer is a structure that ends within its bytes; one that is not there is the library's to refuse.
    fn has_sound_footer(&self) -> Result<bool, String> {
        let Some(tail) = self.len().checked_sub(TAIL) else { return Ok(true) };
        let length = self.bytes(tail, 4)?.iter().rev().fold(0, |length, byte| length << 8 | u64::from(*byte));
        let Some(begin) = tail.checked_sub(length) else { return Ok(true) };
        Ok(thrift::is_footer(&self.bytes(begin, length)?))
    }

    /// Refuses pages between two places that contradict themselves or are too large.
    pub(super) fn check_pages(&self, mut at: u64, end: u64) -> Result<(), String> {
        while at < end {
            let rest = (end - at).min(self.len().saturating_sub(at));
            // Most headers take a few dozen bytes; statistics make them longer.
            let mut header = thrift::page_header(&self.bytes(at, rest.min(4 << 10))?);
            if header.is_none() {
                header = thrift::page_header(&self.bytes(at, rest.min(HEADER))?);
            }
            let header = header.ok_or_else(|| format!("no page header at byte {at}"))?;
            if header.unpacked > PAGE {
                return Err(format!(
                    "the page at byte {at} takes {} bytes unpacked, over the limit of {PAGE}",
                    header.unpacked
                ));
            }
            at = at.saturating_add(header.length).saturating_add(header.packed);
        }
        Ok(())
    }
}

pub(super) fn open(path: &Path, limit: u64) -> Result<(Source, Box<dyn FileReader>), String> {
    let words = |error: parquet::errors::ParquetError| format!("not Parquet: {error}");
    let source = if stream::open(path).map_err(|error| error.to_string())?.packing == stream::Packing::Plain {
        Source::File(fs_err::File::open(path).map_err(|error| error.to_string())?.into_parts().0)
    } else {
        // Parquet is read from its end, so a packed file is unpacked first.
        Source::Memory(Bytes::from(stream::read(path, limit)?))
    };
    if !source.has_sound_footer()? {
        return Err("not Parquet: its footer contradicts itself".to_owned());
    }
    let reader = guarded(|| {
        Ok(match &source {
            Source::File(file) => {
                let file = file.try_clone().map_err(|error| error.to_string())?;
                Box::new(SerializedFileReader::new(file).map_err(words)?) as Box<dyn FileReader>
            }
            Source::Memory(bytes) => Box::new(SerializedFileReader::new(bytes.clone()).map_err(words)?),
        })
    })?;
    Ok((source, reader))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A page header: 4 bytes in the file, `unpacked` (as a varint) in memory.
    fn header(unpacked: &[u8]) -> Vec<u8> {
        [&[0x15, 0, 0x15][..], unpacked, &[0x15, 8, 0]].concat()
    }

    #[test]
    fn a_page_that_unpacks_to_more_than_the_limit_is_refused_before_it_is_read() {
        let small = [header(&[20]), vec![1, 2, 3, 4]].concat();
        let large = header(&[0x80, 0x80, 0x80, 0x80, 4]); // 512 MiB
        let pages = [small, large, vec![0; 4]].concat();
        let source = Source::Memory(Bytes::from(pages.clone()));
        assert_eq!(source.check_pages(0, 11), Ok(()));
        let reason = "the page at byte 11 takes 536870912 bytes unpacked, over the limit of 268435456";
        assert_eq!(source.check_pages(0, pages.len() as u64).unwrap_err(), reason);
        assert_eq!(source.check_pages(0, 1 << 40).unwrap_err(), reason);
        assert_eq!(source.check_pages(3, 4).unwrap_err(), "no page header at byte 3");
    }
}
