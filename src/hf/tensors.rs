//! One safetensors file: written from tensors, or mapped.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::View;
use tch::{Device, Kind, TchError, Tensor};

use super::error::HfError;

/// A tensor that is converted and copied to memory only when its bytes are written.
struct Stored<'t> {
    tensor: &'t Tensor,
    kind: Kind,
    shape: Vec<usize>,
    failure: &'t RefCell<Option<TchError>>,
}

impl Stored<'_> {
    fn bytes(&self) -> Result<Vec<u8>, TchError> {
        let tensor = self.tensor.f_detach()?.f_to_kind(self.kind)?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let mut bytes = vec![0; self.data_len()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        Ok(bytes)
    }
}

impl View for Stored<'_> {
    fn dtype(&self) -> safetensors::Dtype {
        match self.kind {
            Kind::BFloat16 => safetensors::Dtype::BF16,
            Kind::Half => safetensors::Dtype::F16,
            _ => safetensors::Dtype::F32,
        }
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        // The trait has no way to fail: zeros stand in, and the caller finds the failure before the file is kept.
        Cow::Owned(self.bytes().unwrap_or_else(|error| {
            self.failure.borrow_mut().get_or_insert(error);
            vec![0; self.data_len()]
        }))
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.kind.elt_size_in_bytes()
    }
}

/// Writes `tensors`, converted to `kind`, as the file `path`, and syncs it.
///
/// # Errors
/// [`HfError::Io`] where the file cannot be written, whatever libtorch refuses.
pub fn write(path: &Path, tensors: &[(String, &Tensor)], kind: Kind) -> Result<(), HfError> {
    let failure = RefCell::new(None);
    let stored = tensors.iter().map(|(name, tensor)| {
        let shape = tensor.size().into_iter().map(|size| size as usize).collect();
        (name.as_str(), Stored { tensor, kind, shape, failure: &failure })
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize_to_file(stored, Some(metadata), path).map_err(|error| match error {
        safetensors::SafeTensorError::IoError(error) => {
            HfError::Io(std::io::Error::new(error.kind(), format!("{}: {error}", path.display())))
        }
        other => HfError::Safetensors { path: path.to_owned(), reason: other.to_string() },
    })?;
    if let Some(error) = failure.into_inner() {
        return Err(error.into());
    }
    Ok(fs_err::File::open(path)?.sync_all()?)
}

/// A mapped file.
#[derive(Debug)]
pub(super) struct Mapped {
    /// Where it lies.
    pub(super) path: PathBuf,
    map: Mmap,
}

impl Mapped {
    #[expect(unsafe_code, reason = "a memory map")]
    pub(super) fn open(path: PathBuf) -> Result<Self, HfError> {
        let file = fs_err::File::open(&path)?;
        // SAFETY: the map is only read, and every offset into it is checked against its length. A file cut short by
        // another process meanwhile would end this one, as with every reader that maps; weights are written once.
        let map = unsafe { Mmap::map(file.file()) }?;
        Ok(Self { path, map })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Names, types, shapes and places of its tensors; the header is checked against the file's length.
    pub(super) fn tensors(&self) -> Result<Vec<InFile>, HfError> {
        let (header, metadata) = SafeTensors::read_metadata(&self.map)
            .map_err(|error| HfError::Safetensors { path: self.path.clone(), reason: reason(&error) })?;
        let data = size_of::<u64>() + header;
        let tensors = metadata.tensors().into_iter().map(|(name, info)| InFile {
            name,
            dtype: info.dtype,
            shape: info.shape.iter().map(|size| *size as i64).collect(),
            offset: data + info.data_offsets.0,
        });
        Ok(tensors.collect())
    }
}

/// A tensor in a mapped file.
pub(super) struct InFile {
    pub(super) name: String,
    pub(super) dtype: safetensors::Dtype,
    pub(super) shape: Vec<i64>,
    /// Where its bytes begin in the file.
    pub(super) offset: usize,
}

/// The element types that are read.
pub(super) fn kind_of(dtype: safetensors::Dtype) -> Option<Kind> {
    match dtype {
        safetensors::Dtype::BF16 => Some(Kind::BFloat16),
        safetensors::Dtype::F16 => Some(Kind::Half),
        safetensors::Dtype::F32 => Some(Kind::Float),
        _ => None,
    }
}

fn reason(error: &safetensors::SafeTensorError) -> String {
    use safetensors::SafeTensorError as E;
    match error {
        E::MetadataIncompleteBuffer => {
            "its header describes more or fewer bytes than the file has: it was cut short or not fully copied"
                .to_owned()
        }
        E::HeaderTooSmall | E::InvalidHeaderLength | E::HeaderTooLarge => {
            format!("no header of the length it claims ({error}): it was cut short, or is another format")
        }
        other => other.to_string(),
    }
}
