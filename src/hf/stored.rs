//! Tensors in safetensors files, whole or in pieces, read back in whatever ranges are asked for.
//!
//! A whole tensor is stored under its name and in its shape. A run of its elements, row by row, is stored in one dimension
//! under a name that says which of what: `NAME[FROM..TO of SHAPE]`, such as `lm_head.weight.exp_avg[512..1024 of 96x32]`.
//! Pieces may be cut anywhere and lie in any files, as long as each element is stored once.
//!
//! Files are mapped: what nobody asks for is never read, and what is asked for is copied once, to where it belongs.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tch::{Device, Kind, TchError, Tensor};

use super::error::HfError;
use super::tensors::{InFile, Mapped, kind_of};

/// Bytes converted at once: what a copy to a GPU takes there beside its target.
const CHUNK: usize = 64 << 20;

/// What the elements `range` of the tensor `name` of `shape` are stored under, where they are not all of it.
#[must_use]
pub fn piece_name(name: &str, range: &Range<i64>, shape: &[i64]) -> String {
    let shape: Vec<_> = shape.iter().map(i64::to_string).collect();
    format!("{name}[{}..{} of {}]", range.start, range.end, shape.join("x"))
}

/// The tensors of some files.
#[derive(Debug)]
pub struct Stored {
    files: Vec<Mapped>,
    /// The pieces of each, by where they begin.
    tensors: BTreeMap<String, Vec<Piece>>,
}

/// A run of elements in a file.
#[derive(Debug)]
struct Piece {
    /// Of the whole tensor.
    shape: Vec<i64>,
    range: Range<i64>,
    dtype: safetensors::Dtype,
    file: usize,
    /// Where its bytes begin in the file.
    offset: usize,
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
        for piece in pieces.iter().filter(|piece| kind_of(piece.dtype).is_none()).take(1) {
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

    /// Copies the elements of the tensor `name` from the one numbered `from` on into `tensor`, as many as it has, converted
    /// to its element type, on its device. It must be contiguous, and may be part of another.
    ///
    /// # Errors
    /// [`HfError::Tensors`] with whatever [`check`](Self::check) finds, before anything is copied; what libtorch refuses.
    pub fn fill(&self, name: &str, from: i64, tensor: &Tensor) -> Result<(), HfError> {
        let range = from..from.saturating_add(tensor.numel() as i64);
        let mut problems = Vec::new();
        self.check(name, self.shape(name).unwrap_or_default(), &range, &mut problems);
        self.refuse(problems)?;
        if range.is_empty() {
            return Ok(());
        }
        let target = tensor.f_detach()?.f_view([-1_i64])?;
        for piece in self.tensors.get(name).into_iter().flat_map(|pieces| within(pieces, &range)) {
            let Some(kind) = kind_of(piece.dtype) else { continue };
            let element = kind.elt_size_in_bytes();
            let most = (CHUNK / element) as i64;
            let end = piece.range.end.min(range.end);
            let mut at = piece.range.start.max(range.start);
            while at < end {
                let to = end.min(at + most);
                let begin = piece.offset + (at - piece.range.start) as usize * element;
                let bytes = &self.files[piece.file].bytes()[begin..][..(to - at) as usize * element];
                copy(bytes, kind, &mut target.f_narrow(0, at - from, to - at)?)?;
                at = to;
            }
        }
        Ok(())
    }

    /// A whole tensor on the CPU, of the element type it is stored in.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    pub fn tensor(&self, name: &str) -> Result<Tensor, HfError> {
        let first = self.tensors.get(name).and_then(|pieces| pieces.first());
        let kind = first.and_then(|piece| kind_of(piece.dtype)).unwrap_or(Kind::Float);
        let tensor = Tensor::f_empty(self.shape(name).unwrap_or_default(), (kind, Device::Cpu))?;
        self.fill(name, 0, &tensor)?;
        Ok(tensor)
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
        (self.range.end - self.range.start) as usize * kind_of(self.dtype).map_or(0, |kind| kind.elt_size_in_bytes())
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
fn within<'p>(pieces: &'p [Piece], range: &Range<i64>) -> impl Iterator<Item = &'p Piece> {
    let (start, end) = (range.start, range.end);
    pieces.iter().filter(move |piece| piece.range.start < end && piece.range.end > start)
}

/// Copies elements of `kind` into `to`, converted where that is.
fn copy(bytes: &[u8], kind: Kind, to: &mut Tensor) -> Result<(), TchError> {
    let element = kind.elt_size_in_bytes();
    let count = (bytes.len() / element) as i64;
    let stored = if bytes.as_ptr().addr().is_multiple_of(element) {
        // SAFETY: there are `count` aligned elements, which are only read; the tensor and what is begun with it end here, as
        // a copy out of memory that is not pinned is over when the call returns.
        #[expect(unsafe_code, reason = "a tensor over a memory map")]
        unsafe {
            Tensor::f_from_blob(bytes.as_ptr(), &[count], &[1], kind, Device::Cpu)?
        }
    } else {
        Tensor::f_from_data_size(bytes, &[count], kind)?
    };
    // To the device first: fewer bytes go there, and it converts faster.
    tch::no_grad(|| to.f_copy_(&stored.f_to_device(to.device())?).map(drop))
}
