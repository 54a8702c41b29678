//! Tensors into and out of one safetensors file.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::{TensorView, View};
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

    /// Its tensors; the header is checked against the file's length.
    pub(super) fn tensors(&self) -> Result<SafeTensors<'_>, HfError> {
        SafeTensors::deserialize(&self.map)
            .map_err(|error| HfError::Safetensors { path: self.path.clone(), reason: reason(&error) })
    }
}

/// Fills `tensors`, by name, with what the file holds of them, one after another; others may lie beside them there.
///
/// # Errors
/// [`HfError::Tensors`] with every one that is missing or has another shape, [`HfError::Safetensors`] for another format;
/// nothing is filled then.
pub fn fill(path: &Path, tensors: &mut [(String, Tensor)]) -> Result<(), HfError> {
    let file = Mapped::open(path.to_owned())?;
    let file = file.tensors()?;
    let (mut problems, mut views) = (Vec::new(), Vec::with_capacity(tensors.len()));
    for (name, tensor) in &*tensors {
        let shape = tensor.size();
        match file.tensor(name) {
            Err(_) => problems.push(format!("{name} {shape:?} is missing")),
            Ok(view) if !has_shape(&view, &shape) => {
                problems.push(format!("{name} has shape {:?}: expected {shape:?}", view.shape()));
            }
            Ok(view) => views.push(view),
        }
    }
    if !problems.is_empty() {
        return Err(HfError::Tensors { path: path.to_owned(), problems });
    }
    for ((_, tensor), view) in tensors.iter_mut().zip(&views) {
        let stored = copy(view, kind_of(view.dtype()).unwrap_or(Kind::Float), Device::Cpu)?;
        tch::no_grad(|| tensor.f_copy_(&stored).map(drop))?;
    }
    Ok(())
}

/// Whether a stored tensor has a shape.
pub(super) fn has_shape(view: &TensorView<'_>, shape: &[i64]) -> bool {
    view.shape().iter().map(|size| *size as i64).eq(shape.iter().copied())
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

/// Copies one tensor; its length was checked with the header.
pub(super) fn copy(view: &TensorView<'_>, kind: Kind, device: Device) -> Result<Tensor, TchError> {
    let stored = kind_of(view.dtype()).unwrap_or(Kind::Float);
    let shape: Vec<i64> = view.shape().iter().map(|size| *size as i64).collect();
    Tensor::f_from_data_size(view.data(), &shape, stored)?.f_to_device(device)?.f_to_kind(kind)
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
