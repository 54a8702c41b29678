//! Many tensors as views of one, so that one collective goes over all of them without a copy.

use tch::{Device, Kind, TchError, Tensor};

/// One buffer, and the tensors in it.
#[derive(Debug)]
pub struct Flat {
    /// `[N]`: the elements of all views, one after another, then zeros.
    pub buffer: Tensor,
    /// Of the shapes asked for.
    pub views: Vec<Tensor>,
}

impl Flat {
    /// Zeros for tensors of `shapes`; their number is rounded up to a multiple of `parts`, so that as many ranks can share
    /// the buffer evenly.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn zeros(shapes: &[Vec<i64>], parts: usize, kind: Kind, device: Device) -> Result<Self, TchError> {
        let elements: usize = shapes.iter().map(|shape| count(shape)).sum();
        let length = elements.next_multiple_of(parts.max(1));
        let buffer = Tensor::f_zeros([length as i64], (kind, device))?;
        let mut from = 0;
        let mut views = Vec::with_capacity(shapes.len());
        for shape in shapes {
            let elements = count(shape) as i64;
            views.push(buffer.f_narrow(0, from, elements)?.f_view(shape.as_slice())?);
            from += elements;
        }
        Ok(Self { buffer, views })
    }

    /// The `rank`-th of `parts` equal parts of the buffer, a view as well.
    ///
    /// # Errors
    /// Parts that do not come out even, or fewer of them.
    pub fn part(&self, rank: usize, parts: usize) -> Result<Tensor, TchError> {
        let length = self.buffer.size1()?;
        let (rank, parts) = (rank as i64, parts as i64);
        if parts == 0 || length % parts != 0 {
            return Err(TchError::Shape(format!("{length} elements in {parts} equal parts")));
        }
        self.buffer.f_narrow(0, rank * (length / parts), length / parts)
    }
}

fn count(shape: &[i64]) -> usize {
    usize::try_from(shape.iter().product::<i64>()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_share_the_buffer_and_parts_cover_it() {
        let flat = Flat::zeros(&[vec![2, 3], vec![], vec![4]], 4, Kind::Float, Device::Cpu).unwrap();
        for (number, view) in flat.views.iter().enumerate() {
            let _ = view.shallow_clone().fill_(number as i64 + 1);
        }
        let values = |x: &Tensor| Vec::<f32>::try_from(x.reshape([-1])).unwrap();
        assert_eq!(values(&flat.buffer), [1., 1., 1., 1., 1., 1., 2., 3., 3., 3., 3., 0.]);
        let parts: Vec<_> = (0..4).flat_map(|rank| values(&flat.part(rank, 4).unwrap())).collect();
        assert_eq!(parts, values(&flat.buffer));
        assert_eq!(flat.views[0].size(), [2, 3]);
        assert!(flat.part(0, 5).is_err());
    }
}
