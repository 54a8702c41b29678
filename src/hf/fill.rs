//! Tensors out of stored ones: whole, or whatever range of elements is asked for.

use tch::{Device, Kind, TchError, Tensor};

use super::error::HfError;
use super::stored::{Stored, within};
use super::tensors::kind_of;

/// Bytes converted at once: what a copy to a GPU takes there beside its target.
const CHUNK: usize = 64 << 20;

impl Stored {
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
