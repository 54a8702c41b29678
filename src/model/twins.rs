//! Fused functions beside their twins: the same in libtorch's plain operations, which define them. Every module has a list of
//! its own; tests and the doctor hold all of them against each other, on the CPU and on GPUs.

use tch::{Device, Kind, TchError, Tensor};

use super::{attention, linear, loss, mlp, norm, rope};
use crate::ffi;
use crate::optim::adamw;

type Fused = Box<dyn Fn(&[Tensor]) -> Result<Vec<Tensor>, TchError>>;
type Plain = Box<dyn Fn(&[Tensor]) -> Vec<Tensor>>;

/// A fused function and its twin.
pub struct Twin {
    /// Its name.
    pub name: &'static str,
    /// Elements that forward and backward together read and write at least, where memory is what bounds them.
    pub moved: Option<u64>,
    /// Largest relative difference in bf16 that its definition leaves it.
    pub tolerance: f64,
    shapes: Vec<Vec<i64>>,
    fused: Fused,
    plain: Plain,
    has_gradients: bool,
}

/// Shapes to run at: N tokens in segments, C width, F MLP width, H and K heads of D, V vocabulary.
#[derive(Clone, Debug)]
pub struct Size {
    /// Lengths of the segments; they sum to N.
    pub segments: Vec<i64>,
    /// C.
    pub width: i64,
    /// F.
    pub inner: i64,
    /// H.
    pub heads: i64,
    /// K.
    pub kv_heads: i64,
    /// D.
    pub head: i64,
    /// V.
    pub vocabulary: i64,
}

impl Size {
    /// N.
    #[must_use]
    pub fn tokens(&self) -> i64 {
        self.segments.iter().sum()
    }
}

/// All of them.
#[must_use]
pub fn all(size: &Size) -> Vec<Twin> {
    let modules = [norm::twins, rope::twins, mlp::twins, linear::twins, attention::twins, loss::twins, adamw::twins];
    modules.iter().flat_map(|twins| twins(size)).collect()
}

/// `|a - b| / |b|` in the Euclidean norm, in fp64.
#[must_use]
pub fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1e-12)
}

/// The largest of differences, 0 where there are none; no number where one of them is none.
pub(crate) fn largest(differences: impl IntoIterator<Item = f64>) -> f64 {
    differences.into_iter().fold(0.0, |most, one| if one > most || one.is_nan() { one } else { most })
}

impl Twin {
    /// A function of tensors of these shapes, whose gradients are compared too.
    pub(crate) fn new(
        name: &'static str,
        shapes: &[&[i64]],
        fused: impl Fn(&[Tensor]) -> Result<Vec<Tensor>, TchError> + 'static,
        plain: impl Fn(&[Tensor]) -> Vec<Tensor> + 'static,
    ) -> Self {
        Self {
            name,
            moved: None,
            tolerance: 1e-2,
            shapes: shapes.iter().map(|shape| shape.to_vec()).collect(),
            fused: Box::new(fused),
            plain: Box::new(plain),
            has_gradients: true,
        }
    }

    /// The same, known to read and write so many elements at least.
    pub(crate) fn moving(self, elements: i64) -> Self {
        Self { moved: u64::try_from(elements).ok(), ..self }
    }

    /// The same with so large a difference in bf16 left to it.
    pub(crate) fn within(self, tolerance: f64) -> Self {
        Self { tolerance, ..self }
    }

    /// The same for a function that is not differentiated.
    pub(crate) fn without_gradients(self) -> Self {
        Self { has_gradients: false, ..self }
    }

    /// Operands, drawn anew each time.
    ///
    /// # Errors
    /// More memory than there is.
    pub fn operands(&self, kind: Kind, device: Device) -> Result<Vec<Tensor>, TchError> {
        self.shapes.iter().map(|shape| Tensor::f_randn(shape, (Kind::Float, device))?.f_to_kind(kind)).collect()
    }

    /// The largest relative difference between what the fused function makes of operands in `kind` and what its twin makes of
    /// them in fp32: over results and, for random weights of those, over gradients. No number where one of either is none.
    ///
    /// # Errors
    /// What the fused function refuses.
    pub fn difference(&self, kind: Kind, device: Device) -> Result<f64, TchError> {
        let operands = self.operands(kind, device)?;
        let leaves = |kind: Kind| -> Vec<Tensor> {
            let copies = operands.iter().map(|operand| operand.to_kind(kind).copy());
            copies.map(|copy| copy.set_requires_grad(self.has_gradients)).collect()
        };
        let (mine, theirs) = (leaves(kind), leaves(Kind::Float));
        let (mut found, mut expected) = ((self.fused)(&mine)?, (self.plain)(&theirs));
        if self.has_gradients {
            let weights: Vec<_> = expected.iter().map(Tensor::randn_like).collect();
            for (results, leaves) in [(&mut found, &mine), (&mut expected, &theirs)] {
                let terms = results.iter().zip(&weights).map(|(result, weight)| (result * weight).sum(Kind::Float));
                terms.reduce(|sum, term| sum + term).map_or(Ok(()), |sum| sum.f_backward())?;
                results.extend(leaves.iter().map(Tensor::grad));
            }
        }
        Ok(largest(found.iter().zip(&expected).map(|(found, expected)| difference(found, expected))))
    }

    /// One call of the fused function, forward and backward, whose results are dropped: what is timed.
    ///
    /// # Errors
    /// What the fused function refuses.
    pub fn exercise(&self, operands: &[Tensor]) -> Result<(), TchError> {
        if !self.has_gradients {
            return (self.fused)(operands).map(drop);
        }
        let leaves: Vec<_> = operands.iter().map(|operand| operand.detach().set_requires_grad(true)).collect();
        let results = (self.fused)(&leaves)?;
        // One gradient is as good as another for its time; the results themselves are some.
        let gradients: Vec<_> = results.iter().map(Tensor::detach).collect();
        ffi::backward(&results, &gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fused_function_is_its_twin_values_and_gradients() {
        tch::manual_seed(1);
        let even = Size {
            segments: vec![1, 70, 13, 120],
            width: 64,
            inner: 96,
            heads: 4,
            kv_heads: 2,
            head: 16,
            vocabulary: 320,
        };
        // Widths that are no multiple of what a processor takes at once, and segments of one length.
        let odd = Size { segments: vec![51; 4], width: 91, inner: 37, heads: 3, kv_heads: 3, head: 6, vocabulary: 301 };
        for twin in [all(&even), all(&odd)].iter().flatten() {
            for (kind, tolerance) in [(Kind::Float, 5e-6), (Kind::BFloat16, twin.tolerance)] {
                let difference = twin.difference(kind, Device::Cpu).unwrap();
                assert!(difference < tolerance, "{} in {kind:?} differs by {difference:e}", twin.name);
            }
        }
    }

    #[test]
    fn the_twins_gradients_are_the_slopes_of_what_they_compute() {
        // Central differences in fp64 along random directions.
        tch::manual_seed(2);
        let size = Size { segments: vec![3, 4], width: 6, inner: 5, heads: 2, kv_heads: 1, head: 4, vocabulary: 7 };
        for twin in all(&size).iter().filter(|twin| twin.has_gradients) {
            let operands = twin.operands(Kind::Double, Device::Cpu).unwrap();
            let value = |operands: &[Tensor], weights: &[Tensor]| -> Tensor {
                let results = (twin.plain)(operands);
                results
                    .iter()
                    .zip(weights)
                    .map(|(result, weight)| (result * weight).sum(Kind::Double))
                    .reduce(|a, b| a + b)
                    .unwrap()
            };
            let weights: Vec<_> = (twin.plain)(&operands).iter().map(Tensor::randn_like).collect();
            assert!(weights.iter().all(|weight| weight.kind() == Kind::Double), "{} computes in less", twin.name);
            let leaves: Vec<_> = operands.iter().map(|operand| operand.copy().set_requires_grad(true)).collect();
            value(&leaves, &weights).backward();
            for (at, leaf) in leaves.iter().enumerate() {
                let direction = leaf.detach().randn_like();
                let moved = |step: f64| {
                    let mut moved: Vec<_> = operands.iter().map(Tensor::shallow_clone).collect();
                    moved[at] = &operands[at] + &direction * step;
                    value(&moved, &weights).double_value(&[])
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let expected = (leaf.grad() * &direction).sum(Kind::Double).double_value(&[]);
                let error = (slope - expected).abs() / expected.abs().max(1.0);
                assert!(error < 1e-7, "{}, operand {at}: slope {slope}, gradient {expected}", twin.name);
            }
        }
    }
}
