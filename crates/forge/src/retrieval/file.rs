//! A classifier in a file. Little-endian:
//!
//! | offset | type | content |
//! |---|---|---|
//! | 0 | 8 bytes | `HEPHRETR` |
//! | 8 | u32 | version, 1 |
//! | 12 | u32 | words of the longest n-gram of words |
//! | 16 | u32 | bytes of the shortest n-gram of characters |
//! | 20 | u32 | bytes of the longest |
//! | 24 | u64 | bytes of a document that are looked at |
//! | 32 | f64 | slope of the scores |
//! | 40 | f64 | intercept of the scores |
//! | 48 | u64 | B, the buckets |
//! | 56 | i16\[B\] | weights |
//! | 56 + 2B | 32 bytes | SHA-256 of everything before |

use std::io::Read;
use std::path::Path;

use hephaestus_core::whole;
use sha2::{Digest, Sha256};

use super::classifier::Classifier;
use super::ngrams::{MAX_CHARACTERS, MAX_WORDS, Shape};
use super::{MAX_BUCKETS, RetrievalError};

const MAGIC: [u8; 8] = *b"HEPHRETR";
const VERSION: u32 = 1;
const HEADER: usize = 56;
const HASH: u64 = 32;

impl Classifier {
    /// Writes the classifier to a file, the same bytes every time; whole or not at all.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), RetrievalError> {
        let mut bytes = Vec::with_capacity(HEADER + 2 * self.weights.len() + HASH as usize);
        bytes.extend(MAGIC);
        for number in [VERSION, self.shape.words, self.shape.from, self.shape.to] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.max_bytes.to_le_bytes());
        bytes.extend(self.slope.to_le_bytes());
        bytes.extend(self.intercept.to_le_bytes());
        bytes.extend(self.shape.buckets.to_le_bytes());
        bytes.extend(self.weights.iter().flat_map(|weight| weight.to_le_bytes()));
        let hash = Sha256::digest(&bytes);
        bytes.extend(hash);
        Ok(whole::write(path, &bytes)?)
    }

    /// Reads a classifier from a file.
    ///
    /// # Errors
    /// The file cannot be read, or is not whole, not a classifier, or one of another version.
    pub fn load(path: &Path) -> Result<Self, RetrievalError> {
        let mut file = fs_err::File::open(path)?;
        let length = file.metadata()?.len();
        let mut header = Vec::with_capacity(HEADER);
        (&mut file).take(HEADER as u64).read_to_end(&mut header)?;
        let bad = |why: String| RetrievalError::Model { path: path.to_owned(), why };
        let (mut classifier, expected) = header_of(&header, length).map_err(bad)?;
        let mut rest = Vec::with_capacity(expected);
        file.take(expected as u64).read_to_end(&mut rest)?;
        let Some((weights, hash)) = rest.split_last_chunk::<32>().filter(|_| rest.len() == expected) else {
            return Err(bad(format!("ends early, after {} bytes: expected {length}", HEADER + rest.len())));
        };
        let found = Sha256::new().chain_update(&header).chain_update(weights).finalize();
        if found.as_slice() != hash {
            return Err(bad("damaged: its SHA-256 is not the one at its end; copy or train it again".to_owned()));
        }
        let (pairs, _) = weights.as_chunks::<2>();
        classifier.weights = pairs.iter().map(|pair| i16::from_le_bytes(*pair)).collect();
        Ok(classifier)
    }
}

/// A classifier without its weights from the beginning of a file of `length` bytes, and how many bytes must follow.
fn header_of(header: &[u8], length: u64) -> Result<(Classifier, usize), String> {
    let Ok(header) = <&[u8; HEADER]>::try_from(header) else {
        return Err(format!("{} bytes: not a classifier, whose header alone has {HEADER}", header.len()));
    };
    let u32_at = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
    if header[..8] != MAGIC {
        return Err("not a classifier: it does not begin with HEPHRETR".to_owned());
    }
    if u32_at(8) != VERSION {
        return Err(format!(
            "a classifier of version {}: this program reads version {VERSION}; train it again",
            u32_at(8)
        ));
    }
    let shape = Shape { words: u32_at(12), from: u32_at(16), to: u32_at(20), buckets: u64_at(48) };
    if shape.words > MAX_WORDS {
        return Err(format!("offset 12: n-grams of {} words: expected 0 to {MAX_WORDS}", shape.words));
    }
    if shape.from == 0 || shape.from > shape.to || shape.to > MAX_CHARACTERS {
        let Shape { from, to, .. } = shape;
        return Err(format!(
            "offset 16: n-grams of {from} to {to} characters: expected lengths from 1 to {MAX_CHARACTERS}"
        ));
    }
    let (slope, intercept) = (f64::from_bits(u64_at(32)), f64::from_bits(u64_at(40)));
    if !(slope.is_finite() && slope >= 0.0 && intercept.is_finite()) {
        return Err(format!(
            "offset 32: slope {slope} and intercept {intercept}: expected numbers, the slope 0 or more"
        ));
    }
    if !(1..=MAX_BUCKETS).contains(&shape.buckets) {
        return Err(format!("offset 48: {} buckets: expected 1 to {MAX_BUCKETS}", shape.buckets));
    }
    let rest = 2 * shape.buckets + HASH;
    if length != HEADER as u64 + rest {
        return Err(format!("{length} bytes: expected {} for {} buckets", HEADER as u64 + rest, shape.buckets));
    }
    let max_bytes = u64_at(24);
    Ok((Classifier { shape, max_bytes, slope, intercept, weights: Vec::new() }, rest as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Classifier {
        Classifier {
            shape: Shape { buckets: 64, words: 2, from: 3, to: 5 },
            max_bytes: 1000,
            slope: 0.25,
            intercept: -1.5,
            weights: (0..64).map(|i| i * 97 - 3000).collect(),
        }
    }

    #[test]
    fn a_saved_classifier_comes_back_and_is_written_the_same_again() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        small().save(&one).unwrap();
        let loaded = Classifier::load(&one).unwrap();
        assert_eq!(loaded, small());
        loaded.save(&two).unwrap();
        assert_eq!(fs_err::read(&one).unwrap(), fs_err::read(&two).unwrap());
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 2, "nothing temporary stays");
    }

    #[test]
    fn whatever_is_not_a_whole_classifier_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model");
        small().save(&path).unwrap();
        let good = fs_err::read(&path).unwrap();
        let changed = |at: usize, bytes: &[u8]| {
            let mut changed = good.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            changed
        };
        let cases = [
            (Vec::new(), "0 bytes: not a classifier, whose header alone has 56"),
            (changed(0, b"P"), "not a classifier: it does not begin with HEPHRETR"),
            (changed(8, &[2]), "a classifier of version 2: this program reads version 1; train it again"),
            (changed(12, &[5]), "offset 12: n-grams of 5 words: expected 0 to 4"),
            (changed(16, &[0]), "offset 16: n-grams of 0 to 5 characters: expected lengths from 1 to 8"),
            (changed(20, &[9]), "offset 16: n-grams of 3 to 9 characters: expected lengths from 1 to 8"),
            (
                changed(32, &f64::NAN.to_le_bytes()),
                "offset 32: slope NaN and intercept -1.5: expected numbers, the slope 0 or more",
            ),
            (changed(48, &u64::MAX.to_le_bytes()), "offset 48: 18446744073709551615 buckets: expected 1 to 268435456"),
            (changed(48, &[65]), "216 bytes: expected 218 for 65 buckets"),
            (good[..200].to_vec(), "200 bytes: expected 216 for 64 buckets"),
            (changed(100, &[0xAA]), "damaged: its SHA-256 is not the one at its end; copy or train it again"),
        ];
        for (bytes, expected) in cases {
            fs_err::write(&path, bytes).unwrap();
            let error = Classifier::load(&path).unwrap_err().to_string();
            assert_eq!(error, format!("{}: {expected}", path.display()));
        }
    }
}
