//! One safetensors file, mapped: what is in it by its header. Free of libtorch.

use std::io;
use std::path::PathBuf;

use memmap2::Mmap;
use safetensors::SafeTensors;

use super::dtype::Dtype;
use super::error::HfError;

/// What is said of a file that git-lfs has not fetched.
pub(super) const LFS: &str = "it is a git-lfs pointer to the file, not the file: run `git lfs pull` in its folder";

/// Whether a file is what git-lfs leaves in the place of one that it has not fetched.
pub(super) fn is_lfs_pointer(bytes: &[u8]) -> bool {
    bytes.starts_with(b"version https://git-lfs.github.com/spec/")
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
        let map = unsafe { Mmap::map(file.file()) };
        let map = map.map_err(|error| {
            io::Error::new(error.kind(), format!("{}: cannot be mapped into memory: {error}", path.display()))
        })?;
        Ok(Self { path, map })
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Names, types, shapes and places of its tensors; the header is checked against the file's length.
    pub(super) fn tensors(&self) -> Result<Vec<InFile>, HfError> {
        if is_lfs_pointer(&self.map) {
            return Err(HfError::Safetensors { path: self.path.clone(), reason: LFS.to_owned() });
        }
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

/// The element type of a stored tensor, where it is one that is read.
pub(super) fn stored_as(dtype: safetensors::Dtype) -> Option<Dtype> {
    match dtype {
        safetensors::Dtype::BF16 => Some(Dtype::Bf16),
        safetensors::Dtype::F16 => Some(Dtype::Fp16),
        safetensors::Dtype::F32 => Some(Dtype::Fp32),
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
