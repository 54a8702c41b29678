//! The whole forge over real data, its counts held against independent ones.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Program;

use serde_json::Value;

use crate::{PYTHON, SHARED, skipped, succeed, write};

/// Counts by a few lines of Python: OpenAPI operations and webhooks, records of the catalogues that are valid JSON, conversations,
/// functions, and the catalogues that are not valid JSON.
const COUNT: &str = r#"
import json, sys, pathlib, yaml
shared = pathlib.Path(sys.argv[1])
verbs = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
def operations(document):
    paths = [*document["paths"].values(), *document.get("webhooks", {}).values()]
    return sum(verb in verbs for path in paths for verb in path)
openapi = sum(operations(json.load(open(path))) for path in (shared / "agent/openapi/twilio").glob("*.json"))
openapi += operations(yaml.safe_load(open(shared / "agent/openapi/openai.yaml")))
sound, broken = 0, []
for path in (shared / "agent/apizoo").iterdir():
    try:
        sound += len(json.load(open(path)))
    except json.JSONDecodeError:
        broken.append(path.name)
lines = lambda path: sum(1 for line in open(shared / path) if line.strip())
apibench = sum(lines(f"agent/apibench/{name}_api.jsonl") for name in ("huggingface", "tensorflowhub", "torchhub"))
airline = json.load(open(shared / "agent/trajectories/tau-bench-gpt-4o-airline.json"))
few = lines("agent/trajectories/tau-bench-retail-few-shot.jsonl")
functions = sum(len(json.loads(line)["function"]) for line in open(shared / "bfcl/BFCL_v4_simple_python.json"))
print(json.dumps({
    "openapi": openapi, "sound": sound, "broken": sorted(broken), "apibench": apibench,
    "trajectories": len(airline) + few, "solved": sum(record["reward"] >= 1 for record in airline),
    "functions": functions,
}))
"#;

const RECIPE: &str = "
version: 1
output: out
tokenizer: SHARED/tokenizers/gpt2
sources:
  solved: { inputs: [{ reader: trajectories, paths: [SHARED/agent/trajectories/tau-bench-gpt-4o-airline.json], at_least: { reward: 1 } }] }
  trajectories: { inputs: [{ reader: trajectories, paths: [SHARED/agent/trajectories] }] }
  openapi: { inputs: [{ reader: openapi, paths: [SHARED/agent/openapi] }], render: { prefix: [provider, api] } }
  apizoo: { inputs: [{ reader: records, paths: [SHARED/agent/apizoo], fields: { name: [api_name], call: [api_call], description: [functionality] } }] }
  apibench: { inputs: [{ reader: records, paths: [SHARED/agent/apibench], exclude: ['*_train.json'], fields: { name: [api_name], call: [api_call] } }] }
  functions: { inputs: [{ reader: functions, paths: [SHARED/bfcl/BFCL_v4_simple_python.json] }] }
  text: { inputs: [{ reader: text, paths: [SHARED/general] }] }
decontamination: { against: [SHARED/bfcl/BFCL_v4_simple_python.json] }
";

#[test]
fn everything_in_the_real_data_is_read_and_the_report_says_what_python_counts() {
    if !Path::new(SHARED).is_dir() {
        let why = format!("{SHARED} is absent");
        skipped("everything_in_the_real_data_is_read_and_the_report_says_what_python_counts", &why);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "forge.yaml", &RECIPE.replace("SHARED", SHARED));
    succeed(&folder, &["build", "--recipe", "forge.yaml"]);
    let read = |name: &str| fs_err::read_to_string(folder.path().join("out").join(name)).unwrap();
    let report: Value = serde_json::from_str(&read("report.json")).unwrap();
    let source =
        |name: &str| report["sources"].as_array().unwrap().iter().find(|source| source["name"] == name).unwrap();
    let documents = |name: &str| source(name)["figures"]["read"]["documents"].as_u64().unwrap();

    assert!(Path::new(PYTHON).is_file(), "{PYTHON} is missing: run `make setup`");
    let output = Program::new(PYTHON).args(["-c", COUNT, SHARED]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let counted: Value = serde_json::from_slice(&output.stdout).unwrap();
    let unsolved = source("solved")["figures"]["dropped"]["at_least"]["amount"]["documents"].as_u64().unwrap();
    assert_eq!(documents("solved") - unsolved, counted["solved"].as_u64().unwrap());
    for name in ["openapi", "apibench", "trajectories", "functions"] {
        assert_eq!(documents(name), counted[name].as_u64().unwrap(), "{name}");
    }
    assert!(documents("apizoo") >= counted["sound"].as_u64().unwrap(), "sound records of broken files come on top");

    // Every broken catalogue is named with a position, nothing else is.
    let bad = read("bad-records.txt");
    let place = |line: &str| line.split_once(": ").unwrap().0.to_owned();
    let named: BTreeSet<String> = bad
        .lines()
        .map(|line| {
            let (path, position) = place(line)
                .split_once("apizoo/")
                .map(|(_, place)| place.to_owned())
                .unwrap()
                .split_once(':')
                .map(|(file, at)| (file.to_owned(), at.to_owned()))
                .unwrap();
            assert!(position.split(':').all(|number| number.parse::<u64>().is_ok_and(|number| number > 0)), "{line}");
            path
        })
        .collect();
    let broken: BTreeSet<String> =
        counted["broken"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    assert_eq!(named, broken);
    assert_eq!(source("apizoo")["figures"]["bad"]["count"], bad.lines().count() as u64);

    // What is kept, dropped and a duplicate is what was read; tokens are those in the files.
    for source in report["sources"].as_array().unwrap() {
        let figures = &source["figures"];
        let count = |value: &Value| value["documents"].as_u64().unwrap();
        let dropped: u64 = figures["dropped"].as_object().unwrap().values().map(|rule| count(&rule["amount"])).sum();
        let all = count(&figures["kept"]) + dropped + count(&source["exact"]) + count(&source["near"]);
        assert_eq!(all, count(&figures["read"]), "{}", source["name"]);
        let name = source["name"].as_str().unwrap();
        let bin = folder.path().join("out").join(format!("{name}.bin"));
        assert_eq!(figures["tokens"].as_u64().unwrap() * 2, fs_err::metadata(bin).unwrap().len(), "{name}");
    }
    // What solved its task is left out of the other source of conversations, word for word the same.
    let solved = source("solved")["figures"]["kept"]["documents"].as_u64().unwrap();
    assert!(source("trajectories")["exact"]["documents"].as_u64().unwrap() >= solved);
}
