//! Many tensors as views of one, so that one collective goes over all of them without a copy.

use std::ops::Range;

use tch::{Device, Kind, TchError, Tensor};

/// Elements that the beginning of each view is a multiple of: 128 bytes and more, which vectorised kernels ask for.
const ALIGNMENT: i64 = 64;

/// Where tensors of some shapes lie in one buffer, and how ranks share it in equal parts. Free of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrangement {
    /// N: elements of the buffer.
    pub length: i64,
    /// By tensor its shape and its first element.
    members: Vec<(Vec<i64>, i64)>,
    parts: i64,
}

/// The elements of one tensor that lie in one part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which tensor.
    pub member: usize,
    /// Which of its elements, counted row by row.
    pub elements: Range<i64>,
    /// Where in the part they begin.
    pub at: i64,
    /// Whether they are all of the tensor.
    pub whole: bool,
}

impl Arrangement {
    /// Tensors of `shapes`, one after another, in a buffer that as many ranks as `parts` share evenly.
    #[must_use]
    pub fn new(shapes: &[Vec<i64>], parts: usize) -> Self {
        let parts = parts.max(1) as i64;
        let mut length = 0;
        let members = shapes.iter().map(|shape| {
            let from = length;
            length = up(from + count(shape), ALIGNMENT);
            (shape.clone(), from)
        });
        let members = members.collect();
        Self { length: up(length, parts * ALIGNMENT), members, parts }
    }

    /// What of the tensors lies in the `rank`-th part.
    #[must_use]
    pub fn pieces(&self, rank: usize) -> Vec<Piece> {
        let part = self.range(rank);
        let pieces = self.members.iter().enumerate().map(|(member, (shape, from))| {
            let (first, last) = ((*from).max(part.start), (from + count(shape)).min(part.end));
            let whole = last - first == count(shape);
            Piece { member, elements: first - from..last - from, at: first - part.start, whole }
        });
        pieces.filter(|piece| !piece.elements.is_empty()).collect()
    }

    /// The elements of the `rank`-th part.
    fn range(&self, rank: usize) -> Range<i64> {
        let part = self.length / self.parts;
        rank as i64 * part..(rank as i64 + 1) * part
    }
}

/// One buffer, and the tensors in it.
#[derive(Debug)]
pub struct Flat {
    /// `[N]`: the elements of all views, with gaps between them.
    pub buffer: Tensor,
    /// Of the shapes asked for.
    pub views: Vec<Tensor>,
    arrangement: Arrangement,
}

impl Flat {
    /// Zeros.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn zeros(arrangement: &Arrangement, kind: Kind, device: Device) -> Result<Self, TchError> {
        Self::over(Tensor::f_zeros([arrangement.length], (kind, device))?, arrangement)
    }

    /// Whatever lies in memory.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn unfilled(arrangement: &Arrangement, kind: Kind, device: Device) -> Result<Self, TchError> {
        Self::over(Tensor::f_empty([arrangement.length], (kind, device))?, arrangement)
    }

    fn over(buffer: Tensor, arrangement: &Arrangement) -> Result<Self, TchError> {
        let view = |(shape, from): &(Vec<i64>, i64)| buffer.f_narrow(0, *from, count(shape))?.f_view(shape.as_slice());
        let views = arrangement.members.iter().map(view).collect::<Result<_, _>>()?;
        Ok(Self { buffer, views, arrangement: arrangement.clone() })
    }

    /// The `rank`-th part of the buffer, a view as well.
    ///
    /// # Errors
    /// Fewer parts.
    pub fn part(&self, rank: usize) -> Result<Tensor, TchError> {
        let Range { start, end } = self.arrangement.range(rank);
        self.buffer.f_narrow(0, start, end - start)
    }
}

fn count(shape: &[i64]) -> i64 {
    shape.iter().product()
}

fn up(number: i64, multiple: i64) -> i64 {
    (number + multiple - 1) / multiple * multiple
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(x: &Tensor) -> Vec<f32> {
        Vec::try_from(x.reshape([-1])).unwrap()
    }

    #[test]
    fn views_share_the_buffer_and_parts_cover_it() {
        let arrangement = Arrangement::new(&[vec![2, 3], vec![], vec![70]], 4);
        let flat = Flat::zeros(&arrangement, Kind::Float, Device::Cpu).unwrap();
        for (number, view) in flat.views.iter().enumerate() {
            let _ = view.shallow_clone().fill_(number as i64 + 1);
        }
        assert_eq!(values(&flat.buffer).iter().sum::<f32>(), 6.0 + 2.0 + 210.0);
        let parts: Vec<_> = (0..4).flat_map(|rank| values(&flat.part(rank).unwrap())).collect();
        assert_eq!(parts, values(&flat.buffer));
        assert_eq!((flat.views[0].size(), flat.buffer.size1().unwrap()), (vec![2, 3], 256));
        assert!(flat.part(4).is_err());
    }

    #[test]
    fn the_pieces_of_all_parts_are_the_tensors() {
        let shapes = [vec![5, 13], vec![3], vec![100, 7], vec![1]];
        for parts in 1..6 {
            let arrangement = Arrangement::new(&shapes, parts);
            let flat = Flat::zeros(&arrangement, Kind::Float, Device::Cpu).unwrap();
            let mut found = vec![Vec::new(); shapes.len()];
            for (view, shape) in flat.views.iter().zip(&shapes) {
                let numbers = Tensor::arange(count(shape), (Kind::Float, Device::Cpu));
                view.shallow_clone().copy_(&numbers.view(shape.as_slice()));
            }
            for rank in 0..parts {
                let part = flat.part(rank).unwrap();
                for piece in arrangement.pieces(rank) {
                    let Range { start, end } = piece.elements;
                    assert_eq!(start as usize, found[piece.member].len());
                    assert_eq!(piece.whole, end - start == count(&shapes[piece.member]));
                    found[piece.member].extend(values(&part.narrow(0, piece.at, end - start)));
                }
            }
            for (found, view) in found.iter().zip(&flat.views) {
                assert_eq!(*found, values(view), "{parts} parts");
            }
        }
    }
}
