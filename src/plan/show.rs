//! A plan as a person reads it before starting it: what `--dry-run` prints.

use std::fmt::Write as _;

use super::memory::{checkpoint, estimate};
use super::speed::Speed;
use super::traffic::Traffic;
use super::{Arithmetic, Assumed, DataPlan, DistributedPlan, Plan, Resumed, Room, StagePlan, Weights, fit};
use crate::corpus::source::Packing;
use crate::figures::{size, thousands};
use crate::hf::names;
use crate::model::config::{Family, ModelConfig};
use crate::optim::schedule::{Decay, Settings, Shape};
use crate::recipe::quantity::Interval;
use crate::recipe::sections::{Mode, Reduction};

/// Columns between a line's name and what it says.
pub const NAMES: usize = 14;

/// The plan as text, many lines.
#[must_use]
pub fn show(plan: &Plan) -> String {
    page(plan, None)
}

/// The same with the time that it should take on machines of which so much is assumed.
#[must_use]
pub fn show_expecting(plan: &Plan, assumed: &Assumed) -> String {
    page(plan, Some(assumed))
}

fn page(plan: &Plan, assumed: Option<&Assumed>) -> String {
    let mut page = Page::default();
    page.line("run", &format!("{}, seed {}", plan.name, plan.seed));
    page.line("output", &plan.output.display().to_string());
    if let Some(resumed) = &plan.resumed {
        self::resumed(&mut page, resumed);
    }
    page.gap();
    model(&mut page, plan);
    page.gap();
    if plan.distributed.world > 1 {
        ranks(&mut page, plan);
        page.gap();
    }
    memory(&mut page, plan);
    page.gap();
    data(&mut page, &plan.data);
    page.gap();
    batch(&mut page, plan);
    if let Some(assumed) = assumed {
        page.gap();
        expected(&mut page, plan, assumed);
    }
    let drawn = |name: &str| Some(plan.resumed.as_ref()?.state.sources.get(name)?.rows as f64);
    let mut given: Vec<_> = plan.data.sources.iter().map(|source| drawn(&source.name).unwrap_or(0.0)).collect();
    let mut made = plan.resumed.as_ref().map_or(0, |resumed| resumed.state.step);
    for (at, stage) in plan.stages.iter().enumerate() {
        page.gap();
        self::stage(&mut page, plan, at, stage, made, &mut given);
        made += plan.steps_left(at);
    }
    page.gap();
    files(&mut page, plan);
    for (at, remark) in plan.notes.remarks.iter().enumerate() {
        if at == 0 {
            page.gap();
        }
        page.line(if at == 0 { "notes" } else { "" }, &format!("- {remark}"));
    }
    page.text
}

/// Where the run resumes, and what has changed since.
fn resumed(page: &mut Page, resumed: &Resumed) {
    let step = thousands(resumed.state.step);
    page.line("resumes", &format!("from {}, after step {step}, if it verifies", resumed.checkpoint.display()));
    for (at, line) in resumed.table().lines().enumerate() {
        page.line(if at == 0 { "changed" } else { "" }, line.trim_start());
    }
}

fn model(page: &mut Page, plan: &Plan) {
    let config: &ModelConfig = &plan.model.config;
    let family = match config.family {
        Family::Llama => "Llama",
        Family::Mistral => "Mistral",
        Family::Qwen2 => "Qwen2",
        Family::Qwen3 => "Qwen3",
    };
    let [layers, width, mlp, heads, kv, head, vocabulary, positions] = [
        config.layers,
        config.hidden_size,
        config.intermediate_size,
        config.heads,
        config.kv_heads,
        config.head_dim,
        config.vocab_size,
        config.max_positions,
    ]
    .map(|number| thousands(number as u64));
    let embedding = (config.vocab_size * config.hidden_size) as u64;
    let (in_them, what) = if config.tied_embeddings {
        (embedding, "embedding, which is the head too")
    } else {
        (2 * embedding, "embedding and head")
    };
    page.line(
        "model",
        &format!("{family}, {} parameters, {} of them in {what}", thousands(names::total(config)), thousands(in_them)),
    );
    page.line("", &format!("{layers} layers of width {width}, MLP of width {mlp}"));
    page.line(
        "",
        &format!("{heads} heads of {head} over {kv} keys and values, {vocabulary} tokens, {positions} positions"),
    );
    let weights = match &plan.model.weights {
        Weights::Folder(folder) => format!("from {}", folder.display()),
        Weights::WithOptimizer(folder) => format!("from {}, with the optimizer's moments", folder.display()),
        Weights::Fresh => format!("fresh, drawn with seed {}", plan.seed),
    };
    page.line("weights", &weights);
    page.line("tokenizer", &plan.tokenizer.display().to_string());
    let arithmetic = match plan.device.arithmetic {
        Arithmetic::Bf16 => "bf16, fp32 master weights",
        Arithmetic::Fp8 => "fp8 in the products of layers, else bf16; fp32 master weights",
        Arithmetic::Fp32 => "fp32",
    };
    page.line("device", &plan.notes.device);
    page.line("precision", arithmetic);
}

/// Who holds what of several ranks, and what they send each other.
fn ranks(page: &mut Page, plan: &Plan) {
    let DistributedPlan { world, shard, fully, reduce, timeout } = plan.distributed;
    let ranks = thousands(world as u64);
    let node = plan.notes.node.max(1);
    let places = match world.div_ceil(node) {
        1 => "in one machine".to_owned(),
        nodes => format!("in {} of {node}", count(nodes as u64, "machine")),
    };
    let (mode, what) = match (shard, fully) {
        (1, _) => ("ddp", "each holds weights, gradients and optimizer whole"),
        (_, false) => ("zero1", "the optimizer is sharded"),
        (_, true) => ("fsdp", "weights, gradients and optimizer are sharded"),
    };
    let chosen = if plan.resolved.distributed.mode == Mode::Auto { ", chosen" } else { "" };
    let over = match world / shard.max(1) {
        _ if shard == 1 => String::new(),
        1 => format!(" over all {ranks}"),
        copies => format!(" over {shard}, in {} copies", thousands(copies as u64)),
    };
    page.line("ranks", &format!("{ranks} {places}"));
    page.line("mode", &format!("{mode}{chosen}: {what}{over}"));
    page.line("", &format!("a rank waits {} for the others", time(timeout.as_secs())));
    let traffic = Traffic::of(plan);
    let sums = match reduce {
        Reduction::Fp32 => "fp32",
        Reduction::Bf16 => "bf16",
    };
    let weights = if plan.device.arithmetic == Arithmetic::Fp32 { "fp32" } else { "bf16" };
    let times = if fully { plan.micro_batches() } else { 1 };
    let copies = world / shard.max(1);
    let mut table = Table::new(&["communication", "sent a step", "times", "of"]);
    for (what, bytes, times, of) in [
        (
            "all-gather",
            traffic.all_gather,
            times * if fully { 2 } else { 1 },
            format!("weights in {weights}, {shard} ranks"),
        ),
        ("reduce-scatter", traffic.reduce_scatter, times, format!("gradients in {sums}, {shard} ranks")),
        ("all-reduce", traffic.all_reduce, 1, format!("gradients in {sums}, {} copies", thousands(copies as u64))),
    ] {
        if bytes > 0 {
            table.row(vec![what.to_owned(), size(bytes), thousands(times), of]);
        }
    }
    table.row(vec!["in all".to_owned(), size(traffic.total())]);
    page.gap();
    page.table(&table.left_last());
}

/// How long it should take.
fn expected(page: &mut Page, plan: &Plan, assumed: &Assumed) {
    let speed = Speed::of(plan, assumed);
    let step = speed.step();
    let tokens = plan.tokens_a_step() as f64 / step;
    let world = plan.distributed.world;
    page.line("expected", &format!("{} a step", seconds(step)));
    if world > 1 {
        let Speed { compute, hidden, exposed } = speed;
        let [compute, hidden, exposed] = [compute, hidden, exposed].map(seconds);
        page.line("", &format!("{compute} computing, {exposed} waiting for others, {hidden} of communication hidden"));
    }
    let each = (tokens / world as f64).round() as u64;
    let each = if world > 1 { format!(", {} a GPU", thousands(each)) } else { String::new() };
    page.line("", &format!("{} tokens a second{each}", thousands(tokens.round() as u64)));
    let all = plan.steps() as f64 * step;
    let hours = thousands((all / 3600.0 * world as f64).round() as u64);
    let hours = if world > 1 { format!(", {hours} GPU hours") } else { String::new() };
    page.line("", &format!("{} for all {}{hours}", long(all), count(plan.steps(), "step")));
    let Assumed { peak, mfu, node_gpus, node_link, network } = *assumed;
    page.line("", &format!("reckoned with an MFU of {mfu}, {:.0} TFLOP/s a GPU at most", peak / 1e12));
    if world > 1 {
        let inside = format!("{} GB/s between GPUs of a machine", node_link / 1e9);
        let beyond = format!(", {} GB/s a GPU between machines", network / 1e9);
        page.line("", &format!("{inside}{}", if world > node_gpus { beyond.as_str() } else { "" }));
    }
}

/// Seconds to three digits.
fn seconds(seconds: f64) -> String {
    match seconds {
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.995 => format!("{seconds:.2} s"),
        _ if seconds < 99.95 => format!("{seconds:.1} s"),
        _ => format!("{} s", thousands(seconds.round() as u64)),
    }
}

/// A long time in the unit that suits it.
fn long(seconds: f64) -> String {
    match seconds {
        _ if seconds < 120.0 => format!("{seconds:.0} seconds"),
        _ if seconds < 7200.0 => format!("{:.0} minutes", seconds / 60.0),
        _ if seconds < 172_800.0 => format!("{:.1} hours", seconds / 3600.0),
        _ => format!("{:.1} days", seconds / 86_400.0),
    }
}

fn memory(page: &mut Page, plan: &Plan) {
    let memory = estimate(plan);
    let activations = format!("activations, {}", fit::words(&plan.model.recompute));
    let DistributedPlan { world, shard, fully, .. } = plan.distributed;
    let part = |sharded: bool| if sharded && shard > 1 { format!(", 1/{shard}") } else { String::new() };
    let mut table = Table::new(&[if world > 1 { "memory of a rank" } else { "memory" }, "at most"]);
    for (what, bytes) in [
        (format!("weights{}", part(fully)).as_str(), memory.weights),
        ("weights gathered at a time", memory.gathered),
        (format!("fp32 master weights{}", part(true)).as_str(), memory.masters),
        (format!("AdamW's two moments{}", part(true)).as_str(), memory.moments),
        ("gradients", memory.gradients),
        (activations.as_str(), memory.activations),
        ("loss, chunk by chunk", memory.loss),
        ("in all", memory.total()),
    ] {
        if bytes > 0 {
            table.row(vec![what.to_owned(), size(bytes)]);
        }
    }
    page.table(&table);
    let Room { rows, layers, memory: there } = plan.room;
    if there > 0 {
        let share = 100.0 * memory.total() as f64 / there as f64;
        let share = if share < 1.0 { "under 1 %".to_owned() } else { format!("{share:.0} %") };
        page.line("", &format!("by estimate; {share} of the {} there are", size(there)));
        let what = match (rows, layers) {
            (true, true) => "rows at once and recomputation",
            (true, false) => "rows at once",
            (false, true) => "recomputation",
            (false, false) => return,
        };
        let budget = size(plan.room.budget());
        page.line("", &format!("chosen: {what}, the fastest that fit into {budget}; the rest is a reserve"));
    }
}

fn data(page: &mut Page, data: &DataPlan) {
    let mut table = Table::new(&["data", "documents", "tokens", "rows", "held out", "at most", "corpus"]);
    for source in &data.sources {
        let most = source.max_epochs.map_or("-".to_owned(), |most| format!("{most} epochs"));
        let held = format!("{} rows", thousands(source.held_out_rows));
        table.row(vec![
            source.name.clone(),
            thousands(source.documents),
            thousands(source.tokens),
            thousands(source.rows),
            held,
            most,
            source.prefix.display().to_string(),
        ]);
    }
    page.table(&table.left_last());
    let packing = match data.packing {
        Packing::Split => "one document after another, cut into rows",
        Packing::BestFit => "documents kept whole where they fit a row",
    };
    let end = match data.end_of_document {
        Some(token) => format!("token {token} is added after each document"),
        None => "nothing is added after a document".to_owned(),
    };
    let mask =
        if data.document_mask { "attention stays inside a document" } else { "attention crosses documents in a row" };
    page.line("packing", &format!("{packing}; {end}"));
    page.line("", mask);
}

fn batch(page: &mut Page, plan: &Plan) {
    let (rows, micro) = (plan.batch.rows, plan.batch.micro_rows);
    let length = plan.data.sequence_length as u64;
    let tokens = thousands(plan.tokens_a_step());
    page.line("batch", &format!("{} rows x {} tokens = {tokens} tokens a step", thousands(rows), thousands(length)));
    let times = match plan.micro_batches() {
        1 => "computed at once".to_owned(),
        times => {
            format!("computed {} at a time, gradients accumulated over {}", count(micro, "row"), thousands(times))
        }
    };
    let each = if plan.distributed.world > 1 {
        format!("{} a rank, ", count(plan.rows_a_rank(), "row"))
    } else {
        String::new()
    };
    page.line("", &format!("{each}{times}"));
    let left: u64 = (0..plan.stages.len()).map(|stage| plan.steps_left(stage)).sum();
    let all = thousands(left.saturating_mul(plan.tokens_a_step()));
    let stages = count(plan.stages.len() as u64, "stage");
    let made = plan.steps() - left;
    let after = if made > 0 { format!(" left after {}", thousands(made)) } else { String::new() };
    page.line("training", &format!("{}{after} in {stages}, {all} tokens", count(left, "step")));
    let optimizer = &plan.optimizer;
    let or_off = |value: f64| if value > 0.0 { value.to_string() } else { "off".to_owned() };
    page.line(
        "optimizer",
        &format!(
            "AdamW, betas {} and {}, eps {:e}, weight decay {}, clipping at norm {}, z-loss {}",
            optimizer.beta1,
            optimizer.beta2,
            optimizer.eps,
            or_off(optimizer.weight_decay),
            or_off(optimizer.clip_norm),
            or_off(optimizer.z_loss)
        ),
    );
}

/// A stage, or what is left of it, after `made` steps of the run.
fn stage(page: &mut Page, plan: &Plan, at: usize, stage: &StagePlan, made: u64, given: &mut [f64]) {
    let left = plan.steps_left(at);
    let rows = left.saturating_mul(plan.batch.rows);
    let tokens = left.saturating_mul(plan.tokens_a_step());
    let name = format!("stage {}", at + 1);
    if left == 0 {
        return page.line(&name, &format!("{}: finished", stage.name));
    }
    let of = if left < stage.steps { format!(" left of {}", thousands(stage.steps)) } else { String::new() };
    page.line(&name, &format!("{}: {}{of}, {} tokens", stage.name, count(left, "step"), thousands(tokens)));
    let mut table = Table::new(&["source", "asked", "share", "rows", "tokens", "epochs so far"]);
    for (index, source) in plan.data.sources.iter().enumerate() {
        let share = stage.mixture.get(index).copied().unwrap_or(0.0);
        let asked = plan.notes.asked.get(at).and_then(|asked| asked.get(index)).copied().unwrap_or(share);
        if share == 0.0 && asked == 0.0 {
            continue;
        }
        let drawn = share * rows as f64;
        given[index] += drawn;
        let capped = plan.notes.capped.get(at).and_then(|capped| capped.get(index)).copied().unwrap_or(false);
        let epochs = given[index] / source.rows.max(1) as f64;
        table.row(vec![
            source.name.clone(),
            format!("{:.1} %", asked * 100.0),
            format!("{:.1} %", share * 100.0),
            thousands(drawn.round() as u64),
            thousands((drawn * plan.data.sequence_length as f64).round() as u64),
            format!("{epochs:.2}"),
            if capped { "capped by max_epochs".to_owned() } else { String::new() },
        ]);
    }
    page.table(&table.left_last());
    let mut table = Table::new(&["learning rate", "step", "rate", "kind"]);
    let begin = stage.steps - left;
    for (point, step) in turning_points(stage.schedule.settings(), begin) {
        let what = if table.rows.is_empty() { shape(stage.schedule.settings()) } else { String::new() };
        let rate = rate(stage.schedule.rate(step));
        table.row(vec![point.to_owned(), thousands(made + step - begin + 1), rate, what]);
    }
    page.table(&table.left_last());
}

/// A learning rate to three digits.
fn rate(rate: f64) -> String {
    if rate == 0.0 { "0".to_owned() } else { format!("{rate:.2e}") }
}

/// A number of things.
fn count(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", thousands(number))
}

/// A time in the largest unit that leaves a whole number.
fn time(seconds: u64) -> String {
    match seconds {
        _ if seconds.is_multiple_of(3600) => count(seconds / 3600, "hour"),
        _ if seconds.is_multiple_of(60) => count(seconds / 60, "minute"),
        _ => count(seconds, "second"),
    }
}

/// A schedule's shape in words.
fn shape(settings: &Settings) -> String {
    let decay = |decay: Decay| match decay {
        Decay::Linear => "linear",
        Decay::Cosine => "cosine",
        Decay::Exponential => "exponential",
        Decay::MinusSqrt => "1 - sqrt",
    };
    match settings.shape {
        Shape::Constant => "constant".to_owned(),
        Shape::Decay(form) => format!("{} to {}", decay(form), rate(settings.floor)),
        Shape::Wsd { decay: form, .. } => format!("stable, then {} decay to {}", decay(form), rate(settings.floor)),
        Shape::Infinite { constant, anneal: 0, .. } => format!("infinite: cooldown to {}, left open", rate(constant)),
        Shape::Infinite { constant, decay: form, .. } => {
            format!("infinite: cooldown to {}, {} anneal to {}", rate(constant), decay(form), rate(settings.floor))
        }
    }
}

/// Steps of a stage, counted from 0, at which its learning rate turns, from the one numbered `begin` on.
fn turning_points(settings: &Settings, begin: u64) -> Vec<(&'static str, u64)> {
    let Settings { steps, warmup, .. } = *settings;
    let mut points = vec![(if begin > 0 { "next" } else { "first" }, begin)];
    if warmup > 0 {
        points.push(("warm-up ends", warmup - 1));
    }
    match settings.shape {
        Shape::Constant | Shape::Decay(_) => {}
        Shape::Wsd { steps: length, .. } => points.push(("decay begins", steps - length)),
        Shape::Infinite { cooldown, anneal, .. } => {
            points.push(("cooldown ends", warmup + cooldown));
            points.push(("anneal begins", steps - anneal));
        }
    }
    points.retain(|(_, step)| (begin..steps).contains(step));
    points.push(("last", steps.saturating_sub(1)));
    points
}

fn files(page: &mut Page, plan: &Plan) {
    let output = plan.output.display();
    let every = match plan.checkpoint.every {
        Interval::Steps(steps) => format!("every {}", count(steps, "step")),
        Interval::Time(interval) => format!("every {}", time(interval.as_secs())),
    };
    let kept = plan
        .checkpoint
        .keep_every
        .map_or(String::new(), |steps| format!(", and each whose step is a multiple of {}", thousands(steps)));
    let bytes = size(checkpoint(plan));
    page.line("checkpoints", &format!("{every} and after the last, {bytes} each, in {output}"));
    page.line("", &format!("kept: the last {}{kept}", plan.checkpoint.keep_last));
    let validated: u64 = plan.data.sources.iter().map(|source| source.held_out_rows.min(plan.validation.rows)).sum();
    let mut times = Vec::new();
    if plan.validation.at_start {
        times.push("before the first step".to_owned());
    }
    times.extend(plan.validation.every.map(|steps| format!("every {}", count(steps, "step"))));
    times.push("after the last".to_owned());
    page.line("validation", &format!("{}: {} of all sources", times.join(", "), count(validated, "held-out row")));
    let board = if plan.logging.tensorboard { " and TensorBoard events in tensorboard/" } else { "" };
    page.line("logs", &format!("every {}: metrics.jsonl{board}, in {output}", count(plan.logging.every, "step")));
}

/// Lines of a name and what it says, and tables below a name.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, name: &str, says: &str) {
        let _ = writeln!(self.text, "{name:<NAMES$}{says}");
    }

    fn gap(&mut self) {
        self.text.push('\n');
    }

    fn table(&mut self, table: &Table) {
        let cells = |row: &[String], at: usize| row.get(at).map_or(0, |cell| cell.chars().count());
        let count = table.rows.iter().map(Vec::len).max().unwrap_or(0).max(table.head.len());
        let widths: Vec<usize> = (0..count)
            .map(|at| table.rows.iter().chain([&table.head]).map(|row| cells(row, at)).max().unwrap_or(0))
            .collect();
        for row in [&table.head].into_iter().chain(&table.rows) {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let pad = widths[at] - cell.chars().count();
                match at {
                    0 => line.push_str(&format!("{cell}{}", " ".repeat(pad))),
                    _ if table.left_last && at + 1 == count => line.push_str(&format!("  {cell}")),
                    _ => line.push_str(&format!("  {}{cell}", " ".repeat(pad))),
                }
            }
            let _ = writeln!(self.text, "{:<NAMES$}{}", "", line.trim_end());
        }
    }
}

/// Rows of cells; the first column is set left, the others right.
#[derive(Default)]
struct Table {
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    left_last: bool,
}

impl Table {
    fn new(head: &[&str]) -> Self {
        Self { head: head.iter().map(|name| (*name).to_owned()).collect(), ..Self::default() }
    }

    fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The last column is words: set left.
    fn left_last(mut self) -> Self {
        self.left_last = true;
        self
    }
}
