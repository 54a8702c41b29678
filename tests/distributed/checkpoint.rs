//! Checkpoints of several ranks: all write one, or none does, and all say why.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hephaestus::checkpoint::manifest::Manifest;
use hephaestus::checkpoint::save::Contents;
use hephaestus::checkpoint::{self, CheckpointError, State, Together, find, load};
use hephaestus::distributed::World;
use hephaestus::distributed::rendezvous::Launch;
use hephaestus::hf;
use hephaestus::hf::companions::Sources;
use hephaestus::hf::import::Weights;
use hephaestus::hf::layout::Layout;
use hephaestus::hf::names;
use hephaestus::optim::slice::Slice;
use tch::{Device, Kind, Tensor};

use super::rank::{Outcome, folder};
use super::*;

/// How long ranks wait for one that does not do its part.
const SHORT: Duration = Duration::from_secs(6);

/// Few enough bytes that the weights take several files.
const SHARD: u64 = 10_000;

fn model() -> PathBuf {
    crate::parity::folder().join("qwen3_qk_norm")
}

/// What one of the ranks does.
pub(super) fn save(what: &str, launch: Launch) -> Outcome {
    let timeout = if what == "and find each other" { LIMIT } else { SHORT };
    let world = World::join(launch, Device::Cpu, timeout)?;
    let together = Together::of(&world);
    let (rank, out) = (together.rank(), folder().join("out"));
    match (what, rank) {
        ("and find each other", _) => back_and_forth(&together, &out)?,
        ("with a disk that refuses", 1) => {
            // Sees what rank 0 writes, and has a folder where its own file should be.
            let refusing = folder().join("refusing");
            let [hidden, real] = [&refusing, &out].map(|output| output.join(".step-3.writing"));
            fs_err::create_dir_all(hidden.join("model"))?;
            std::os::unix::fs::symlink(real.join(".shared"), hidden.join(".shared"))?;
            fs_err::create_dir(hidden.join("optimizer-00002-of-00003.safetensors"))?;
            write(&together, &refusing, 3, (3, 1))?;
        }
        ("on disks of their own", 2) => drop(write(&together, &folder().join("own"), 3, (3, 1))?),
        ("without one", 2) => return Ok(()),
        _ => drop(write(&together, &out, 3, (3, 1))?),
    }
    Ok(world.close(Vec::new())?)
}

/// The optimizer's state: each element another number.
fn state() -> Vec<Slice> {
    let config = hf::config::read(&model()).unwrap();
    let mut first = 0;
    let slices = names::parameters(&config).into_iter().map(|spec| {
        let elements = spec.elements() as i64;
        first += elements;
        let values = Tensor::arange_start(first - elements, first, (Kind::Float, Device::Cpu));
        Slice::whole(format!("{}.exp_avg", spec.name), values.reshape(&spec.shape))
    });
    let step = Slice::whole("step".to_owned(), Tensor::from(7_f32));
    std::iter::once(step).chain(slices).collect()
}

/// What the `at`-th of `parts` ranks that share it holds: of each tensor a part, that of the first the smallest.
fn part(at: usize, parts: usize) -> Vec<Slice> {
    let cut = |elements: i64, at: usize| elements * (at * at) as i64 / (parts * parts) as i64;
    let hold = |slice: Slice| {
        let elements = slice.tensor.numel() as i64;
        if parts == 1 || slice.shape.is_empty() {
            return slice;
        }
        let (from, to) = (cut(elements, at), cut(elements, at + 1));
        Slice { from, tensor: slice.tensor.reshape([-1]).narrow(0, from, to - from), ..slice }
    };
    state().into_iter().map(hold).collect()
}

/// Writes this rank's part of a checkpoint, of which so many ranks share each of so many copies.
fn write(
    together: &Together<'_>,
    output: &Path,
    step: u64,
    (shards, copies): (usize, usize),
) -> Result<PathBuf, CheckpointError> {
    let config = hf::config::read(&model())?;
    let weights = Weights::open(&model(), &config)?;
    let layout = Layout::of(&config, Kind::Float, SHARD, together.count())?;
    let own = layout.parameters_of(together.rank()).map(|spec| Ok((spec.name.clone(), weights.tensor(&spec.name)?)));
    let tokenizer = model();
    let carried = Sources { model: None, tokenizer: Some(&tokenizer) }.read()?;
    let contents = Contents {
        config: &config,
        layout: &layout,
        weights: own.collect::<Result<_, hf::HfError>>()?,
        optimizer: part(together.rank() % shards, shards),
        replica: (together.rank() / shards, copies),
        state: &State {
            version: State::VERSION,
            step,
            tokens: 0,
            skipped: 0,
            stage: "main".to_owned(),
            stage_step: step,
            stage_tokens: None,
            shares: BTreeMap::new(),
            base: None,
            seed: 0,
            sequence_length: 16,
            sources: BTreeMap::new(),
        },
        carried: &carried,
        recipe: "version: 1\n",
    };
    checkpoint::save::save(output, &contents, together)
}

/// Sharded, then in copies; each is read back in parts of other sizes.
fn back_and_forth(together: &Together<'_>, out: &Path) -> Outcome {
    let count = together.count();
    for (step, mesh) in [(1, (count, 1)), (2, (1, count))] {
        assert_eq!(write(together, out, step, mesh)?, out.join(format!("step-{step}")));
        let (folder, skipped) = find::verified(find::candidates(out)?, together)?;
        let folder = folder.ok_or("no checkpoint")?;
        assert_eq!((folder.as_path(), skipped.len()), (out.join(format!("step-{step}")).as_path(), 0));
        for parts in [1, 2, 5] {
            let expected = part(together.rank() % parts, parts);
            let found: Vec<_> =
                expected.iter().map(|slice| Slice { tensor: slice.tensor.zeros_like(), ..whole(slice) }).collect();
            load::slices(load::files(&folder)?, &found)?;
            assert!(expected.iter().zip(&found).all(|(expected, found)| expected.tensor == found.tensor));
        }
    }
    each_file_is_verified(together, out)
}

/// Whichever file of the newest checkpoint is damaged, all ranks pass it over and say the same.
fn each_file_is_verified(together: &Together<'_>, out: &Path) -> Outcome {
    let newest = out.join("step-2");
    for name in Manifest::read(&newest)?.files.into_keys() {
        let file = newest.join(name);
        let flip = || {
            let mut bytes = fs_err::read(&file)?;
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            Ok::<_, CheckpointError>(fs_err::write(&file, bytes)?)
        };
        together.first("damage a file", flip)?;
        let (found, skipped) = find::verified(find::candidates(out)?, together)?;
        assert_eq!(found, Some(out.join("step-1")));
        let reason = format!("{}: its contents have changed", file.display());
        assert!(skipped.len() == 1 && skipped[0].reason.starts_with(&reason), "{skipped:?}");
        together.first("mend it", flip)?;
    }
    Ok(())
}

/// The same slice again.
fn whole(slice: &Slice) -> Slice {
    let Slice { name, shape, from, tensor } = slice;
    Slice { name: name.clone(), shape: shape.clone(), from: *from, tensor: tensor.shallow_clone() }
}

/// The same reason on every rank that has one, without the name of the machine.
fn reason(ended: &[&Ended], folder: &TempDir) -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let told = ended.iter().map(|ended| failed(ended).replace(&folder.path().display().to_string(), "FOLDER"));
    let told: Vec<_> = told.map(|told| told.replace(&format!("({host})"), "(HOST)")).collect();
    assert!(told.iter().all(|one| *one == told[0]), "{told:#?}");
    let left = fs_err::read_dir(folder.path().join("out")).unwrap().count();
    assert_eq!(left, 0, "something is left of a checkpoint that failed");
    told[0].clone()
}

#[test]
fn ranks_write_a_checkpoint_together_that_any_number_of_them_and_transformers_read() {
    let (ended, folder) = run_in("save and find each other", 3, &[0, 1, 2]);
    all_succeed(&ended);
    let mut models = Vec::new();
    for step in ["step-1", "step-2"] {
        let saved = folder.path().join("out").join(step);
        assert_eq!(load::files(&saved).unwrap().len(), 3);
        let sizes = load::files(&saved).unwrap();
        let sizes: Vec<_> = sizes.iter().map(|path| fs_err::metadata(path).unwrap().len()).collect();
        assert!(sizes.iter().all(|size| size * 12 > sizes.iter().sum()), "{sizes:?}");
        let manifest = Manifest::read(&saved).unwrap();
        manifest.verify(&saved, (0, 1)).unwrap();
        assert!(manifest.files.contains_key("model/model.safetensors.index.json"), "{:?}", manifest.files);
        assert!(!saved.join(".shared").exists());
        models.extend([model(), saved.join("model")]);
    }
    let mut python = Command::new(crate::python());
    let run = python.arg(crate::root().join("tests/parity/loads.py")).args(models).output();
    let run = run.expect("`make setup` installs the Python in .venv");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[test]
fn where_the_disk_of_one_rank_refuses_all_fail_with_its_reason() {
    let (ended, folder) = run_in("save with a disk that refuses", 3, &[0, 1, 2]);
    let reason = reason(&[&ended[0], &ended[1], &ended[2]], &folder);
    let file = "FOLDER/refusing/.step-3.writing/optimizer-00002-of-00003.safetensors";
    assert_eq!(reason, format!("rank 1 of 3 (HOST): failed to create file `{file}`: Is a directory (os error 21)"));
}

#[test]
fn where_a_rank_does_not_see_what_the_others_write_all_say_what_to_do() {
    let (ended, folder) = run_in("save on disks of their own", 3, &[0, 1, 2]);
    let reason = reason(&[&ended[0], &ended[1], &ended[2]], &folder);
    let expected = "rank 2 of 3 (HOST): FOLDER/own/.step-3.writing: not to be seen here: run.output, ";
    assert!(reason.starts_with(expected), "{reason}");
}

#[test]
fn where_a_rank_does_not_come_to_save_the_others_name_it() {
    let (ended, folder) = run_in("save without one", 3, &[0, 1, 2]);
    assert_eq!(ended[2].code, Some(0), "{}", ended[2].text);
    let reason = reason(&[&ended[0], &ended[1]], &folder);
    assert_eq!(reason, "rank 2 of 3 did not answer within 6 s (find a folder that all share): see its log");
}
