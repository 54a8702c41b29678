//! Plans: what is refused and in which words, what is resolved, and how it is shown.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use hephaestus::corpus::format::{TokenType, path_of};
use hephaestus::corpus::{Corpus, ManifestInfo, Writer};
use hephaestus::hf;
use hephaestus::model::config::{ModelConfig, Recompute};
use hephaestus::plan::gpus::Card;
use hephaestus::plan::speed::Speed;
use hephaestus::plan::traffic::Traffic;
use hephaestus::plan::{self, Arithmetic, Assumed, Compute, Disk, Gpu, Machine, Plan, Ranks, Weights};
use hephaestus::recipe;
use hephaestus_core::vocabulary::Vocabulary;
use serde_json::{Value, json};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const RECIPE: &str = "\
version: 1
run: {name: demo, output: FOLDER/out}
model:
  from: FOLDER/base
data:
  sequence_length: 8
  sources:
    agent: {path: FOLDER/agent, held_out: 10%}
    code: {path: FOLDER/code, held_out: 10%}
batch: {sequences: 4, micro_sequences: 2}
stages:
  - name: main
    steps: 10
    mixture: {agent: 1, code: 1}
    schedule: {kind: cosine, peak: 3e-4, floor: 3e-5, warmup: 10%}
";

/// Token of the tokenizer below that ends a document.
const END: u32 = 0;

/// A folder with a tiny model, its tokenizer and two corpora made with it: 40 documents of 9 tokens and an end each.
fn world() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    model(&folder, "base", json!({}));
    corpus(&folder, "agent", 40, true);
    corpus(&folder, "code", 40, true);
    folder
}

/// A model of one layer, 16 tokens and 32 positions, with changes; its weights are headers only.
fn model(folder: &TempDir, name: &str, changes: Value) {
    let mut config = json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 16, "hidden_size": 8,
        "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 32,
    });
    for (key, value) in changes.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    write(folder, &format!("{name}/config.json"), &config.to_string());
    write(folder, &format!("{name}/model.safetensors"), "");
    weights(&folder.path().join(name));
    tokenizer(folder, name, 12);
}

/// Gives a folder weights of the shapes that its configuration asks for, if that is a sound one.
fn weights(model: &Path) {
    if let Ok(config) = hf::config::read(model) {
        headers(&model.join("model.safetensors"), "F32", &tensors(&config));
    }
}

/// The names and shapes of a model's parameters.
fn tensors(config: &ModelConfig) -> Vec<(String, Vec<i64>)> {
    hf::names::parameters(config).into_iter().map(|spec| (spec.name, spec.shape)).collect()
}

/// A safetensors file of these tensors, of which the header alone takes room on the disk.
fn headers(path: &Path, dtype: &str, tensors: &[(String, Vec<i64>)]) {
    let (mut header, mut end) = (serde_json::Map::new(), 0);
    for (name, shape) in tensors {
        let begin = end;
        end += shape.iter().product::<i64>() * if dtype == "F32" { 4 } else { 1 };
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}));
    }
    let header = Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    fs_err::write(path, &bytes).unwrap();
    fs_err::OpenOptions::new().write(true).open(path).unwrap().set_len(bytes.len() as u64 + end as u64).unwrap();
}

#[test]
fn weights_are_checked_by_their_headers_before_a_run() {
    let folder = world();
    let weights = folder.path().join("base/model.safetensors");
    let config = hf::config::read(&folder.path().join("base")).unwrap();
    let all = tensors(&config);
    let refused = || resolve(&folder, &[], &cpu()).unwrap_err().to_string();

    headers(&weights, "F32", &all[..all.len() - 1]);
    let said = refused();
    assert!(
        said.contains("lm_head.weight [16, 8] is missing: if the head is the embedding, config.json must"),
        "{said}"
    );
    headers(&weights, "F8_E4M3", &all);
    assert!(refused().contains("lm_head.weight is stored as F8_E4M3: expected BF16, F16 or F32"), "{}", refused());
    headers(&weights, "F32", &all);
    fs_err::OpenOptions::new().write(true).open(&weights).unwrap().set_len(3000).unwrap();
    assert!(refused().contains("it was cut short or not fully copied"), "{}", refused());
    fs_err::write(&weights, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 123\n").unwrap();
    assert!(
        refused().contains("model.safetensors: not a valid safetensors file: it is a git-lfs pointer"),
        "{}",
        refused()
    );

    fs_err::remove_file(&weights).unwrap();
    let shards =
        ["model-00001-of-00003.safetensors", "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    let map: serde_json::Map<_, _> =
        all.iter().enumerate().map(|(at, (name, _))| (name.clone(), json!(shards[at % 3]))).collect();
    write(&folder, "base/model.safetensors.index.json", &json!({"weight_map": map}).to_string());
    headers(&folder.path().join("base").join(shards[1]), "F32", &all[..1]);
    let said = refused();
    for missing in [shards[0], shards[2]] {
        let expected = format!("{missing} is missing, which model.safetensors.index.json names: copy it here");
        assert!(said.contains(&expected), "{said}");
    }
    assert!(!said.contains(shards[1]), "{said}");
}

#[test]
fn a_folder_that_is_no_model_is_told_for_what_it_is() {
    let folder = world();
    let refused = |overrides: &[&str]| resolve(&folder, overrides, &cpu()).unwrap_err().to_string();
    write(&folder, "adapter/adapter_config.json", r#"{"base_model_name_or_path": "org/base"}"#);
    let said = refused(&["model.from=FOLDER/adapter"]);
    assert!(
        said.contains(
            "an adapter (adapter_config.json without config.json), not a model: merge it into its base, org/base"
        ),
        "{said}"
    );
    let listed = ["state.json", "recipe.yaml", "model/config.json", "model/model.safetensors", "optimizer.safetensors"];
    let files: serde_json::Map<_, _> =
        listed.map(|name| (name.to_owned(), json!({"bytes": 0, "sha256": ""}))).into_iter().collect();
    for step in [2, 10] {
        let manifest = json!({"version": 1, "files": files}).to_string();
        write(&folder, &format!("run/step-{step}/manifest.json"), &manifest);
    }
    let said = refused(&["model.from=FOLDER/run"]);
    assert!(said.contains("run: the folder of a run: give one of its checkpoints, of which "), "{said}");
    assert!(said.contains("run/step-10 is the newest"), "{said}");
    fs_err::remove_file(folder.path().join("base/tokenizer.json")).unwrap();
    write(&folder, "base/tokenizer.model", "");
    let said = refused(&[]);
    assert!(
        said.contains("tokenizer.model holds the tokenizer in another format: convert it with transformers"),
        "{said}"
    );
    assert!(!said.contains("hephaestus-forge tokenizer"), "{said}");
}

/// A tokenizer of so many whole words.
fn tokenizer(folder: &TempDir, name: &str, words: usize) {
    let vocabulary: serde_json::Map<String, Value> =
        (0..words).map(|id| (if id == 0 { "<end>".to_owned() } else { format!("w{id}") }, json!(id))).collect();
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "<end>"},
    });
    write(folder, &format!("{name}/tokenizer.json"), &tokenizer.to_string());
    write(folder, &format!("{name}/tokenizer_config.json"), "{\"eos_token\": \"<end>\"}");
}

fn corpus(folder: &TempDir, name: &str, documents: u32, ended: bool) {
    let documents = (0..documents).map(|document| {
        let mut tokens: Vec<u32> = (1..10).map(|word| 1 + (word + document) % 11).collect();
        tokens.extend(ended.then_some(END));
        tokens
    });
    corpus_of(folder, name, documents);
}

fn corpus_of(folder: &TempDir, name: &str, documents: impl Iterator<Item = Vec<u32>>) {
    let vocabulary = Vocabulary::load(&folder.path().join("base")).unwrap();
    let mut writer = Writer::create(&folder.path().join(name), TokenType::U16).unwrap();
    documents.for_each(|tokens| writer.document(&tokens, None).unwrap());
    let info = ManifestInfo {
        source: name.to_owned(),
        tokenizer: vocabulary.fingerprint.clone(),
        vocab_size: vocabulary.size,
        ..ManifestInfo::default()
    };
    writer.finish(info).unwrap();
}

fn write(folder: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs_err::create_dir_all(path.parent().unwrap()).unwrap();
    fs_err::write(&path, text).unwrap();
    path
}

fn gpu(name: &str, memory: u64, capability: (u32, u32)) -> Gpu {
    Gpu { name: name.to_owned(), memory, capability }
}

fn cpu() -> Machine {
    Machine { cuda: Vec::new(), cores: 8, shared: true, memory: 16_000_000_000, ranks: Ranks::default() }
}

fn resolve(folder: &TempDir, overrides: &[&str], machine: &Machine) -> Result<Plan, String> {
    let here = folder.path().display().to_string();
    let overrides: Vec<String> = overrides.iter().map(|text| text.replace("FOLDER", &here)).collect();
    let loaded = recipe::parse(&RECIPE.replace("FOLDER", &here), Path::new("cpt.yaml"), &overrides)
        .unwrap_or_else(|problems| panic!("{problems}"));
    plan::resolve(&loaded, machine).map_err(|error| error.to_string().replace(&here, "FOLDER"))
}

fn sound(folder: &TempDir, overrides: &[&str]) -> Plan {
    resolve(folder, overrides, &cpu()).unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn corpora_of_which_nothing_can_be_predicted_are_refused() {
    let folder = world();
    // One document of two tokens, and that is held out.
    corpus_of(&folder, "ones", (0..40).map(|document| vec![3; if document == 39 { 2 } else { 1 }]));
    let path = ["data.sources={ones: {path: FOLDER/ones, held_out: 2%}}", "stages.0.mixture={ones: 1}"];
    for packing in ["data.packing=split", "data.packing=best_fit"] {
        let asked = [&path[..], &["data.end_of_document=none", packing]].concat();
        let refused = resolve(&folder, &asked, &cpu()).unwrap_err();
        assert!(
            refused.contains(
                "data.sources.ones.path: FOLDER/ones: no document to train on has a token after its first, so there is nothing \
                 to predict: give documents of two tokens or more, or set data.end_of_document to a token to be predicted after \
                 each"
            ),
            "{refused}"
        );
    }
    // With an end token that is predicted after each, they can be trained on.
    assert_eq!(sound(&folder, &path).data.sources[0].rows, 10);
}

#[test]
fn a_source_without_a_row_under_its_max_epochs_is_not_said_to_be_in_no_mixture() {
    let folder = world();
    let plan = sound(&folder, &["data.sources.agent.max_epochs=0.01"]);
    let remark = plan.notes.remarks.iter().find(|remark| remark.starts_with("agent is never trained on")).unwrap();
    let expected =
        "max_epochs 0.01 of its 45 rows is less than one row; raise max_epochs, or leave it out of the mixtures";
    assert!(
        remark.ends_with(expected) && !plan.notes.remarks.iter().any(|remark| remark.contains("no mixture")),
        "{remark}"
    );
}

#[test]
fn a_dry_run_says_what_checkpoints_take_at_once_and_what_is_free() {
    let folder = world();
    fs_err::create_dir_all(folder.path().join("out/step-4")).unwrap();
    let plan = sound(&folder, &["checkpoint={every: 1, keep_every: 2}"]);
    let disk = Disk { free: Some(100_000), ..Disk::of(&plan) };
    let expected = "\
disk          2 more checkpoints at once besides the 1 there, 37.8 kB; 100 kB free
              3 more by the end, as each whose step is a multiple of 2 is kept, 94.6 kB in all
";
    assert_eq!(disk.show(&plan, plan::show::NAMES), expected);
    assert!(disk.check(&plan).is_ok());
    let disk = Disk { free: Some(40_000), ..disk };
    assert!(disk.show(&plan, plan::show::NAMES).ends_with(", which do not fit\n") && disk.check(&plan).is_ok());
    let refused = Disk { free: Some(30_000), ..disk }.check(&plan).unwrap_err().to_string();
    assert_eq!(
        refused.replace(&folder.path().display().to_string(), "FOLDER"),
        "FOLDER/out: 30.0 kB free, and checkpoints need 37.8 kB: 2 more of 18.9 kB at once, as the last 2 are kept \
         (checkpoint.keep_last) while another is written; 1 are there already; make room, lower checkpoint.keep_last, or name \
         another run.output"
    );
}

#[test]
fn what_stands_against_a_plan_is_said_all_at_once_with_line_and_column() {
    let folder = world();
    model(&folder, "gpt", json!({"model_type": "gpt2"}));
    model(&folder, "bare", json!({}));
    fs_err::remove_file(folder.path().join("bare/model.safetensors")).unwrap();
    write(&folder, "pickled/config.json", &fs_err::read_to_string(folder.path().join("base/config.json")).unwrap());
    write(&folder, "pickled/pytorch_model.bin", "");
    model(&folder, "small", json!({"vocab_size": 8}));
    tokenizer(&folder, "other", 13);
    tokenizer(&folder, "noeos", 12);
    fs_err::remove_file(folder.path().join("noeos/tokenizer_config.json")).unwrap();
    corpus(&folder, "open", 40, false);
    corpus(&folder, "short", 40, true);
    let index = fs_err::read(folder.path().join("short.idx")).unwrap();
    fs_err::write(folder.path().join("short.idx"), &index[..100]).unwrap();
    corpus(&folder, "lying", 40, true);
    let mut index = fs_err::read(folder.path().join("lying.idx")).unwrap();
    index[18] = 41;
    fs_err::write(folder.path().join("lying.idx"), index).unwrap();
    write(&folder, "empty/x", "");
    write(&folder, "file", "");

    let mut said = String::new();
    let mut case = |title: &str, overrides: &[&str]| {
        let refused = resolve(&folder, overrides, &cpu()).expect_err(title);
        writeln!(said, "# {title}\n{refused}\n").unwrap();
    };
    case("CUDA asked for and absent", &["device.kind=cuda"]);
    case("an output folder that cannot be", &["run.output=FOLDER/file/out"]);
    case("an output that is a file", &["run.output=FOLDER/file"]);
    case("no such model", &["model.from=FOLDER/none"]);
    case("a folder that is no model", &["model.from=FOLDER/empty"]);
    case("an unknown architecture", &["model.from=FOLDER/gpt"]);
    case("a model without weights", &["model.from=FOLDER/bare"]);
    case("a model with pickled weights only", &["model.from=FOLDER/pickled", "tokenizer=FOLDER/base"]);
    case("a configuration that is not there", &["model.from=", "model.config=FOLDER/c.json", "tokenizer=FOLDER/base"]);
    case("moments of a model that is no checkpoint", &["model.keep_optimizer=true"]);
    case("no tokenizer", &["tokenizer=FOLDER/empty"]);
    case("another tokenizer than the corpora's", &["tokenizer=FOLDER/other"]);
    case("a tokenizer and corpora larger than the model", &["model.from=FOLDER/small"]);
    case("no end of document to be known", &["tokenizer=FOLDER/noeos"]);
    case("an end of document that is no token", &["data.end_of_document=<eot>"]);
    case("corpora that disagree on the end of documents", &["data.sources.code.path=FOLDER/open"]);
    case("a corpus that is not there", &["data.sources.code.path=FOLDER/cod"]);
    case("a corpus with its ending", &["data.sources.code.path=FOLDER/code.bin"]);
    case("an index cut short", &["data.sources.code.path=FOLDER/short"]);
    case("an index that lies", &["data.sources.code.path=FOLDER/lying"]);
    case("rows longer than the model's positions", &["data.sequence_length=64"]);
    case("a stage shorter than a step", &["stages.0.steps=", "stages.0.tokens=31"]);
    case("phases longer than the stage", &["stages.0.schedule.warmup=11"]);
    case(
        "more than all epochs of all sources",
        &["data.sources.agent.max_epochs=1", "data.sources.code.max_epochs=0.5", "stages.0.steps=30"],
    );
    case(
        "several at once",
        &[
            "device.kind=cuda",
            "model.from=FOLDER/gpt",
            "tokenizer=FOLDER/base",
            "data.sources.agent.path=FOLDER/none",
            "stages.0.schedule.warmup=99",
        ],
    );
    insta::assert_snapshot!(said);
}

#[test]
fn a_plan_is_shown_so_that_a_person_can_check_it() {
    let folder = world();
    let plan = sound(
        &folder,
        &[
            "data.sources.agent.max_epochs=2",
            "batch.sequences=6",
            "stages=[{name: main, tokens: 3k, mixture: {agent: 1, code: 1}, schedule: {kind: infinite, peak: 3e-4, constant: 1e-4, warmup: \
             5%, cooldown: 20%}}, {name: seed, steps: 20, mixture: {code: 3, agent: 1}, schedule: {kind: wsd, start: continue, peak: 2e-4, \
             warmup: 2, decay: 50%}}]",
        ],
    );
    let shown = plan::show(&plan).replace(&folder.path().display().to_string(), "FOLDER");
    insta::assert_snapshot!(shown);
}

#[test]
fn corpora_that_end_their_documents_get_no_second_end() {
    let folder = world();
    corpus(&folder, "open", 40, false);
    let ended = sound(&folder, &[]);
    assert_eq!((ended.data.end_of_document, ended.data.sources[0].rows), (None, 45));
    let open = ["data.sources.agent.path=FOLDER/open", "data.sources.code.path=FOLDER/open"];
    let plan = sound(&folder, &open);
    // 36 documents of 9 tokens and an end: as many rows as those that have theirs.
    assert_eq!((plan.data.end_of_document, plan.data.sources[0].rows), (Some(END), 45));
    assert_eq!(sound(&folder, &[open[0], open[1], "data.end_of_document=none"]).data.end_of_document, None);
    assert_eq!(sound(&folder, &[open[0], open[1], "data.end_of_document=w3"]).data.end_of_document, Some(3));
}

#[test]
fn the_memory_estimate_is_the_sum_written_down_for_each_part() {
    let folder = world();
    let plan = sound(&folder, &[]);
    // N = 16 tokens, C 8, F 16, Q and K 8, H 2, L 2, V 16, w 4, 1576 parameters. A layer keeps 4 w C + 8,
    // w (2 Q + 2 K) + 4 H and 3 w F; beside the layers there are 36 + 2 w D bytes a token.
    let (layer, beside) = (4 * 4 * 8 + 8 + 4 * 32 + 8 + 3 * 4 * 16, 36 + 2 * 4 * 4);
    let memory = plan::memory::estimate(&plan);
    assert_eq!((memory.weights, memory.masters, memory.moments), (4 * 1576, 0, 8 * 1576));
    // In the backward pass of the last layer, after an earlier micro-batch: 3 w F and 2 w C are at work.
    assert_eq!((memory.activations, memory.loss), (16 * (2 * layer + beside + 3 * 4 * 16 + 2 * 4 * 8), 0));
    // Of the MLP one matrix has its gradient then.
    assert_eq!(memory.gradients, 4 * 1576 + 4 * 16 * 8);
    let selective = sound(&folder, &["model.activation_checkpointing=selective"]);
    let selective = plan::memory::estimate(&selective);
    assert_eq!(memory.activations - selective.activations, 16 * 2 * (2 * 4 * 8 + 4 * 16));
    // With all rows at once, in the backward pass of the first layer: all other gradients are there.
    let full = ["model.activation_checkpointing=full", "device.precision=bf16", "batch.micro_sequences=4"];
    let full = sound(&folder, &full);
    let memory = plan::memory::estimate(&full);
    let layer = 4 * 2 * 8 + 8 + 2 * 32 + 8 + 3 * 2 * 16;
    let beside = 36 + 2 * 2 * 4 + 3 * 2 * 16 + 2 * 2 * 8;
    assert_eq!((memory.activations, memory.loss), (32 * (layer + beside), 0));
    assert_eq!((memory.masters, plan::memory::checkpoint(&full)), (4 * 1576, 14 * 1576));
    // Moments in bf16 are stored in fp32 like the others.
    let narrow = sound(&folder, &["optimizer.moments=bf16"]);
    let moments = plan::memory::estimate(&narrow).moments;
    assert_eq!((moments, plan::memory::checkpoint(&narrow)), (4 * 1576, 12 * 1576));
}

/// The world with a model of 32 layers and 43 million parameters over rows of up to 8192 tokens.
fn larger_world() -> TempDir {
    let folder = world();
    let size = json!({
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 32, "num_attention_heads": 4,
        "max_position_embeddings": 8192,
    });
    model(&folder, "base", size);
    folder
}

/// The rows at once and, of the layers, how many recompute selectively and fully.
fn chosen(plan: &Plan) -> (u64, usize, usize) {
    let count = |what| plan.model.recompute.iter().filter(|one| **one == what).count();
    (plan.batch.micro_rows, count(Recompute::Selective), count(Recompute::Full))
}

#[test]
fn what_is_left_to_the_planner_is_the_fastest_that_fits() {
    let folder = larger_world();
    let with = |memory: &str, more: &[&str]| {
        let memory = format!("device.memory={memory}");
        let size = ["data.sequence_length=512", "batch={sequences: 12}", "device.precision=bf16", &memory];
        sound(&folder, &[&size[..], more].concat())
    };
    // Fewer rows before anything is recomputed, selective recomputation where it makes room for more, full last of all.
    let mut said = String::new();
    for memory in
        ["4GB", "3GB", "2500MB", "2GB", "1800MB", "1600MB", "1400MB", "1200MB", "1GB", "900MB", "850MB", "825MB"]
    {
        let plan = with(memory, &[]);
        let (rows, selective, full) = chosen(&plan);
        let takes = plan::memory::estimate(&plan).total();
        assert!(takes <= plan.room.budget(), "{memory}: {takes} bytes");
        writeln!(said, "{memory}: {rows} rows, {selective} selective, {full} full").unwrap();
    }
    insta::assert_snapshot!(said);
    // What is given is kept, and the rest follows.
    let fixed = with("1600MB", &["batch.micro_sequences=6"]);
    assert_eq!(fixed.batch.micro_rows, 6);
    assert!(chosen(&fixed).1 + chosen(&fixed).2 > 0, "{:?}", chosen(&fixed));
    let (rows, selective, full) = chosen(&with("1600MB", &["model.activation_checkpointing=none"]));
    assert!((2..6).contains(&rows) && (selective, full) == (0, 0), "{rows} rows");
    // The recipe that a checkpoint records says what was chosen.
    assert!(
        with("2GB", &[]).resolved_recipe().contains(&format!("micro_sequences: {}\n", chosen(&with("2GB", &[])).0))
    );
    // What did not fit when it was tried is followed by what takes a tenth less, down to the last resort.
    let (mut plan, mut tries) = (with("4GB", &[]), 0);
    while let Some(next) = plan::fit::next(&plan) {
        let less = plan.memory_with(&next).total();
        assert!(less < plan::memory::estimate(&plan).total());
        (plan, tries) = (plan.with(next), tries + 1);
    }
    assert!(tries > 5 && plan_fit(&plan) == plan::fit::smallest(&plan), "{tries} tries: {:?}", chosen(&plan));
}

fn plan_fit(plan: &Plan) -> plan::Fit {
    plan::Fit { micro_rows: plan.batch.micro_rows, recompute: plan.model.recompute.clone() }
}

#[test]
fn what_cannot_fit_is_refused_with_what_would() {
    let folder = larger_world();
    let mut said = String::new();
    let mut case = |title: &str, overrides: &[&str]| {
        let long = ["data.sequence_length=4096", "batch.sequences=12", "device.precision=bf16"];
        let refused = resolve(&folder, &[&long[..], overrides].concat(), &cpu()).expect_err(title);
        writeln!(said, "# {title}\n{refused}\n").unwrap();
    };
    let none = "model.activation_checkpointing=none";
    case("a micro-batch too large", &["batch.micro_sequences=12", none]);
    case("a micro-batch too large also with all layers recomputed", &["batch.micro_sequences=12", "device.memory=2GB"]);
    case("layers that keep too much", &["batch.micro_sequences=auto", none, "device.memory=1500MB"]);
    case("a model too large", &["batch.micro_sequences=auto", "device.memory=300MiB"]);
    case("no memory", &["device.memory=1"]);
    insta::assert_snapshot!(said);
}

#[test]
fn no_source_is_repeated_beyond_its_epochs_over_the_whole_run() {
    let folder = world();
    let stage = |name: &str| {
        format!("{{name: {name}, steps: 20, mixture: {{agent: 3, code: 1}}, schedule: {{kind: constant, peak: 1e-4}}}}")
    };
    let stages = format!("stages=[{}, {}]", stage("one"), stage("two"));
    let plan = sound(&folder, &[&stages, "data.sources.agent.max_epochs=2"]);
    // 45 rows an epoch, so 90 in all: 60 of the first stage's 80, and the 30 that are left of the second's.
    assert_eq!((&plan.stages[0].mixture, &plan.stages[1].mixture), (&vec![0.75, 0.25], &vec![0.375, 0.625]));
    assert_eq!(plan.notes.capped, [[false, false], [true, false]]);
    assert_eq!(plan.notes.asked[1], [0.75, 0.25]);
}

#[test]
fn a_stage_continues_with_the_rate_at_which_the_one_before_ended() {
    let folder = world();
    let stages = "stages=[{name: one, steps: 20, mixture: {agent: 1}, schedule: {kind: linear, peak: 1e-3, floor: 2e-4}}, {name: two, \
                  tokens: 300, mixture: {code: 1}, schedule: {kind: constant, start: continue, peak: 1e-3, warmup: 64 tokens}}]";
    let plan = sound(&folder, &[stages]);
    let [_, two] = plan.stages.as_slice() else { panic!("two stages") };
    assert_eq!((two.steps, two.schedule.settings().warmup), (10, 2));
    assert!((two.schedule.settings().start - 2e-4).abs() < 1e-12);
    assert_eq!((plan.steps(), plan.tokens_a_step()), (30, 32));
}

#[test]
fn a_checkpoint_gives_its_model_folder_and_where_asked_its_moments() {
    let folder = world();
    model(&folder, "step/model", json!({}));
    let at = folder.path().join("step");
    assert_eq!(sound(&folder, &["model.from=FOLDER/step"]).model.weights, Weights::Folder(at.join("model")));
    assert_eq!(sound(&folder, &["model.from=FOLDER/step"]).tokenizer, at.join("model"));
    write(&folder, "step/optimizer.safetensors", "");
    let kept = sound(&folder, &["model.from=FOLDER/step", "model.keep_optimizer=true"]);
    assert_eq!(kept.model.weights, Weights::WithOptimizer(at));
    let fresh = sound(&folder, &["model.from=", "model.config=FOLDER/base/config.json", "tokenizer=FOLDER/base"]);
    assert_eq!(fresh.model.weights, Weights::Fresh);
}

#[test]
fn the_device_is_cuda_where_there_is_one_and_the_resolved_recipe_loads_again() {
    let folder = world();
    let machine = Machine { cuda: vec![gpu("NVIDIA H100 80GB HBM3", 85_000_000_000, (9, 0))], ..cpu() };
    let plan = resolve(&folder, &[], &machine).unwrap();
    assert_eq!((plan.device.compute, plan.notes.device.as_str()), (Compute::Cuda(0), "NVIDIA H100 80GB HBM3, 85.0 GB"));
    assert_eq!(resolve(&folder, &["device.kind=cpu"], &machine).unwrap().device.compute, Compute::Cpu);
    let again = recipe::parse(&plan.resolved_recipe(), Path::new("resolved.yaml"), &[]).unwrap();
    assert_eq!(again.recipe.tokenizer, Some(folder.path().join("base")));
    assert_eq!(plan::resolve(&again, &machine).unwrap().resolved_recipe(), plan.resolved_recipe());
    assert!(!folder.path().join("out").exists());
}

#[test]
fn fp8_is_refused_where_no_tensor_core_has_it_and_emulated_on_the_cpu() {
    let folder = world();
    let with = |name, capability| Machine { cuda: vec![gpu(name, 85_000_000_000, capability)], ..cpu() };
    let fp8 = ["device.precision=fp8"];
    let refused = resolve(&folder, &fp8, &with("NVIDIA A100-SXM4-80GB", (8, 0))).unwrap_err();
    insta::assert_snapshot!(refused);
    let plan = resolve(&folder, &fp8, &with("NVIDIA H100 80GB HBM3", (9, 0))).unwrap();
    assert_eq!(plan.device.arithmetic, Arithmetic::Fp8);
    assert!(!plan.notes.remarks.iter().any(|remark| remark.contains("FP8")), "{:?}", plan.notes.remarks);
    let recorded = ["device.cuda_graphs=true", "device.precision=fp32"];
    let refused = resolve(&folder, &recorded, &with("NVIDIA H100 80GB HBM3", (9, 0))).unwrap_err();
    assert!(refused.contains("device.cuda_graphs") && refused.contains("use bf16 or fp8"), "{refused}");
    let emulated = sound(&folder, &fp8);
    assert!(emulated.notes.remarks.iter().any(|remark| remark.contains("emulated")), "{:?}", emulated.notes.remarks);
}

/// A corpus of 20 documents of 2^31 - 1 tokens each that takes no place on the disk: every token is 0.
fn sparse(prefix: &Path) {
    let (documents, length) = (20_i64, i32::MAX);
    let mut index = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x08".to_vec();
    [documents, documents + 1].iter().for_each(|count| index.extend(count.to_le_bytes()));
    (0..documents).for_each(|_| index.extend(length.to_le_bytes()));
    (0..documents).for_each(|at| index.extend((at * 2 * i64::from(length)).to_le_bytes()));
    (0..=documents).for_each(|at| index.extend(at.to_le_bytes()));
    fs_err::write(path_of(prefix, "idx"), index).unwrap();
    let tokens = fs_err::File::create(path_of(prefix, "bin")).unwrap();
    tokens.set_len(documents as u64 * 2 * length as u64).unwrap();
}

#[test]
fn every_shipped_recipe_is_planned_with_its_models_configuration() {
    let folder = world();
    let configs = Path::new(ROOT).join("tests/fixtures/configs");
    let corpus = folder.path().join("sparse");
    sparse(&corpus);
    assert!(Corpus::open(&corpus).unwrap().tokens() > 40_000_000_000);
    let machine = Machine { cuda: vec![gpu("NVIDIA B200", 192_000_000_000, (10, 0))], ..cpu() };
    let mut planned = 0;
    for path in crate::recipes() {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let config = fs_err::read_dir(&configs)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|config| name.contains(config.file_stem().unwrap().to_str().unwrap().trim_end_matches("-v0.3")))
            .unwrap_or_else(|| configs.join("qwen3-0.6b.json"));
        fs_err::copy(config, folder.path().join("base/config.json")).unwrap();
        weights(&folder.path().join("base"));
        let recipe = recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{error}")).recipe;
        let here = folder.path().display();
        let mut overrides =
            vec![format!("model.from={here}/base"), format!("run.output={here}/out"), "model.config=".to_owned()];
        overrides.extend(recipe.tokenizer.map(|_| format!("tokenizer={here}/base")));
        overrides.extend(recipe.data.sources.keys().map(|name| format!("data.sources.{name}.path={here}/sparse")));
        let loaded = recipe::load(&path, &overrides).unwrap_or_else(|error| panic!("{error}"));
        let plan = plan::resolve(&loaded, &machine).unwrap_or_else(|error| panic!("{error}"));
        let shown = plan::show(&plan);
        assert!(shown.contains(name) && plan.steps() > 0, "{shown}");
        if std::env::var_os("SHOW_PLANS").is_some() {
            fs_err::write(std::env::temp_dir().join(format!("{name}.plan.txt")), &shown).unwrap();
        }
        planned += 1;
    }
    assert!(planned >= 3);
}

/// Llama-3-8B by the shipped recipe, on ranks of such GPUs in machines of 8.
fn llama(folder: &TempDir, gpu: &str, world: usize, more: &[&str]) -> Result<Plan, String> {
    let config = Path::new(ROOT).join("tests/fixtures/configs/llama3-8b.json");
    fs_err::copy(config, folder.path().join("base/config.json")).unwrap();
    weights(&folder.path().join("base"));
    sparse(&folder.path().join("sparse"));
    let here = folder.path().display();
    let path = Path::new(ROOT).join("recipes/hephaestus-llama3-8b.yaml");
    let mut overrides = vec![format!("model.from={here}/base"), format!("run.output={here}/out")];
    let sources = recipe::load(&path, &[]).unwrap().recipe.data.sources;
    overrides.extend(sources.keys().map(|name| format!("data.sources.{name}.path={here}/sparse")));
    overrides.extend(more.iter().map(|text| (*text).to_owned()));
    let loaded = recipe::load(&path, &overrides).unwrap_or_else(|error| panic!("{error}"));
    let cuda = vec![Card::named(gpu).unwrap().gpu(); 8];
    let refused = plan::resolve(&loaded, &Machine { cuda, ranks: Ranks::of(world, 8), ..cpu() });
    refused.map_err(|error| error.to_string().replace(&format!("{ROOT}/"), "").replace(&here.to_string(), "FOLDER"))
}

/// What is known of machines with H100s, at an MFU of 0.4.
const H100S: Assumed = Assumed { peak: 989.5e12, mfu: 0.4, node_gpus: 8, node_link: 450e9, network: 50e9 };

#[test]
fn many_ranks_are_planned_with_what_each_holds_and_sends_and_how_long_it_takes() {
    let folder = world();
    for (name, ranks, more) in [
        ("one_node", 8, vec![]),
        ("one_node_sharded", 8, vec!["distributed.mode=fsdp"]),
        ("sixteen_nodes", 128, vec!["distributed.mode=fsdp", "distributed.shard_ranks=8", "distributed.reduce=bf16"]),
    ] {
        let plan = llama(&folder, "h100-80g", ranks, &more).unwrap_or_else(|problems| panic!("{problems}"));
        let shown = plan::show_expecting(&plan, &H100S).replace(&folder.path().display().to_string(), "FOLDER");
        insta::assert_snapshot!(name, shown);
    }
}

#[test]
fn a_step_takes_its_arithmetic_and_what_of_communication_that_does_not_hide() {
    let folder = world();
    let close =
        |found: f64, expected: f64| assert!((found / expected - 1.0).abs() < 1e-3, "{found}, expected {expected}");
    // 64 rows a rank of 8192 tokens; a token is 57.9 GFLOP, as the test of MFU has it.
    let arithmetic = 64.0 * 8192.0 * 57_914_449_920.0 / (0.4 * 989.5e12);
    for (mode, moved) in [("ddp", 1.0), ("zero1", 0.75), ("fsdp", 0.0)] {
        let more =
            [&format!("distributed.mode={mode}"), "model.activation_checkpointing=none", "optimizer.moments=bf16"];
        let plan = llama(&folder, "b200-180g", 8, &more).unwrap_or_else(|problems| panic!("{problems}"));
        let usual = Speed::of(&plan, &H100S);
        close(usual.compute, arithmetic);
        assert!(usual.exposed < 0.01 * usual.compute, "{mode}: {usual:?}");
        // All of it is sent; as much of it is hidden as there is to hide behind.
        let slow = Assumed { node_link: 1e8, ..H100S };
        let Speed { compute, hidden, exposed } = Speed::of(&plan, &slow);
        let traffic = Traffic::of(&plan);
        close(hidden + exposed, traffic.total() as f64 / 1e8);
        let micro = compute / plan.micro_batches() as f64;
        let behind = match mode {
            "ddp" => micro * 2.0 / 3.0,
            "zero1" => micro,
            _ => compute,
        };
        close(hidden, behind);
        let bytes = 8_030_261_248.0 * 7.0 / 8.0;
        match mode {
            "fsdp" => assert!(traffic.total() as f64 > plan.micro_batches() as f64 * bytes * 7.0),
            _ => close(traffic.total() as f64, bytes * 8.0 * moved),
        }
    }
    let alone = llama(&folder, "b200-180g", 1, &["optimizer.moments=bf16"]).unwrap();
    let Speed { hidden, exposed, .. } = Speed::of(&alone, &H100S);
    assert_eq!((hidden, exposed), (0.0, 0.0));
}

/// The demo recipe in bf16 by so many ranks on one machine.
fn shared(folder: &TempDir, world: usize, more: &[&str]) -> Plan {
    let machine = Machine { ranks: Ranks::of(world, 8), ..cpu() };
    resolve(folder, &[&["device.precision=bf16"], more].concat(), &machine)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

#[test]
fn what_a_rank_holds_is_the_sum_written_down_for_each_mode() {
    let folder = world();
    let of = |mode: &str, rows: u64, more: &[&str]| {
        let (mode, rows) =
            (format!("distributed.mode={mode}"), format!("batch={{sequences: {rows}, micro_sequences: 1}}"));
        let plan = shared(
            &folder,
            3,
            &[&[mode.as_str(), rows.as_str(), "model.activation_checkpointing=none"], more].concat(),
        );
        plan::memory::estimate(&plan)
    };
    // Tensors begin at multiples of 64 elements: 128 in the embedding, 768 in each of 2 layers (of 656), 192 in norm and head (of
    // 136). Layers and head are one unit but in fsdp. Filled up to be shared by 3 the embedding has 192; 1920 in all, 640 a rank.
    // N = 8 tokens; a layer keeps 1920 bytes, and 1024 are at work in its MLP; an input and its gradient are 256.
    let beside = 8 * (36 + 2 * 2 * 4);
    // Two micro-batches: in the last layer's MLP one of its matrices has its gradient, and norm and head, beside all sums.
    let ddp = of("ddp", 6, &[]);
    assert_eq!((ddp.weights, ddp.masters, ddp.moments, ddp.gathered), (2 * 1856, 4 * 1856, 8 * 1856, 0));
    assert_eq!((ddp.gradients, ddp.activations), (4 * 1856 + 2 * (136 + 8 * 16), 2 * 1920 + 1024 + beside));
    // Gloo's copy of the larger unit is still there when the embedding has its gradient; the part that comes of it lies in the sums.
    let zero1 = of("zero1", 6, &[]);
    assert_eq!((zero1.weights, zero1.masters, zero1.moments, zero1.gathered), (2 * 1920, 4 * 640, 8 * 640, 0));
    assert_eq!((zero1.gradients, zero1.activations), (4 * 1920 + 4 * 1728 + 2 * 128, 256 + beside));
    // Where sums go into bf16 for the others, the unit is there in it, twice while Gloo copies it.
    let narrow = of("zero1", 6, &["distributed.reduce=bf16"]);
    assert_eq!(narrow.gradients, 4 * 1920 + 2 * 2 * 1728 + 2 * 1728 / 3);
    // Sharded weights: sums are a rank's part. The last layer goes to the others in fp32, the one before is there.
    let fsdp = of("fsdp", 6, &[]);
    assert_eq!((fsdp.weights, fsdp.masters, fsdp.moments, fsdp.gathered), (2 * 640, 4 * 640, 8 * 640, 2 * 768));
    assert_eq!((fsdp.gradients, fsdp.activations), (4 * 640 + 2 * 4 * 768 + 4 * 768 / 3, 1920 + 256 + beside));
    // One micro-batch: no sums, but the parts of what is reduced already stay.
    assert_eq!(of("zero1", 3, &[]).gradients, 2 * 4 * 1728 + 4 * 1728 / 3);
    assert_eq!(of("fsdp", 3, &[]).gradients, 2 * 4 * 768 + 4 * (192 + 768) / 3);
    // Where nothing is sharded, what is sent is what stays.
    assert_eq!(of("ddp", 3, &[]).gradients, 2 * (136 + 2 * 656) + 4 * 1728);
    // In fp32 the weights are the masters.
    let wide = of("zero1", 6, &["device.precision=fp32"]);
    assert_eq!((wide.weights, wide.masters, wide.moments), (4 * 1920, 0, 8 * 640));
    // A checkpoint is the same of however many.
    let (one, three) = (sound(&folder, &["device.precision=bf16"]), shared(&folder, 3, &["batch.sequences=6"]));
    assert_eq!(plan::memory::checkpoint(&one), plan::memory::checkpoint(&three));
}

#[test]
fn what_a_rank_sends_follows_from_the_plan() {
    let folder = world();
    let fsdp = shared(&folder, 2, &["distributed.mode=fsdp", "batch={sequences: 6, micro_sequences: 1}"]);
    assert_eq!((fsdp.rows_a_rank(), fsdp.micro_batches()), (3, 3));
    // 3 micro-batches gather 128 elements of the embedding, 768 of each layer, of the first one twice, and 256 of norm and head,
    // 2 bytes each; and scatter as many of 4 bytes once.
    let (gathered, scattered) = (128 + 3 * 768 + 256, 128 + 2 * 768 + 256);
    let expected = Traffic { all_gather: 3 * 2 * gathered / 2, reduce_scatter: 3 * 4 * scattered / 2, all_reduce: 0 };
    assert_eq!(Traffic::of(&fsdp), expected);
    let ddp = shared(&folder, 2, &["distributed.mode=ddp"]);
    assert_eq!(Traffic::of(&ddp), Traffic { all_reduce: 4 * (128 + 1728), ..Traffic::default() });
    assert_eq!(Traffic::of(&sound(&folder, &[])), Traffic::default());
}

#[test]
fn whether_a_folder_can_be_written_to_is_tried_under_a_name_that_no_other_pod_has() {
    let folder = world();
    // Of a process that has the same number there.
    write(&folder, &format!("out/.hephaestus-{}.tmp", std::process::id()), "");
    sound(&folder, &["run.output=FOLDER/out"]);
    assert_eq!(fs_err::read_dir(folder.path().join("out")).unwrap().count(), 1);
}

#[test]
fn ranks_share_the_memory_and_the_cores_of_a_machine() {
    let folder = world();
    let plan = shared(&folder, 4, &["batch={sequences: 12}"]);
    assert_eq!((plan.room.memory, plan.device.threads), (2_000_000_000, Some(2)));
    // Rows at once are a divisor of the three rows of each.
    assert_eq!((plan.batch.micro_rows, plan.micro_batches()), (3, 1));
    assert_eq!(plan.distributed.timeout.as_secs(), 600);
    let told = ["batch.sequences=8", "device.threads=5", "device.memory=3GB", "distributed.timeout=90s"];
    let told = shared(&folder, 4, &told);
    assert_eq!(
        (told.room.memory, told.device.threads, told.distributed.timeout.as_secs()),
        (3_000_000_000, Some(5), 90)
    );
    let many = Machine { ranks: Ranks { world: 64, local_world: 64, local_rank: 3 }, ..cpu() };
    assert_eq!(resolve(&folder, &["batch.sequences=128"], &many).unwrap().device.threads, Some(1));
    let cuda = vec![gpu("NVIDIA H100 80GB HBM3", 85_000_000_000, (9, 0)); 4];
    let third = Machine { cuda, ranks: Ranks { world: 4, local_world: 4, local_rank: 2 }, ..cpu() };
    let plan = resolve(&folder, &["batch.sequences=8"], &third).unwrap();
    assert_eq!((plan.device.compute, plan.room.memory), (Compute::Cuda(2), 85_000_000_000));
    assert_eq!(sound(&folder, &[]).device.threads, None);
    // Bound to cores of its own, or told how many threads.
    let own = Machine { shared: false, ranks: Ranks::of(4, 4), ..cpu() };
    assert_eq!(resolve(&folder, &["batch.sequences=8"], &own).unwrap().device.threads, None);
}

#[test]
fn the_mode_left_to_the_planner_shards_weights_where_fewer_layers_are_recomputed_for_it() {
    let folder = larger_world();
    let with = |memory: &str, more: &[&str]| {
        let memory = format!("device.memory={memory}");
        let size = ["data.sequence_length=512", "batch={sequences: 32}", &memory];
        let plan = shared(&folder, 8, &[&size[..], more].concat());
        let (takes, budget) = (plan::memory::estimate(&plan).total(), plan.room.budget());
        assert!(takes <= budget, "{memory:?}: {takes} bytes, {budget} in the budget");
        (
            plan.distributed.shard,
            plan.distributed.fully,
            plan.notes.remarks.iter().any(|said| said.contains("zero1 would fit too")),
        )
    };
    assert_eq!(with("4GB", &[]), (8, false, false));
    assert_eq!(with("400MB", &[]), (8, true, true));
    assert_eq!(with("400MB", &["model.activation_checkpointing=full"]), (8, false, false));
    assert_eq!(with("220MB", &[]), (8, true, false));
    assert_eq!(with("4GB", &["distributed.mode=fsdp", "distributed.shard_ranks=2"]), (2, true, false));
    assert_eq!(with("4GB", &["distributed.mode=ddp"]), (1, false, false));
    // A group of one has nobody to gather from.
    assert_eq!(with("4GB", &["distributed.mode=fsdp", "distributed.shard_ranks=1"]), (1, false, false));
    // One process alone pays it no heed.
    let alone = sound(&folder, &["distributed={mode: fsdp, shard_ranks: 8}", "device.precision=bf16"]);
    assert_eq!(alone.distributed, plan::DistributedPlan::ALONE);
}

#[test]
fn what_ranks_cannot_share_is_refused_with_what_they_can() {
    let folder = world();
    let mut said = String::new();
    let mut tell = |title: &str, refused: Result<Plan, String>| {
        writeln!(said, "# {title}\n{}\n", refused.expect_err(title)).unwrap();
    };
    let cpus = |world: usize, overrides: &[&str]| {
        let machine = Machine { ranks: Ranks::of(world, 8), ..cpu() };
        resolve(&folder, overrides, &machine)
    };
    tell("a batch that does not come out even", cpus(3, &["batch={sequences: 16}"]));
    tell("a batch smaller than the ranks are many", cpus(8, &["batch={sequences: 4, micro_sequences: 2}"]));
    tell("a batch in tokens", cpus(3, &["batch={tokens: 128, micro_sequences: 2}"]));
    tell("a micro-batch that does not divide a rank's rows", cpus(2, &["batch={sequences: 12, micro_sequences: 4}"]));
    tell("shards that do not come out even", cpus(8, &["batch={sequences: 8}", "distributed.shard_ranks=3"]));
    tell("more shards than ranks", cpus(4, &["batch={sequences: 8}", "distributed.shard_ranks=8"]));
    let gpus = |count: usize, world: usize, overrides: &[&str]| {
        let cuda = vec![gpu("NVIDIA H100 80GB HBM3", 85_000_000_000, (9, 0)); count];
        let machine = Machine { cuda, ranks: Ranks::of(world, 8), ..cpu() };
        resolve(&folder, &[&["batch={sequences: 8}"], overrides].concat(), &machine)
    };
    tell("more ranks than GPUs", gpus(2, 4, &[]));
    tell("recordings of weights that come and go", gpus(4, 4, &["device.cuda_graphs=true", "distributed.mode=fsdp"]));
    tell("8B parameters on one H100", llama(&folder, "h100-80g", 1, &[]));
    tell("8B parameters whole on each of 8", llama(&folder, "h100-80g", 8, &["distributed.mode=ddp"]));
    tell("its optimizer sharded over 8 of 40 GB", llama(&folder, "a100-40g", 8, &["distributed.mode=zero1"]));
    tell("everything sharded over 8 of 24 GB", llama(&folder, "rtx4090-24g", 8, &[]));
    let none = ["distributed.mode=fsdp", "model.activation_checkpointing=none", "batch.micro_sequences=8"];
    tell("activations that are too many", llama(&folder, "h100-80g", 8, &none));
    insta::assert_snapshot!(said);
}

#[test]
fn a_dry_run_plans_for_ranks_and_gpus_that_are_not_here() {
    let folder = world();
    write(&folder, "cpt.yaml", &RECIPE.replace("FOLDER", &folder.path().display().to_string()));
    let run = |arguments: &[&str]| {
        let mut command = assert_cmd::Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-train")));
        let output =
            command.current_dir(folder.path()).args(["--recipe", "cpt.yaml"]).args(arguments).output().unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.success(), said.concat())
    };
    let many = ["--dry-run", "--world", "16", "--gpu", "h100-80g", "--set", "batch.sequences=64"];
    let (done, shown) = run(&many);
    assert!(done && shown.contains("16 in 2 machines of 8") && shown.contains("an MFU of 0.4"), "{shown}");
    let others = ["--node-gpus", "4", "--mfu", "0.5", "--node-link", "300", "--network", "12.5"];
    let (done, shown) = run(&[&many[..], &others].concat());
    assert!(done && shown.contains("16 in 4 machines of 4") && shown.contains("an MFU of 0.5"), "{shown}");
    assert!(shown.contains("300 GB/s between GPUs of a machine, 12.5 GB/s a GPU between machines"), "{shown}");
    let (done, shown) = run(&["--dry-run", "--world", "4", "--set", "batch.sequences=8", "--set", "device.kind=cpu"]);
    assert!(done && shown.contains("2 rows a rank, computed at once") && !shown.contains("expected"), "{shown}");
    assert!(shown.contains("4 in one machine"), "{shown}");
    let refused = [
        (vec!["--dry-run", "--gpu", "h100"], "did you mean h100-80g? known are a10-24g, a100-40g"),
        (vec!["--world", "8"], "--dry-run"),
        (vec!["--dry-run", "--world", "0"], "expected 1 or more"),
        (vec!["--dry-run", "--mfu", "40"], "such as 0.4"),
        (vec!["--dry-run", "--network", "inf"], "expected GB/s"),
        (vec!["--dry-run", "--world", "3", "--gpu", "h100-80g"], "which 3 ranks cannot share evenly"),
    ];
    for (arguments, why) in refused {
        let (done, said) = run(&arguments);
        assert!(!done && said.contains(why), "{arguments:?}: {said}");
    }
}
