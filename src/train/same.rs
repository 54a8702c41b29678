//! That all ranks carry out the same plan on the same data. Each reads its own recipe, model and corpora, and on another
//! machine these may be others under the same names.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;

use super::data::Data;
use super::team::Team;
use crate::ffi;
use crate::plan::{Compute, Plan, Weights};
use crate::recipe::keys;

/// Differences that are told, of more.
const TOLD: usize = 4;

/// Characters of a value that is told, at most.
const SHORT: usize = 80;

/// Refuses a plan or data that are not those of rank 0, before anything is computed.
///
/// # Errors
/// Whatever differs on the first rank where something does; the same on all.
pub(super) fn check(plan: &Plan, data: &Data, team: &Team<'_>) -> anyhow::Result<()> {
    if team.is_alone() {
        return Ok(());
    }
    let own = described(plan, data)?;
    let together = team.together();
    let first = together.first("say what is to be done", || Ok::<_, anyhow::Error>(own.clone()))?;
    together.all("compare what is to be done", || compare(&own, &first), |same| same.map(drop))
}

/// Everything that has to be the same, by name.
fn described(plan: &Plan, data: &Data) -> anyhow::Result<BTreeMap<String, String>> {
    let mut all = keys::by_key(&plan.settled())?;
    // Each machine has its own cores.
    all.remove("device.threads");
    let device = if plan.device.compute == Compute::Cpu { "the CPU" } else { "a GPU" };
    let mut say = |name: &str, value: String| drop(all.insert(name.to_owned(), value));
    say("the device", format!("{device}, in {:?}", plan.device.arithmetic));
    say("the program", format!("{} on libtorch {}", env!("CARGO_PKG_VERSION"), ffi::versions().libtorch));
    say("the model's shape", format!("{:?}", plan.model.config));
    say("what is computed again", format!("{:?}", plan.model.recompute));
    say("how ranks share", format!("{:?}", plan.distributed));
    if let Weights::Folder(folder) | Weights::WithOptimizer(folder) = &plan.model.weights {
        say("the files of model.from", files(folder)?);
    }
    for (source, fingerprint) in plan.data.sources.iter().zip(data.fingerprints()) {
        say(&format!("corpus {}", source.prefix.display()), fingerprint.clone());
    }
    Ok(all)
}

/// Names and sizes of a model's weights: their contents would take too long to compare.
fn files(folder: &Path) -> anyhow::Result<String> {
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(".safetensors") {
            files.push(format!("{name} of {} bytes", entry.metadata()?.len()));
        }
    }
    files.sort_unstable();
    Ok(files.join(", "))
}

fn compare(own: &BTreeMap<String, String>, first: &BTreeMap<String, String>) -> anyhow::Result<()> {
    let names = own.keys().chain(first.keys().filter(|name| !own.contains_key(*name)));
    let differing: Vec<_> = names.filter(|name| own.get(*name) != first.get(*name)).collect();
    if differing.is_empty() {
        return Ok(());
    }
    let value = |of: &BTreeMap<String, String>, name: &str| of.get(name).map_or("not set", String::as_str).to_owned();
    let told = differing.iter().take(TOLD).map(|name| match (value(own, name), value(first, name)) {
        (own, first) if own.len().max(first.len()) <= SHORT => format!("{name} is {own} here, and {first} on rank 0"),
        _ => format!("{name} is another one here than on rank 0"),
    });
    let more = differing.len().saturating_sub(TOLD);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    bail!("{}{more}: give all machines the same", told.collect::<Vec<_>>().join("; "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_differs_is_told_by_its_key() {
        let described = |value: serde_json::Value| keys::by_key(&value).unwrap();
        let first = described(json!({"optimizer": {"peak": 1e-4, "clip": 1.0}, "stages": [{"steps": 4}], "end": null}));
        assert!(compare(&first, &first).is_ok());
        let own = described(json!({"optimizer": {"peak": 3e-4, "clip": 1.0}, "stages": [{"steps": 4}, {"steps": 5}]}));
        assert_eq!(
            compare(&own, &first).unwrap_err().to_string(),
            "optimizer.peak is 0.0003 here, and 0.0001 on rank 0; stages.1.steps is 5 here, and not set on rank 0: \
             give all machines the same"
        );
        let long = described(json!({"optimizer": {"peak": "x".repeat(100)}}));
        let said = compare(&long, &first).unwrap_err().to_string();
        let expected =
            "optimizer.peak is another one here than on rank 0; optimizer.clip is not set here, and 1.0 on rank 0";
        assert!(said.starts_with(expected), "{said}");
    }
}
