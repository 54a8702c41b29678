//! Tensors in safetensors files, whole or in pieces, read back in whatever ranges are asked for.
//!
//! A whole tensor is stored under its name and in its shape. A run of its elements, row by row, is stored in one dimension
//! under a name that says which of what: `NAME[FROM..TO of SHAPE]`, such as `lm_head.weight.exp_avg[512..1024 of 96x32]`.
//! Pieces may be cut anywhere and lie in any files, as long as each element is stored once.
//!
//! Free of libtorch; `fill` reads tensors out of them.
//!
//! Files are mapped: what nobody asks for is never read, and what is asked for is copied once, to where it belongs.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::dtype::Dtype;
use super::error::HfError;
use super::mapped::{InFile, Mapped, stored_as};

/// What the elements `range` of the tensor `name` of `shape` are stored under, where they are not all of it.
#[must_use]
pub fn piece_name(name: &str, range: &Range<i64>, shape: &[i64]) -> String {
    let shape: Vec<_> = shape.iter().map(i64::to_string).collect();
    format!("{name}[{}..{} of {}]", range.start, range.end, shape.join("x"))
}

/// The tensors of some files.
#[derive(Debug)]
pub struct Stored {
    pub(super) files: Vec<Mapped>,
    /// The pieces of each, by where they begin.
    pub(super) tensors: BTreeMap<String, Vec<Piece>>,
}

/// A run of elements in a file.
#[derive(Debug)]
pub(super) struct Piece {
    /// Of the whole tensor.
    pub(super) shape: Vec<i64>,
    pub(super) range: Range<i64>,
    pub(super) dtype: safetensors::Dtype,
    pub(super) file: usize,
    /// Where its bytes begin in the file.
    pub(super) offset: usize,
}

impl Stored {
    /// Maps files and reads what is in them.
    ///
    /// # Errors
    /// A file that cannot be read, or is not what it claims to be.
    pub fn open(paths: Vec<PathBuf>) -> Result<Self, HfError> {
        let files = paths.into_iter().map(Mapped::open).collect::<Result<Vec<_>, _>>()?;
        let mut tensors: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for (file, mapped) in files.iter().enumerate() {
            for found in mapped.tensors()? {
                let (name, piece) =
                    piece(found, file).map_err(|reason| HfError::Safetensors { path: mapped.path.clone(), reason })?;
                tensors.entry(name).or_default().push(piece);
            }
        }
        for pieces in tensors.values_mut() {
            pieces.sort_by_key(|piece| (piece.range.start, piece.range.end));
        }
        Ok(Self { files, tensors })
    }

    /// The names of the tensors.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Whether there is any of a tensor.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// The shape of a tensor, as its first piece has it.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[i64]> {
        Some(&self.tensors.get(name)?.first()?.shape)
    }

    /// The bytes of a tensor, piece by piece.
    pub(super) fn bytes(&self, name: &str) -> Vec<&[u8]> {
        let pieces = self.tensors.get(name).into_iter().flatten();
        pieces.filter_map(|piece| self.files[piece.file].bytes().get(piece.offset..)?.get(..piece.bytes())).collect()
    }

    /// Adds to `problems` whatever keeps the elements `range` of the tensor `name` of `shape` from being read: one that is
    /// missing or of another shape, elements that are stored nowhere or twice.
    pub fn check(&self, name: &str, shape: &[i64], range: &Range<i64>, problems: &mut Vec<String>) {
        let Some(pieces) = self.tensors.get(name) else {
            problems.push(format!("{name} {shape:?} is missing"));
            return;
        };
        for piece in pieces.iter().filter(|piece| stored_as(piece.dtype).is_none()).take(1) {
            problems.push(format!("{name} is stored as {:?}: expected BF16, F16 or F32", piece.dtype));
        }
        if let Some(other) = pieces.iter().find(|piece| piece.shape != shape) {
            problems.push(format!("{name} has shape {:?}: expected {shape:?}", other.shape));
            return;
        }
        let mut covered = range.start;
        let mut before: Option<&Piece> = None;
        for piece in within(pieces, range) {
            if piece.range.start > covered {
                problems.push(format!("{name}: elements {covered}..{} are missing", piece.range.start));
            }
            if let Some(before) = before.filter(|before| piece.range.start < before.range.end) {
                let end = piece.range.end.min(before.range.end);
                let [one, other] = [before, piece].map(|piece| self.files[piece.file].path.display());
                problems.push(format!("{name}: elements {}..{end} are in {one} and in {other}", piece.range.start));
            }
            if piece.range.end > covered || before.is_none() {
                before = Some(piece);
            }
            covered = covered.max(piece.range.end);
        }
        if covered < range.end {
            problems.push(format!("{name}: elements {covered}..{} are missing", range.end));
        }
    }

    /// Adds to `problems` whatever keeps any of its tensors from being read whole.
    pub fn check_all(&self, problems: &mut Vec<String>) {
        for name in self.names() {
            let shape = self.shape(name).unwrap_or_default();
            self.check(name, shape, &(0..shape.iter().product()), problems);
        }
    }

    /// The error that tells of `problems`, if there are any.
    ///
    /// # Errors
    /// [`HfError::Tensors`] where there is one.
    pub fn refuse(&self, problems: Vec<String>) -> Result<(), HfError> {
        if problems.is_empty() { Ok(()) } else { Err(HfError::Tensors { path: self.place(), problems }) }
    }

    /// The widest element type that is stored, if any is one that is read.
    pub(super) fn widest(&self) -> Option<Dtype> {
        let mut types = self.tensors.values().flatten().filter_map(|piece| stored_as(piece.dtype));
        let first = types.next()?;
        Some(types.fold(first, |widest, dtype| if widest == dtype { widest } else { Dtype::Fp32 }))
    }

    /// The files that hold any of a tensor, for errors.
    pub(super) fn files_of(&self, name: &str) -> String {
        let files: BTreeSet<_> = self.tensors.get(name).into_iter().flatten().map(|piece| piece.file).collect();
        let paths: Vec<_> = files.into_iter().map(|file| self.files[file].path.display().to_string()).collect();
        paths.join(", ")
    }

    /// What errors call it: its file, or the folder of its files.
    fn place(&self) -> PathBuf {
        match self.files.as_slice() {
            [file] => file.path.clone(),
            files => files.first().and_then(|file| file.path.parent()).unwrap_or(Path::new("")).to_owned(),
        }
    }
}

impl Piece {
    fn bytes(&self) -> usize {
        (self.range.end - self.range.start) as usize * stored_as(self.dtype).map_or(0, Dtype::size)
    }
}

/// What a stored tensor is: its name and all of it, or a piece.
fn piece(found: InFile, file: usize) -> Result<(String, Piece), String> {
    let InFile { name, dtype, shape, offset } = found;
    let elements = shape.iter().product();
    let Some((whole, range, of)) = parse(&name) else {
        return Ok((name, Piece { shape, range: 0..elements, dtype, file, offset }));
    };
    let all = of.iter().try_fold(1_i64, |all, size| all.checked_mul(*size)).unwrap_or(0);
    if shape != [range.end - range.start] || range.is_empty() || range.end > all {
        return Err(format!("{name} has shape {shape:?}: it is not the piece of a tensor that it claims to be"));
    }
    Ok((whole.to_owned(), Piece { shape: of, range, dtype, file, offset }))
}

/// The tensor, range and whole shape that the name of a piece tells.
fn parse(stored: &str) -> Option<(&str, Range<i64>, Vec<i64>)> {
    let (name, rest) = stored.strip_suffix(']')?.rsplit_once('[')?;
    let (range, shape) = rest.split_once(" of ")?;
    let (from, to) = range.split_once("..")?;
    let number = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0);
    let shape = shape.split('x').map(number).collect::<Option<_>>()?;
    Some((name, number(from)?..number(to)?, shape))
}

/// Those of `pieces`, which are in order, that hold some of `range`.
pub(super) fn within<'p>(pieces: &'p [Piece], range: &Range<i64>) -> impl Iterator<Item = &'p Piece> {
    let (start, end) = (range.start, range.end);
    pieces.iter().filter(move |piece| piece.range.start < end && piece.range.end > start)
}
