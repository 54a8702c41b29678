//! Where the documents of a packed batch begin and end.

use tch::{Device, TchError, Tensor};

/// Lengths of consecutive runs of tokens that attend only to themselves; they sum to N. S segments.
#[derive(Debug)]
pub struct Segments {
    lengths: Vec<i64>,
    /// `[S + 1]` i32 on the GPU that reads them: 0, and where each segment ends.
    ends: Option<Tensor>,
}

impl Segments {
    /// Segments of these lengths, in order, for a batch on `device`.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn new(lengths: Vec<i64>, device: Device) -> Result<Self, TchError> {
        let ends = match device {
            Device::Cuda(_) => {
                let mut ends = vec![0_i32];
                ends.extend(lengths.iter().scan(0, |end, length| {
                    *end += *length as i32;
                    Some(*end)
                }));
                Some(super::batch::send(&Tensor::f_from_slice(&ends)?, device)?)
            }
            _ => None,
        };
        Ok(Self { lengths, ends })
    }

    /// Their lengths, in order.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// Where they end, for a GPU.
    #[must_use]
    pub fn ends(&self) -> Option<&Tensor> {
        self.ends.as_ref()
    }

    /// The longest of them.
    #[must_use]
    pub fn longest(&self) -> i64 {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// The length all of them share, if they do.
    #[must_use]
    pub fn uniform(&self) -> Option<i64> {
        let first = *self.lengths.first()?;
        self.lengths.iter().all(|length| *length == first).then_some(first)
    }
}
