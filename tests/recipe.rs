//! Recipes: what is refused, in which words and where, and that what is accepted survives being written.

use std::fmt::Write as _;
use std::path::Path;

use hephaestus::recipe;
use hephaestus::recipe::quantity::{Count, Interval, Part};
use proptest::prelude::*;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

const SOUND: &str = "\
version: 1
run:
  name: demo
model:
  from: base
data:
  sequence_length: 512
  sources:
    code: {path: corpus/code}
    agent:
      path: corpus/agent
      held_out: 2%
batch: {tokens: 8192, micro_sequences: 4}
stages:
  - name: main
    tokens: 4M
    mixture: {code: 1, agent: 1.5}
    schedule: {kind: cosine, peak: 3e-4, floor: 3e-5, warmup: 1%}
";

fn refused(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    match recipe::parse(text, Path::new("cpt.yaml"), &overrides) {
        Ok(_) => panic!("accepted with {overrides:?}:\n{text}"),
        Err(problems) => problems.to_string(),
    }
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_all_at_once_with_line_and_column() {
    let mut said = String::new();
    let mut case = |title: &str, text: &str, overrides: &[&str]| {
        writeln!(said, "# {title}\n{}\n", refused(text, overrides)).unwrap();
    };
    let change = |from: &str, to: &str| {
        assert!(SOUND.contains(from), "{from}");
        SOUND.replace(from, to)
    };
    case("an empty file", "", &[]);
    case("comments alone", "# soon\n", &[]);
    case("a list", "- 1\n", &[]);
    case("YAML cut short", "run: {name: demo\n", &[]);
    case("a bad indent", "run:\n  name: demo\n seed: 1\n", &[]);
    case("a tab", "run:\n\tname: demo\n", &[]);
    case("two documents", &format!("{SOUND}---\nversion: 1\n"), &[]);
    case("another version", &change("version: 1", "version: 2"), &[]);
    case("nothing but a version", "version: 1\n", &[]);
    case(
        "keys that are misspelled, twice there, or elsewhere",
        &change(
            "  sequence_length: 512",
            "  sequence_lenght: 512\n  micro_sequences: 4\n  colour: red\n  packing: split\n  packing: split",
        ),
        &[],
    );
    case(
        "anchors, aliases, merge keys and tags",
        &change("model:\n  from: base", "model: &m\n  <<: *m\n  from: !path base\ntokenizer: *m"),
        &[],
    );
    case(
        "values of the wrong type, everywhere at once",
        "version: 1\nrun: demo\nmodel:\n  from: [a, b]\n  keep_optimizer: yes\ndata:\n  sequence_length: 4k5\n  packing: bestfit\n  \
         document_mask: 1\n  sources:\n    code: {path: c, held_out: 200%, max_epochs: 0}\n    text:\nbatch: {sequences: -8, \
         micro_sequences: 1.5}\nstages:\n  name: main\noptimizer: {beta1: 1, beta2: .nan, eps: 0, weight_decay: -0.1, \
         clip_norm: inf, max_skipped: many}\ncheckpoint: {every: 5 weeks, keep_last: 0}\nvalidation: {every: 1.5}\nlogging: \
         {every: 0}\ndevice: {kind: gpu, precision: fp16, threads: 4294967296}\n",
        &[],
    );
    case(
        "one of two keys, and not both",
        &change("from: base", "from: base\n  config: c.json")
            .replace("    tokens: 4M\n", "")
            .replace("tokens: 8192", "micro_sequence: 1"),
        &[],
    );
    case(
        "numbers in quotes, and truth values of other languages",
        &change("peak: 3e-4", "peak: \"3e-4\"").replace("  from: base", "  from: base\n  keep_optimizer: \"true\""),
        &["logging.tensorboard=True", "data.document_mask=off", "validation.at_start=maybe"],
    );
    case(
        "paths that are none",
        &change("run:\n", "tokenizer: \"\"\nrun:\n  output: s3://bucket/run\n").replace("corpus/code", "~ada/code"),
        &["data.sources.agent.path=$HEPHAESTUS_NOT_SET/agent", "model.from=hf://org/model"],
    );
    case("neither", &change("from: base", "keep_optimizer: true"), &[]);
    case("a mixture naming no source", &change("agent: 1.5", "agnet: 1.5, books: 1"), &[]);
    case("weights below 0", &change("{code: 1, agent: 1.5}", "{code: -1, agent: 0}"), &[]);
    case("tokens that are no whole rows", &change("tokens: 8192", "tokens: 10k"), &[]);
    case("a micro-batch that does not divide", &change("micro_sequences: 4", "micro_sequences: 5"), &[]);
    case(
        "schedules with keys of other kinds",
        &change("kind: cosine", "kind: wsd, constant: 1e-4, start: continue").replace("floor: 3e-5", "floor: 3e-3"),
        &[],
    );
    case(
        "names that make no folder, and the same twice",
        &format!(
            "{}  - {{name: main, steps: 0, mixture: {{}}, schedule: {{kind: constant, peak: 0.1, floor: 0.1}}}}\n",
            change("name: demo", "name: ../demo").replace("    code: {path", "    co.de: {path")
        ),
        &[],
    );
    case(
        "overrides",
        SOUND,
        &[
            "data.sequence_lenght=4096",
            "batch.micro_sequences=0.5",
            "stages.1.steps=10",
            "stages.0.schedule.kind=cosin",
            "run.name.first=x",
            "optimizer.beta1=2",
            "data.packing",
            "a..b=1",
            "logging={every: 1",
        ],
    );
    case("shards where nothing is sharded", SOUND, &["distributed={mode: ddp, shard_ranks: 2}"]);
    case("times that are none", SOUND, &["distributed.timeout=10", "logging.every=1m", "checkpoint.every=0s"]);
    case("a time without length", SOUND, &["distributed={timeout: 0m, mode: zero}"]);
    case("an override that breaks a rule", SOUND, &["batch.tokens=1000"]);
    let missing = recipe::load(Path::new("no/such.yaml"), &[]).unwrap_err();
    writeln!(said, "# a missing file\n{missing}").unwrap();
    insta::assert_snapshot!(said);
}

#[test]
fn overrides_reach_any_key_also_in_sections_that_are_not_written() {
    let overrides = [
        "data.sequence_length=1k",
        "batch.tokens=16k",
        "stages.0.steps=10",
        "stages.0.tokens=",
        "optimizer.beta1=0.8",
        "stages.0.mixture={code: 1}",
        "run.name=8e3",
        "checkpoint.every=30m",
    ]
    .map(str::to_owned);
    let loaded = recipe::parse(SOUND, Path::new("cpt.yaml"), &overrides).unwrap();
    let recipe = loaded.recipe;
    assert_eq!((recipe.data.sequence_length, recipe.batch.tokens), (Count(1000), Some(Count(16_000))));
    assert_eq!((recipe.stages[0].steps, recipe.stages[0].tokens), (Some(Count(10)), None));
    assert_eq!((recipe.optimizer.beta1, recipe.optimizer.beta2), (0.8, 0.95));
    assert_eq!((recipe.stages[0].mixture.len(), recipe.run.name.as_str()), (1, "8e3"));
    assert_eq!(recipe.checkpoint.every, Interval::Time(std::time::Duration::from_secs(1800)));
    let shown = loaded.positions.show(loaded.positions.place("optimizer.beta1"));
    assert_eq!(shown, "--set optimizer.beta1=0.8");
    assert_eq!(loaded.positions.show(loaded.positions.place("data.sources.agent.held_out")), "cpt.yaml:12:17");
    assert_eq!(loaded.positions.show(loaded.positions.place("data.sources.agent.max_epochs")), "cpt.yaml:10:5");
}

#[test]
fn a_recipe_written_with_its_defaults_loads_as_the_same_recipe() {
    let mut texts = vec![
        SOUND.to_owned(),
        SOUND.replace("kind: cosine", "kind: infinite, decay: 3%, cooldown: 1M tokens, constant: 1e-4"),
    ];
    texts.extend(crate::recipes().into_iter().map(|path| fs_err::read_to_string(path).unwrap()));
    for text in texts {
        let recipe =
            recipe::parse(&text, Path::new("cpt.yaml"), &[]).unwrap_or_else(|problems| panic!("{problems}")).recipe;
        let written = recipe::to_yaml(&recipe);
        assert!(written.contains("max_skipped: 5") && written.contains("beta1:"), "{written}");
        let again = recipe::parse(&written, Path::new("again.yaml"), &[])
            .unwrap_or_else(|problems| panic!("{problems}\n{written}"));
        assert_eq!(again.recipe, recipe);
        assert_eq!(recipe::to_yaml(&again.recipe), written);
    }
}

#[test]
fn scalars_mean_what_their_key_says() {
    let text = SOUND
        .replace("name: demo", "name: no")
        .replace("warmup: 1%", "warmup: 50M tokens")
        .replace("path: corpus/agent", "path: 7");
    let recipe = recipe::parse(&text, Path::new("cpt.yaml"), &[]).unwrap().recipe;
    assert_eq!((recipe.run.name.as_str(), recipe.stages[0].schedule.warmup), ("no", Part::Tokens(50_000_000)));
    assert_eq!(recipe.data.sources["agent"].path, Path::new("7"));
}

proptest! {
    #[test]
    fn quantities_are_written_so_that_they_read_the_same(
        percent in 0_u32..=1_000_000,
        count in 2_u64..1 << 50,
        seconds in 1_u64..1 << 30,
        held_out in 0.0..0.99,
    ) {
        let overrides = [
            format!("stages.0.schedule.warmup={}%", f64::from(percent) / 1e4),
            format!("stages.0.tokens={count}"),
            format!("checkpoint.every={seconds}s"),
            format!("distributed.timeout={seconds}s"),
            format!("data.sources.code.held_out={held_out}"),
        ];
        let recipe = recipe::parse(SOUND, Path::new("cpt.yaml"), &overrides).unwrap().recipe;
        let again = recipe::parse(&recipe::to_yaml(&recipe), Path::new("again.yaml"), &[]).unwrap().recipe;
        prop_assert_eq!(again, recipe);
    }

    #[test]
    fn no_text_and_no_override_makes_a_panic(
        cut in 0..SOUND.len(),
        skip in 0_usize..6,
        insert in "[-:&*!<?>{}\\[\\],#'\"|%@` \n\ta0.]{0,4}",
        override_ in "(data|stages|run)(\\.[a-z0-9]{0,3}){0,3}=?[-{}\\[\\]:,a0. ]{0,6}",
    ) {
        let rest = SOUND.get(cut + skip..).unwrap_or_default();
        let text = format!("{}{insert}{rest}", &SOUND[..cut]);
        if let Err(problems) = recipe::parse(&text, Path::new("cpt.yaml"), &[override_]) {
            prop_assert!(!problems.all().is_empty());
        }
    }
}

#[test]
fn paths_begin_at_the_home_folder_and_with_variables_also_in_overrides_and_are_stored_expanded() {
    let home = std::env::var("HOME").unwrap();
    let text = SOUND.replace("from: base", "from: ~/base").replace("corpus/code", "'${HOME}/code'");
    let overrides = ["run.output=$HOME/runs/x".to_owned(), "tokenizer=~/tok".to_owned()];
    let recipe = recipe::parse(&text, Path::new("cpt.yaml"), &overrides).unwrap().recipe;
    let home = |rest: &str| Path::new(&format!("{home}/{rest}")).to_owned();
    assert_eq!(recipe.model.from, Some(home("base")));
    assert_eq!(recipe.data.sources["code"].path, home("code"));
    assert_eq!((&recipe.run.output, &recipe.tokenizer), (&Some(home("runs/x")), &Some(home("tok"))));
    assert!(!recipe::to_yaml(&recipe).contains(['~', '$']));
}

#[test]
fn tens_of_thousands_of_wrong_keys_are_all_counted_and_the_first_are_shown() {
    let count = 80_000;
    let lines = |line: &dyn Fn(usize) -> String| (0..count).map(line).collect::<String>();
    let unknown = lines(&|n| format!("key{n}: 1\n"));
    let near = format!("version: 1\n{}", lines(&|n| format!("dat{n}:\n")));
    let twice = format!("version: 1\n{}", "run:\n".repeat(count));
    for text in [unknown, near, twice] {
        let said = refused(&text, &[]);
        assert!(said.lines().count() <= 51, "{} lines", said.lines().count());
        let last = said.lines().last().unwrap();
        let all: usize = last.split_once(' ').unwrap().0.parse().unwrap();
        assert!(all >= count && last.ends_with(" problems, of which the first 50 are shown"), "{last}");
    }
    // A mixture without sources of its names, among many.
    let many = |entry: &dyn Fn(usize) -> String| (0..20_000).map(entry).collect::<Vec<_>>().join(", ");
    let text = SOUND
        .replace(
            "    code: {path",
            &format!(
                "    code: {{path: x}}\n{}    last: {{path",
                lines(&|n| format!("    s{n}: {{path: x}}\n"))
                    .lines()
                    .take(20_000)
                    .map(|line| format!("{line}\n"))
                    .collect::<String>()
            ),
        )
        .replace("{code: 1, agent: 1.5}", &format!("{{{}}}", many(&|n| format!("t{n}: 1"))));
    assert!(refused(&text, &[]).ends_with("20000 problems, of which the first 50 are shown"));
}

#[test]
fn a_recipe_comes_from_standard_input_where_its_name_is_a_dash() {
    let mut command = assert_cmd::Command::new(crate::program(env!("CARGO_BIN_EXE_hephaestus-train")));
    let run = command.args(["--recipe", "-", "--dry-run"]).write_stdin("version: 1\nrunn: {}\n").assert().failure();
    let err = String::from_utf8_lossy(&run.get_output().stderr).into_owned();
    assert!(err.contains("standard input:2:1: runn: unknown key; did you mean run?"), "{err}");
}

#[test]
fn nesting_without_end_is_refused() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "a: {".repeat(50_000), "? ".repeat(50_000)] {
        let said = refused(&text, &[]);
        assert!(said.contains("nested") || said.contains("not YAML"), "{said}");
    }
}

#[test]
fn the_schema_tells_editors_types_bounds_and_choices() {
    let schema = recipe::schema();
    assert_eq!(schema["properties"]["version"]["maximum"], 1);
    assert_eq!(schema["$defs"]["Optimizer"]["properties"]["beta1"]["exclusiveMaximum"], 1);
    assert_eq!(schema["$defs"]["Stage"]["oneOf"][1]["required"][0], "steps");
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn the_reference_is_what_the_types_say() {
    let path = Path::new(ROOT).join("docs/recipe.md");
    let reference = recipe::reference();
    if std::env::var_os("UPDATE_REFERENCE").is_some() {
        fs_err::create_dir_all(path.parent().unwrap()).unwrap();
        fs_err::write(&path, &reference).unwrap();
    }
    let found = fs_err::read_to_string(&path).unwrap_or_default();
    assert!(
        found == reference,
        "docs/recipe.md is out of date: UPDATE_REFERENCE=1 cargo test --release the_reference writes it anew"
    );
}
