//! Fused functions held against libtorch's operations: values and gradients, in fp32 and bf16.

use tch::{Device, Kind, Tensor};

/// `|a - b| / |b|` in the Euclidean norm, in fp64.
pub(super) fn difference(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    (&a - &b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1e-12)
}

/// Asserts that `fused`, in each kind, gives the outputs and gradients of `plain` in fp32 on the same random inputs.
pub(super) fn agree(
    kinds: &[Kind],
    shapes: &[&[i64]],
    fused: impl Fn(&[Tensor]) -> Vec<Tensor>,
    plain: impl Fn(&[Tensor]) -> Vec<Tensor>,
) {
    tch::manual_seed(1);
    for kind in kinds {
        let tolerance = if *kind == Kind::Float { 2e-6 } else { 1e-2 };
        let options = (Kind::Float, Device::Cpu);
        let inputs: Vec<_> = shapes.iter().map(|shape| Tensor::randn(*shape, options).to_kind(*kind)).collect();
        let run = |kind: Kind, function: &dyn Fn(&[Tensor]) -> Vec<Tensor>, weights: &mut Vec<Tensor>| {
            let inputs: Vec<_> =
                inputs.iter().map(|input| input.to_kind(kind).copy().set_requires_grad(true)).collect();
            let outputs = function(&inputs);
            if weights.is_empty() {
                *weights = outputs.iter().map(|output| Tensor::randn(output.size(), options)).collect();
            }
            let terms = outputs.iter().zip(&*weights).map(|(output, weight)| (output * weight).sum(Kind::Float));
            terms.reduce(|sum, term| sum + term).unwrap().backward();
            outputs.into_iter().chain(inputs.iter().map(Tensor::grad)).collect::<Vec<_>>()
        };
        let mut weights = Vec::new();
        let expected = run(Kind::Float, &plain, &mut weights);
        let found = run(*kind, &fused, &mut weights);
        assert_eq!(found.len(), expected.len());
        for (at, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!((found.kind(), found.size()), (*kind, expected.size()), "{at}");
            let difference = difference(found, expected);
            assert!(difference < tolerance, "{kind:?}: result {at} differs by {difference:e}");
        }
    }
}
