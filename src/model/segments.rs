//! Where the documents of a packed batch begin and end.

use tch::{Device, TchError, Tensor};

use crate::ffi;

/// Lengths of consecutive runs of tokens that attend only to themselves; they sum to N. S segments.
#[derive(Debug)]
pub struct Segments {
    lengths: Vec<i64>,
    longest: i64,
    /// i32 on the GPU that reads them, see [`ends`].
    ends: Option<Tensor>,
}

impl Segments {
    /// Segments of these lengths, in order, for a batch on `device`.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn new(lengths: Vec<i64>, device: Device) -> Result<Self, TchError> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        match device {
            Device::Cuda(_) => {
                let ends = Some(ffi::send(&Tensor::f_from_slice(&ends(&lengths))?, device)?);
                Ok(Self { lengths, longest: rounded(longest), ends })
            }
            _ => Ok(Self { lengths, longest, ends: None }),
        }
    }

    /// Their lengths, in order.
    #[must_use]
    pub fn lengths(&self) -> &[i64] {
        &self.lengths
    }

    /// 0, and where each segment ends, for a GPU: `[S' + 1]`, S' the least power of two from S on; those beyond S are empty.
    #[must_use]
    pub fn ends(&self) -> Option<&Tensor> {
        self.ends.as_ref()
    }

    /// The longest of them; on a GPU the least power of two from that on.
    #[must_use]
    pub fn longest(&self) -> i64 {
        self.longest
    }

    /// The length all of them share, if they do.
    #[must_use]
    pub fn uniform(&self) -> Option<i64> {
        let first = *self.lengths.first()?;
        self.lengths.iter().all(|length| *length == first).then_some(first)
    }

    /// A copy without the lengths, which will be others when work that was recorded on it is done again.
    ///
    /// # Errors
    /// Whatever libtorch refuses.
    pub fn to_record(&self) -> Result<Self, TchError> {
        let ends = self.ends.as_ref().map(Tensor::f_detach_copy).transpose()?;
        Ok(Self { lengths: Vec::new(), longest: self.longest, ends })
    }

    /// Takes the ends of others, where its own lie.
    ///
    /// # Errors
    /// Another number of them.
    pub fn fill(&mut self, other: &Self) -> Result<(), TchError> {
        if let (Some(mine), Some(theirs)) = (&mut self.ends, &other.ends) {
            mine.f_copy_(theirs)?;
        }
        Ok(())
    }
}

/// A power of two: attention on a GPU is planned, and recorded, for a number of segments and a longest one, and there are few
/// of these.
fn rounded(number: i64) -> i64 {
    (number.max(1) as u64).next_power_of_two() as i64
}

/// 0 and where each segment ends; then the last end again, up to a power of two of segments.
fn ends(lengths: &[i64]) -> Vec<i32> {
    let mut ends = vec![0];
    ends.extend(lengths.iter().scan(0, |end, length| {
        *end += *length as i32;
        Some(*end)
    }));
    let last = ends[lengths.len()];
    ends.resize(rounded(lengths.len() as i64) as usize + 1, last);
    ends
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_padded_with_empty_segments_up_to_a_power_of_two() {
        assert_eq!(ends(&[3, 4]), [0, 3, 7]);
        assert_eq!(ends(&[3, 4, 2]), [0, 3, 7, 9, 9]);
        assert_eq!(ends(&[5]), [0, 5]);
        assert_eq!(ends(&[1; 5]), [0, 1, 2, 3, 4, 5, 5, 5, 5]);
        assert_eq!([1, 2, 3, 1024, 1025].map(rounded), [1, 2, 4, 1024, 2048]);
    }
}
