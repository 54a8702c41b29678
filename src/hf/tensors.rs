//! One safetensors file, written from tensors.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::path::PathBuf;

use hephaestus_core::hashed::{Entry, Hashed};
use rayon::prelude::*;
use safetensors::tensor::{Metadata, TensorInfo};
use tch::{Device, Kind, Tensor};

use super::error::HfError;
use super::export::kind_of as kind_of_dtype;
use super::mapped::stored_as;

/// A file of tensors that is yet to be written. It may go to another thread, unlike the tensors it is made from.
#[derive(Debug)]
pub struct Unwritten {
    path: PathBuf,
    header: Vec<u8>,
    /// Each of `[n]`, detached, in the order of the file.
    tensors: Vec<Tensor>,
    kind: Kind,
}

impl Unwritten {
    /// The file `path` of `tensors`, converted to `kind`. They must stay as they are until it is written.
    ///
    /// # Errors
    /// Whatever libtorch refuses, and a header that safetensors does not take.
    pub fn new(path: PathBuf, tensors: &[(String, &Tensor)], kind: Kind) -> Result<Self, HfError> {
        // All are of one type, which leaves the order of names.
        let mut tensors: Vec<_> = tensors.iter().collect();
        tensors.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (mut described, mut flat, mut end) = (Vec::new(), Vec::new(), 0);
        for (name, tensor) in tensors {
            let start = end;
            end += tensor.numel() * kind.elt_size_in_bytes();
            let shape = tensor.size().into_iter().map(|size| size as usize).collect();
            described.push((name.clone(), TensorInfo { dtype: dtype_of(kind), shape, data_offsets: (start, end) }));
            flat.push(tensor.f_detach()?.f_reshape([-1_i64])?);
        }
        if let Some(Device::Cuda(index)) = flat.first().map(Tensor::device) {
            // Another thread, which may write, has another stream.
            tch::Cuda::synchronize(index as i64);
        }
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        let header = Metadata::new(Some(metadata), described)
            .and_then(|metadata| Ok(serde_json::to_vec(&metadata)?))
            .map_err(|error| HfError::Safetensors { path: path.clone(), reason: error.to_string() })?;
        Ok(Self { path, header, tensors: flat, kind })
    }

    /// Writes it, and waits until it is on the disk.
    ///
    /// # Errors
    /// [`HfError::Io`] where the file cannot be written, whatever libtorch refuses.
    pub fn write(self) -> Result<Entry, HfError> {
        let mut file = Hashed::create(&self.path)?;
        // Tensors begin at a multiple of 8 bytes, so that none of their elements is cut between two chunks.
        let length = self.header.len().next_multiple_of(8);
        file.write_all(&(length as u64).to_le_bytes())?;
        file.write_all(&self.header)?;
        file.write_all(&b"        "[..length - self.header.len()])?;
        let size = self.kind.elt_size_in_bytes();
        for tensor in &self.tensors {
            let elements = tensor.numel();
            let mut from = 0;
            while from < elements {
                let room = file.room()?;
                let count = (room.len() / size).min(elements - from);
                let part = tensor.f_narrow(0, from as i64, count as i64)?.f_to_kind(self.kind)?;
                part.f_copy_data_u8(room, count)?;
                file.advance(count * size);
                from += count;
            }
        }
        Ok(file.finish()?)
    }
}

/// Writes `files`, each by its name, several at a time, and describes them.
///
/// # Errors
/// [`HfError::Io`] where a file cannot be written, whatever libtorch refuses.
pub fn write_all(files: Vec<(String, Unwritten)>) -> Result<BTreeMap<String, Entry>, HfError> {
    files.into_par_iter().map(|(name, file)| Ok((name, file.write()?))).collect()
}

fn dtype_of(kind: Kind) -> safetensors::Dtype {
    match kind {
        Kind::BFloat16 => safetensors::Dtype::BF16,
        Kind::Half => safetensors::Dtype::F16,
        _ => safetensors::Dtype::F32,
    }
}

/// The libtorch name of an element type that is read.
pub(super) fn kind_of(dtype: safetensors::Dtype) -> Option<Kind> {
    stored_as(dtype).map(kind_of_dtype)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::TensorView;

    use super::*;

    #[test]
    fn a_file_is_what_safetensors_writes_whatever_the_tensors_are_converted_from() {
        let folder = tempfile::tempdir().unwrap();
        let values = |shape: &[i64]| {
            let elements: i64 = shape.iter().product();
            Tensor::arange(elements, (Kind::Float, Device::Cpu)).remainder(251).reshape(shape)
        };
        // Of several chunks, and no multiple of one; not contiguous; a scalar; none.
        let tensors =
            [("b", values(&[3001, 1003])), ("c", values(&[1201, 1777]).tr()), ("a", values(&[])), ("d", values(&[0]))];
        for (from, to) in [(Kind::Float, Kind::Float), (Kind::Float, Kind::BFloat16), (Kind::Half, Kind::Float)] {
            let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (*name, tensor.to_kind(from))).collect();
            let named: Vec<_> = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor)).collect();
            let path = folder.path().join("x.safetensors");
            let entry = Unwritten::new(path.clone(), &named, to).unwrap().write().unwrap();
            assert_eq!(entry, Entry::read(&path).unwrap());

            let bytes = tensors.iter().map(|(name, tensor)| {
                let stored = tensor.to_kind(to).contiguous();
                let mut bytes = vec![0; stored.numel() * to.elt_size_in_bytes()];
                stored.copy_data_u8(&mut bytes, stored.numel());
                (*name, tensor.size().iter().map(|size| *size as usize).collect::<Vec<_>>(), bytes)
            });
            let bytes: Vec<_> = bytes.collect();
            let views = bytes
                .iter()
                .map(|(name, shape, bytes)| (*name, TensorView::new(dtype_of(to), shape.clone(), bytes).unwrap()));
            let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
            let expected = safetensors::serialize(views, Some(metadata)).unwrap();
            assert!(fs_err::read(&path).unwrap() == expected, "{from:?} to {to:?}");
        }
    }
}
