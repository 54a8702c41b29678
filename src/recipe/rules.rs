//! What keys of a recipe owe each other, as far as the recipe alone can tell.

use std::collections::HashSet;

use hephaestus_core::settings::or;

use super::problem::{Positions, Problem, SHOWN, nearest};
use super::quantity::{Count, Rows};
use super::sections::{Mode, Recipe, Schedule, ScheduleKind, Stage, Start};

/// Every rule that is broken.
pub(super) fn broken(recipe: &Recipe, positions: &Positions) -> Vec<Problem> {
    let mut rules = Rules { recipe, positions, problems: Vec::new() };
    rules.run_and_model();
    rules.data();
    rules.batch();
    rules.device();
    rules.distributed();
    rules.stages();
    rules.problems
}

struct Rules<'a> {
    recipe: &'a Recipe,
    positions: &'a Positions,
    problems: Vec<Problem>,
}

impl Rules<'_> {
    fn complain(&mut self, key: &str, message: impl Into<String>) {
        self.problems.push(self.positions.problem(key, message));
    }

    fn run_and_model(&mut self) {
        let name = &self.recipe.run.name;
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\', '\0']) {
            let message =
                format!("is `{name}`: a name is the name of a folder too, without / and not beginning with a dot");
            self.complain("run.name", message);
        }
        let model = &self.recipe.model;
        if model.keep_optimizer && model.from.is_none() {
            self.complain(
                "model.keep_optimizer",
                "is true without model.from: give the checkpoint whose moments to keep",
            );
        }
        if model.from.is_none() && self.recipe.tokenizer.is_none() {
            let message = "missing: a model made from model.config brings no tokenizer, give the folder of one";
            self.complain("tokenizer", message);
        }
    }

    fn device(&mut self) {
        if self.recipe.device.memory.is_some_and(|memory| memory.0 == 0) {
            self.complain(
                "device.memory",
                "is 0: give the bytes that the run may take, such as 70GiB, or leave it out",
            );
        }
    }

    fn distributed(&mut self) {
        if self.recipe.distributed.mode == Mode::Ddp && self.recipe.distributed.shard_ranks.is_some() {
            let message = "has no part in mode ddp, which shards nothing: remove it, or use zero1 or fsdp";
            self.complain("distributed.shard_ranks", message);
        }
    }

    fn data(&mut self) {
        let data = &self.recipe.data;
        if data.sequence_length.0 < 2 {
            let message =
                format!("is {}: a row has 2 tokens at least, one to read and one to predict", data.sequence_length);
            self.complain("data.sequence_length", message);
        }
        if data.end_of_document.is_empty() {
            self.complain("data.end_of_document", "is empty: expected auto, none or a token of the tokenizer");
        }
        if data.sources.is_empty() {
            self.complain("data.sources", "holds no source: name at least one corpus");
        }
        for (name, source) in &data.sources {
            let key = format!("data.sources.{name}");
            if name.is_empty() || !name.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '_') {
                self.complain(&key, "a source is named by letters, digits, - and _: logs and overrides use the name");
            }
            if source.held_out.0 >= 1.0 {
                let message = format!("is {}: nothing would be left to train on", source.held_out);
                self.complain(&format!("{key}.held_out"), message);
            }
        }
        if self.recipe.validation.sequences.0 == 0 {
            let message = "is 0: give 1 or more, or hold nothing out (held_out: 0) of sources not to validate";
            self.complain("validation.sequences", message);
        }
    }

    fn batch(&mut self) {
        let (batch, length) = (&self.recipe.batch, self.recipe.data.sequence_length.0.max(1));
        let (key, rows) = match (batch.tokens, batch.sequences) {
            (Some(tokens), _) if !tokens.0.is_multiple_of(length) => {
                let (below, above) = (tokens.0 / length * length, (tokens.0 / length + 1) * length);
                let near = if below == 0 { above.to_string() } else { format!("{below} or {above}") };
                let message = format!("is {tokens}, not a multiple of data.sequence_length, {length}: give {near}");
                return self.complain("batch.tokens", message);
            }
            (Some(tokens), _) => ("batch.tokens", tokens.0 / length),
            (None, sequences) => ("batch.sequences", sequences.map_or(0, |sequences| sequences.0)),
        };
        if rows == 0 {
            return self.complain(key, "is 0: a step has one sequence at least");
        }
        let Rows::Count(Count(micro)) = batch.micro_sequences else { return };
        if micro == 0 {
            self.complain("batch.micro_sequences", "is 0: at least one sequence is computed at once");
        } else if !rows.is_multiple_of(micro) {
            let fits = (1..=micro.min(rows)).rev().find(|fits| rows.is_multiple_of(*fits)).unwrap_or(1);
            let message = format!("is {micro}, which does not divide the {rows} sequences of a step: give {fits}");
            self.complain("batch.micro_sequences", message);
        }
    }

    fn stages(&mut self) {
        let stages = &self.recipe.stages;
        if stages.is_empty() {
            self.complain("stages", "holds no stage: give at least one");
        }
        let mut names = HashSet::new();
        for (at, stage) in stages.iter().enumerate() {
            let key = format!("stages.{at}");
            if stage.name.is_empty() || !names.insert(&stage.name) {
                let message = format!("is `{}`: every stage has a name of its own", stage.name);
                self.complain(&format!("{key}.name"), message);
            }
            for (name, length) in [("tokens", stage.tokens), ("steps", stage.steps)] {
                if length.is_some_and(|length| length.0 == 0) {
                    self.complain(&format!("{key}.{name}"), "is 0: a stage has one step at least");
                }
            }
            self.mixture(&key, stage);
            self.schedule(&format!("{key}.schedule"), &stage.schedule, at == 0);
        }
    }

    fn mixture(&mut self, stage: &str, Stage { mixture, .. }: &Stage) {
        let sources = &self.recipe.data.sources;
        for (name, weight) in mixture {
            let key = format!("{stage}.mixture.{name}");
            if !sources.contains_key(name) && self.problems.len() >= SHOWN {
                // Looking for what was meant takes time, and is not shown any more.
                self.complain(&key, "no source of this name");
            } else if !sources.contains_key(name) {
                let names: Vec<_> = sources.keys().map(String::as_str).collect();
                let message = match nearest(name, names.iter().copied()) {
                    Some(near) => format!("no source of this name; did you mean {near}?"),
                    None => format!("no source of this name; data.sources has {}", or(&names)),
                };
                self.complain(&key, message);
            }
            if *weight < 0.0 {
                self.complain(&key, format!("is {weight}: a weight is 0 or more"));
            }
        }
        if !mixture.values().any(|weight| *weight > 0.0) {
            self.complain(&format!("{stage}.mixture"), "no weight is above 0: the stage would train on nothing");
        }
    }

    fn schedule(&mut self, key: &str, schedule: &Schedule, first: bool) {
        use ScheduleKind::{Constant, Infinite, Wsd};
        let kind = schedule.kind;
        let name = match kind {
            Constant => "constant",
            ScheduleKind::Linear => "linear",
            ScheduleKind::Cosine => "cosine",
            Wsd => "wsd",
            Infinite => "infinite",
        };
        for (inner, allowed, needed) in [
            ("decay", matches!(kind, Wsd | Infinite), kind == Wsd),
            ("decay_shape", matches!(kind, Wsd | Infinite), false),
            ("cooldown", kind == Infinite, kind == Infinite),
            ("constant", kind == Infinite, kind == Infinite),
        ] {
            let key = format!("{key}.{inner}");
            let written = self.positions.written(&key);
            if written && !allowed {
                self.complain(&key, format!("has no part in a schedule of kind {name}: remove it, or change kind"));
            } else if needed && !written {
                self.complain(&key, format!("missing: a schedule of kind {name} has it"));
            }
        }
        if kind == Constant && schedule.floor > 0.0 {
            self.complain(
                &format!("{key}.floor"),
                "has no part in a schedule of kind constant: remove it, or change kind",
            );
        } else if schedule.floor > schedule.peak {
            let message = format!("is {}, above the peak, {}", schedule.floor, schedule.peak);
            self.complain(&format!("{key}.floor"), message);
        }
        if let Some(constant) =
            schedule.constant.filter(|c| kind == Infinite && !(schedule.floor..=schedule.peak).contains(c))
        {
            let (floor, peak) = (schedule.floor, schedule.peak);
            self.complain(
                &format!("{key}.constant"),
                format!("is {constant}: it lies between floor, {floor}, and peak, {peak}"),
            );
        }
        if first && schedule.start == Start::Continue {
            self.complain(&format!("{key}.start"), "is continue in the first stage: there is none before it, use zero");
        }
    }
}
