//! What a CUDA device computes, held against transformers and against the CPU. Without one each test says that it skipped.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hephaestus::corpus::loader::{Position, StepBatch, UNIT};
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::model::decoder::Decoder;
use hephaestus::model::loss::rows_at_once;
use hephaestus::model::twins::{Size, all};
use hephaestus::plan::memory::Load;
use hephaestus::plan::{self, Arithmetic, Compute, DistributedPlan, Machine, Ranks};
use hephaestus::recipe::sections::Moments;
use hephaestus::train::data::Data;
use hephaestus::train::start;
use hephaestus::train::step::Engine;
use hephaestus::{ffi, recipe};
use tch::{Cuda, Device, Kind};
use tempfile::TempDir;

use crate::distributed::one_rank::trains_as_a_process_alone;
use crate::memory::{batch, engine};
use crate::parity::{backward, cases_on, largest_difference, relative_difference};
use crate::train::{losses, succeed, workshop};

/// The device, to one test at a time: whether waiting is forbidden, and the memory of recordings, are of the whole process.
/// Says so where there is none.
fn device(test: &str) -> Option<(Device, MutexGuard<'static, ()>)> {
    static TAKEN: Mutex<()> = Mutex::new(());
    if Cuda::is_available() {
        return Some((Device::Cuda(0), TAKEN.lock().unwrap_or_else(PoisonError::into_inner)));
    }
    crate::skipped(test, "libtorch sees no CUDA device");
    None
}

#[test]
fn logits_and_every_gradient_on_a_gpu_are_those_of_transformers() {
    let Some((device, _taken)) = device("logits_and_every_gradient_on_a_gpu_are_those_of_transformers") else { return };
    for mut case in cases_on(device) {
        for recompute in [Recompute::None, Recompute::Selective, Recompute::Full] {
            case.parameters.zero_grad();
            let decoder = Decoder::new(&case.config, &case.parameters, recompute).unwrap();
            let logits = tch::no_grad(|| decoder.logits(&case.batch)).to_device(Device::Cpu);
            let difference = largest_difference(&logits, &case.expected["logits"]);
            assert!(difference < 1e-4, "{}: logits differ by {difference:e}", case.name);
            backward(&decoder, &case.batch, 1.0);
            for (name, parameter) in case.parameters.iter() {
                let gradient = parameter.grad().to_device(Device::Cpu);
                let difference = relative_difference(&gradient, &case.expected[&format!("grad.{name}")]);
                assert!(difference < 1e-4, "{} ({recompute:?}): {name} differs by {difference:e}", case.name);
            }
        }
    }
}

#[test]
fn every_fused_function_on_a_gpu_is_its_twin() {
    let Some((device, _taken)) = device("every_fused_function_on_a_gpu_is_its_twin") else { return };
    assert!(ffi::has_kernels(), "built without kernels");
    let size = |segments: Vec<i64>, width: i64, head: i64, vocabulary: i64| Size {
        segments,
        width,
        inner: 3 * width,
        heads: 4,
        kv_heads: 2,
        head,
        vocabulary,
    };
    let even = size(vec![1, 700, 130, 1200, 17], 1024, 128, 32_000);
    let odd = size(vec![51; 4], 91, 24, 301);
    for twin in [all(&even), all(&odd)].iter().flatten() {
        for (kind, tolerance) in [(Kind::Float, 1e-5), (Kind::BFloat16, twin.tolerance)] {
            let difference = twin.difference(kind, device).unwrap();
            assert!(difference < tolerance, "{} in {kind:?} differs by {difference:e}", twin.name);
        }
    }
}

#[test]
fn a_run_on_a_gpu_has_the_losses_of_the_cpu_and_goes_on_where_it_stopped() {
    let Some((_, _taken)) = device("a_run_on_a_gpu_has_the_losses_of_the_cpu_and_goes_on_where_it_stopped") else {
        return;
    };
    let folder = workshop();
    succeed(&folder, &[]);
    let loss = |output: &str, step: u64| losses(&folder, output)[&step][0].as_f64().unwrap();
    for (precision, tolerance) in [("fp32", 1e-4), ("bf16", 2e-2)] {
        let (output, precision) = (format!("run.output={precision}"), format!("device.precision={precision}"));
        let gpu = ["--set", "device.kind=cuda", "--set", &precision, "--set", &output];
        succeed(&folder, &[&gpu[..], &["--stop-at", "5"]].concat());
        succeed(&folder, &gpu);
        let output = output.trim_start_matches("run.output=");
        for step in 1..=12 {
            let (ours, cpu) = (loss(output, step), loss("out", step));
            assert!((ours - cpu).abs() < tolerance * cpu, "{output}, step {step}: {ours} on the GPU, {cpu} on the CPU");
        }
    }
}

/// An engine and batches for it, as a run of the workshop's recipe has them, on the GPU.
fn run(folder: &TempDir, overrides: &[&str]) -> (Engine, Vec<StepBatch>, usize) {
    let overrides: Vec<_> = ["device.kind=cuda", "device.precision=bf16", "stages.0.steps=40"]
        .iter()
        .chain(overrides)
        .map(|text| (*text).to_owned())
        .collect();
    let here = folder.path();
    let text =
        fs_err::read_to_string(here.join("cpt.yaml")).unwrap().replace("config.json", &path(here, "config.json"));
    let text = text.replace("corpora/", &format!("{}/", path(here, "corpora")));
    let text = text.replace("tokenizer: tok", &format!("tokenizer: {}", path(here, "tok")));
    let recipe = recipe::parse(&text, &here.join("cpt.yaml"), &overrides).unwrap();
    let machine = Machine::here((0..).map_while(ffi::cuda_device).collect(), Ranks::default());
    let plan = plan::resolve(&recipe, &machine).unwrap();
    let data = Data::open(&plan).unwrap();
    let loader = data.loader(&plan, 0, Position::start(plan.data.sources.len())).unwrap();
    let batches = loader.take(12).map(Result::unwrap).collect();
    (start::engine(&plan, None, None).unwrap(), batches, plan.data.sources.len())
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).display().to_string()
}

#[test]
fn a_step_on_a_gpu_waits_for_nothing() {
    let Some((_, _taken)) = device("a_step_on_a_gpu_waits_for_nothing") else { return };
    let folder = workshop();
    for overrides in
        [&[][..], &["device.precision=fp8"], &["model.activation_checkpointing=full"], &["device.cuda_graphs=true"]]
    {
        let (mut engine, batches, sources) = run(&folder, overrides);
        // Three times over, in which libraries set themselves up and graphs are recorded, and then once more.
        for (at, batch) in batches[..3].iter().cycle().take(12).enumerate() {
            ffi::forbid_waiting(at >= 9).unwrap();
            engine.step(&batch.micro, batch.weight as f64 / UNIT, 1e-3, sources, || false).unwrap().unwrap();
        }
        ffi::forbid_waiting(false).unwrap();
    }
}

#[test]
fn recorded_micro_batches_compute_what_plain_ones_do() {
    let Some((_, _taken)) = device("recorded_micro_batches_compute_what_plain_ones_do") else { return };
    let folder = workshop();
    let losses = |overrides: &[&str]| -> Vec<f64> {
        let (mut engine, batches, sources) = run(&folder, overrides);
        let step = |batch: &StepBatch| {
            let step = engine.step(&batch.micro, batch.weight as f64 / UNIT, 1e-2, sources, || false).unwrap().unwrap();
            step.by_source.select(1, 0).sum(Kind::Double).double_value(&[])
        };
        batches.iter().map(step).collect()
    };
    let (plain, recorded) = (losses(&[]), losses(&["device.cuda_graphs=true"]));
    assert!(plain[11] < 0.9 * plain[0], "{plain:?}");
    for (plain, recorded) in plain.iter().zip(&recorded) {
        assert!((plain - recorded).abs() < 1e-3 * plain, "{plain:?} {recorded:?}");
    }
}

#[test]
fn one_rank_over_nccl_in_every_mode_trains_as_a_process_alone() {
    const TEST: &str = "one_rank_over_nccl_in_every_mode_trains_as_a_process_alone";
    let Some((device, _taken)) = device(TEST) else { return };
    trains_as_a_process_alone(device, Kind::BFloat16, 1e-2);
    trains_as_a_process_alone(device, Kind::Float, 1e-4);
}

/// The one test that reads the allocator's peak, which is of the whole process: it runs in one of its own.
#[test]
fn the_estimate_is_within_a_tenth_of_what_a_gpu_has_in_use() {
    const TEST: &str = "the_estimate_is_within_a_tenth_of_what_a_gpu_has_in_use";
    let Some((device, _taken)) = device(TEST) else { return };
    if std::env::var_os("HEPHAESTUS_ALONE").is_none() {
        let this = std::env::current_exe().unwrap();
        let name = format!("cuda::{TEST}");
        let mut run = std::process::Command::new(this);
        run.args([&name, "--exact", "--nocapture"]).env("HEPHAESTUS_ALONE", "1");
        assert!(run.status().unwrap().success());
        return;
    }
    // Ascending, as the peak never falls: about 3 to 14 GB.
    let config = ModelConfig { kv_heads: 4, ..ModelConfig::llama(32_000, 1024, 2816, 12, 16) };
    for (recompute, rows) in [(Recompute::Full, 8), (Recompute::Selective, 16), (Recompute::None, 32)] {
        let recompute = [recompute; 12];
        let mut engine = engine(&config, Kind::BFloat16, device, &recompute);
        let micro = vec![batch(&config, rows, 1024); 2];
        for _ in 0..2 {
            engine.step(&micro, 1.0, 1e-4, 1, || false).unwrap();
        }
        let load = Load {
            config: &config,
            arithmetic: Arithmetic::Bf16,
            compute: Compute::Cuda(0),
            tokens: (rows * 1024) as u64,
            moments: Moments::Fp32,
            several: true,
            graphs: false,
            recompute: &recompute,
            loss_rows: rows_at_once(Some(0), 32_000, 2),
            distributed: DistributedPlan::ALONE,
        };
        let (estimate, used) = (load.memory().total() as f64, hephaestus::ffi::cuda_peak_memory(0) as f64);
        let off = estimate / used - 1.0;
        assert!(off.abs() < 0.1, "{rows} rows: {estimate:e} bytes estimated, {used:e} used");
    }
}
