//! The model against transformers: tiny random models of every family, in fp32.
//!
//! `parity/reference.py` runs each document by itself; here they are packed into one batch, so agreement also shows that
//! attention stays inside a document and positions restart with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use hephaestus::corpus::batch::{Batch, IGNORE};
use hephaestus::hf;
use hephaestus::model::batch::TokenBatch;
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::loss::LossOutput;
use hephaestus::model::parameters::Parameters;
use hephaestus::optim::adamw::{AdamW, Settings};
use tch::{Device, Kind, Tensor};

pub(crate) const FAMILIES: [&str; 5] = ["llama2", "llama31_tied", "mistral_window", "qwen2_bias", "qwen3_qk_norm"];

/// A model loaded from its folder, and what transformers says of it.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) config: ModelConfig,
    pub(crate) parameters: Parameters,
    pub(crate) batch: TokenBatch,
    pub(crate) expected: HashMap<String, Tensor>,
}

/// Runs the reference once for all tests of this process.
pub(crate) fn folder() -> &'static Path {
    static FOLDER: OnceLock<tempfile::TempDir> = OnceLock::new();
    let made = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let python = crate::python();
        let run =
            Command::new(&python).arg(crate::root().join("tests/parity/reference.py")).arg(folder.path()).output();
        let run = run.unwrap_or_else(|error| panic!("{}: {error}; `make setup` installs it", python.display()));
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        folder
    });
    made.path()
}

fn cases() -> impl Iterator<Item = Case> {
    cases_on(Device::Cpu)
}

/// The cases with the model and its batch on `device`; what is expected stays on the CPU.
pub(crate) fn cases_on(device: Device) -> impl Iterator<Item = Case> {
    FAMILIES.into_iter().map(move |name| {
        let model = folder().join(name);
        let config = hf::config::read(&model).unwrap();
        let parameters = hf::import::load(&model, &config, Kind::Float, device).unwrap();
        let file = folder().join(format!("{name}.safetensors"));
        let expected: HashMap<_, _> = Tensor::read_safetensors(file).unwrap().into_iter().collect();
        let integers = |key: &str| Vec::<i64>::try_from(&expected[key]).unwrap();
        let batch = packed(&integers("tokens"), &integers("lengths"));
        let batch = TokenBatch::to_device(&batch, device).unwrap();
        Case { name, config, parameters, batch, expected }
    })
}

/// Documents packed into one row.
fn packed(tokens: &[i64], lengths: &[i64]) -> Batch {
    let mut batch = Batch { rows: 1, length: tokens.len(), tokens: tokens.to_vec(), ..Batch::default() };
    let mut rest = tokens;
    for length in lengths {
        let (document, after) = rest.split_at(*length as usize);
        batch.targets.extend(document[1..].iter().copied().chain([IGNORE]));
        batch.weights.extend(document[1..].iter().map(|_| 1.0).chain([0.0]));
        batch.positions.extend(0..*length);
        rest = after;
    }
    batch.segments = lengths.to_vec();
    batch.sources = vec![0];
    batch
}

pub(crate) fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// `|a - b| / |b|` in the Euclidean norm.
pub(crate) fn relative_difference(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).norm().double_value(&[]) / b.norm().double_value(&[]).max(1e-12)
}

/// The loss of a batch, with so many times its gradient in every parameter.
pub(crate) fn backward(decoder: &Decoder, batch: &TokenBatch, scale: f64) -> LossOutput {
    let Ok(loss) = decoder.loss_and_backward(batch, 0.0, &Tensor::from(scale as f32), &mut |_| Ok::<_, Infallible>(()));
    loss
}

#[test]
fn logits_of_packed_documents_are_those_of_transformers_on_each_by_itself() {
    for case in cases() {
        let decoder = Decoder::new(&case.config, &case.parameters, Recompute::None).unwrap();
        let logits = tch::no_grad(|| decoder.logits(&case.batch));
        let difference = largest_difference(&logits, &case.expected["logits"]);
        assert!(difference < 1e-4, "{}: logits differ by {difference:e}", case.name);
    }
}

#[test]
fn the_loss_and_every_gradient_are_those_of_transformers_with_and_without_recomputation() {
    for mut case in cases() {
        for recompute in [Recompute::None, Recompute::Selective, Recompute::Full] {
            case.parameters.zero_grad();
            let decoder = Decoder::new(&case.config, &case.parameters, recompute).unwrap();
            let loss = backward(&decoder, &case.batch, 1.0);
            let difference = relative_difference(&loss.sum, &case.expected["loss"].squeeze());
            assert!(difference < 1e-5, "{}: loss differs by {difference:e}", case.name);
            let sum = (&loss.nll * &case.batch.weights).sum(Kind::Float);
            assert!(relative_difference(&sum, &loss.sum) < 1e-6, "{}: nll does not add up to the loss", case.name);
            let gradients = case.expected.keys().filter(|key| key.starts_with("grad.")).count();
            assert_eq!(gradients, case.parameters.tensors().len(), "{}", case.name);
            for (name, parameter) in case.parameters.iter() {
                let difference = relative_difference(&parameter.grad(), &case.expected[&format!("grad.{name}")]);
                assert!(difference < 1e-4, "{} ({recompute:?}): {name} differs by {difference:e}", case.name);
            }
        }
    }
}

/// The optimizer of `reference.py`.
const ADAMW: Settings =
    Settings { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, moments: Kind::Float, clip_norm: Some(1.0) };

/// A loss that has nothing against an update.
fn finite() -> Tensor {
    Tensor::from(0.0_f32)
}

/// The gradients of a batch's mean loss, and that loss.
fn gradients(case: &mut Case) -> (Vec<Tensor>, f64) {
    let trained = case.batch.weights.sum(Kind::Float).double_value(&[]);
    let decoder = Decoder::new(&case.config, &case.parameters, Recompute::None).unwrap();
    case.parameters.zero_grad();
    let loss = backward(&decoder, &case.batch, 1.0 / trained);
    (case.parameters.tensors().iter().map(Tensor::grad).collect(), loss.sum.double_value(&[]) / trained)
}

#[test]
fn twenty_training_steps_have_the_losses_of_a_plain_pytorch_loop() {
    for mut case in cases() {
        let mut optimizer = AdamW::new(&case.parameters, &case.parameters, ADAMW).unwrap();
        let losses = Vec::<f32>::try_from(&case.expected["losses"]).unwrap();
        for (step, expected) in losses.iter().enumerate() {
            let (gradients, loss) = gradients(&mut case);
            let difference = (loss - f64::from(*expected)).abs();
            assert!(difference < 1e-4, "{}: step {step} has loss {loss}, expected {expected}", case.name);
            let update = optimizer.step(&gradients, &Tensor::from(loss as f32), 1e-2).unwrap();
            assert_eq!(update.skipped.double_value(&[]), 0.0);
        }
        assert!(losses[19] < losses[0] / 2.0, "{}: too little was learned to compare", case.name);
    }
}

#[test]
fn a_gradient_or_loss_that_is_not_finite_changes_nothing_and_does_not_count() {
    let mut cases = [cases().next().unwrap(), cases().next().unwrap()];
    let mut optimizers = cases.each_ref().map(|case| AdamW::new(&case.parameters, &case.parameters, ADAMW).unwrap());
    for (poisoned, (case, optimizer)) in [false, true].into_iter().zip(cases.iter_mut().zip(&mut optimizers)) {
        for step in 0..3 {
            if poisoned && step == 1 {
                let before: Vec<_> = case.parameters.tensors().iter().map(|tensor| tensor.detach().copy()).collect();
                let (mut bad, _) = gradients(case);
                let _ = bad[3].fill_(f64::NAN);
                let update = optimizer.step(&bad, &finite(), 1e-2).unwrap();
                assert_eq!(update.skipped.double_value(&[]), 1.0);
                let (good, _) = gradients(case);
                let update = optimizer.step(&good, &Tensor::from(f32::INFINITY), 1e-2).unwrap();
                assert_eq!(update.skipped.double_value(&[]), 1.0);
                assert!(case.parameters.tensors().iter().zip(&before).all(|(now, before)| now == before));
            }
            let (gradients, _) = gradients(case);
            optimizer.step(&gradients, &finite(), 1e-2).unwrap();
        }
    }
    let [clean, poisoned] = &cases;
    assert!(clean.parameters.tensors().iter().zip(poisoned.parameters.tensors()).all(|(a, b)| a == b));
}

#[test]
fn what_libtorch_throws_in_native_code_is_an_error() {
    let tensors = [Tensor::zeros([2], (Kind::Float, Device::Cpu))];
    let others = [Tensor::zeros([3], (Kind::Float, Device::Cpu))];
    let error = hephaestus::ffi::copy_all(&tensors, &others).unwrap_err().to_string();
    assert!(error.contains("size of tensor"), "{error}");
    assert!(hephaestus::ffi::global_norm(&[]).is_err());
    assert!(hephaestus::ffi::copy_all(&tensors, &[]).is_err());
}

#[test]
fn bf16_weights_follow_their_fp32_masters() {
    let case = cases().next().unwrap();
    let reduced: Vec<_> = case.parameters.tensors().iter().map(|tensor| tensor.to_kind(Kind::BFloat16)).collect();
    let reduced = Parameters::new(case.parameters.specs().to_vec(), reduced).unwrap();
    let widened: Vec<_> = reduced.tensors().iter().map(|tensor| tensor.to_kind(Kind::Float)).collect();
    let full = Parameters::new(case.parameters.specs().to_vec(), widened).unwrap();
    let mut optimizers = [&reduced, &full].map(|parameters| AdamW::new(parameters, parameters, ADAMW).unwrap());
    // Steps far below what bf16 resolves: only masters in fp32 let them add up.
    for _ in 0..50 {
        let gradients: Vec<_> = full.tensors().iter().map(Tensor::ones_like).collect();
        for optimizer in &mut optimizers {
            let mine: Vec<_> = gradients.iter().map(Tensor::copy).collect();
            optimizer.step(&mine, &finite(), 1e-4).unwrap();
        }
    }
    for ((name, reduced), full) in reduced.iter().zip(full.tensors()) {
        assert_eq!(reduced.detach(), full.detach().to_kind(Kind::BFloat16), "{name}");
    }
}

#[test]
fn documents_do_not_see_each_other() {
    for case in cases() {
        let decoder = Decoder::new(&case.config, &case.parameters, Recompute::None).unwrap();
        let first = case.batch.segments.lengths()[..2].iter().sum::<i64>();
        let before = tch::no_grad(|| decoder.logits(&case.batch));
        let mut other = case.batch;
        other.tokens = other.tokens.copy();
        let _ = other.tokens.narrow(0, 0, first).fill_(5);
        let after = tch::no_grad(|| decoder.logits(&other));
        let rest = before.size()[0] - first;
        assert_eq!(largest_difference(&before.narrow(0, first, rest), &after.narrow(0, first, rest)), 0.0);
        assert!(largest_difference(&before, &after) > 0.1, "{}: changed tokens change nothing", case.name);
    }
}

#[test]
fn loss_and_gradient_are_those_of_autograd_however_many_rows_are_held_at_once() {
    [1, 2, 3, 7, 100].into_iter().for_each(loss_and_gradient_are_those_of_autograd);
}

fn loss_and_gradient_are_those_of_autograd(rows: i64) {
    let options = (Kind::Float, Device::Cpu);
    let hidden = Tensor::randn([7, 5], options).set_requires_grad(true);
    let head = Tensor::randn([11, 5], options).set_requires_grad(true);
    let targets = Tensor::from_slice(&[0_i64, 10, IGNORE, 3, 4, 5, 6]);
    let weights = Tensor::from_slice(&[1_f32, 0.5, 0.0, 2.0, 1.0, 1.0, 0.25]);
    let ours = hephaestus::model::loss::linear_cross_entropy(&hidden, &head, &targets, &weights, 0.3, rows);
    (&ours.sum * 2.0).backward();
    let (by_hidden, by_head) = (hidden.grad().copy(), head.grad().copy());
    let (hidden, head) = (hidden.detach().set_requires_grad(true), head.detach().set_requires_grad(true));
    let logits = hidden.matmul(&head.tr());
    let log_z = logits.logsumexp([1_i64].as_slice(), false);
    let nll = &log_z - logits.gather(1, &targets.clamp_min(0).unsqueeze(1), false).squeeze_dim(1);
    let plain = ((nll + log_z.square() * 0.3) * &weights).sum(Kind::Float);
    (&plain * 2.0).backward();
    assert!(relative_difference(&ours.sum, &plain) < 1e-6);
    assert!(relative_difference(&by_hidden, &hidden.grad()) < 1e-5);
    assert!(relative_difference(&by_head, &head.grad()) < 1e-5);
}
