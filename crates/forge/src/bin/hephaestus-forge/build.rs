//! `build`, `group` and `merge`: a recipe into corpora.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use hephaestus_core::corpus::Manifest;
use hephaestus_core::figures::{size, thousands};
use hephaestus_core::settings::{self, Settings as _};
use hephaestus_forge::build::{self, Built, Options, Plan, Shard, merge};
use hephaestus_forge::duplicates;
use hephaestus_forge::recipe::{self, Loaded, Recipe};

use crate::bad_records::BadRecords;

/// The recipe, and changes to it.
#[derive(Args)]
pub(crate) struct RecipeArgs {
    /// The forge recipe, a YAML file.
    #[arg(long, value_name = "FILE")]
    recipe: Option<PathBuf>,
    /// Override a key of the recipe, such as output=corpora/small or sources.code.inputs.0.paths.0=src; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Print the recipe's JSON Schema, for editors, and end.
    #[arg(long)]
    print_schema: bool,
}

#[derive(Args)]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print what would be read and how it is cut, and end.
    #[arg(long)]
    dry_run: bool,
    /// Do every n-th part, from the i-th on: one of n machines.
    #[arg(long, value_name = "I/N")]
    shard: Option<Shard>,
    /// Stop at the first bad record instead of skipping it.
    #[arg(long)]
    strict: bool,
    /// Build anew, discarding what is built or begun in the output folder.
    #[arg(long)]
    fresh: bool,
}

#[derive(Args)]
pub(crate) struct GroupArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Print the query that does the same in DuckDB or Spark SQL, and end.
    #[arg(long)]
    sql: bool,
}

#[derive(Args)]
pub(crate) struct MergeArgs {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Output folder of a machine that shares no disk with this one; may be repeated.
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
}

impl RecipeArgs {
    /// The recipe; `None` where its schema was asked for, which is then printed.
    fn load(&self) -> anyhow::Result<Option<Loaded>> {
        if self.print_schema {
            writeln!(std::io::stdout(), "{:#}", settings::schema::<Recipe>())?;
            return Ok(None);
        }
        let Some(path) = &self.recipe else { anyhow::bail!("--recipe FILE is missing, such as {}", Recipe::EXAMPLE) };
        Ok(Some(recipe::load(path, &self.set)?))
    }
}

pub(crate) fn build(args: &BuildArgs) -> anyhow::Result<ExitCode> {
    let Some(loaded) = args.recipe.load()? else { return Ok(ExitCode::SUCCESS) };
    if args.dry_run {
        return dry_run(&loaded.recipe);
    }
    let options = Options { shard: args.shard, strict: args.strict, fresh: args.fresh, merge: false };
    run(&loaded, &options)
}

pub(crate) fn group(args: &GroupArgs) -> anyhow::Result<ExitCode> {
    if args.sql {
        write!(std::io::stdout(), "{}", duplicates::SQL)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Some(loaded) = args.recipe.load()? else { return Ok(ExitCode::SUCCESS) };
    let summary = build::group(&loaded)?;
    eprintln!(
        "{} documents: {} equal to one before, {} nearly equal",
        thousands(summary.documents),
        thousands(summary.exact),
        thousands(summary.near),
    );
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn merge(args: &MergeArgs) -> anyhow::Result<ExitCode> {
    let Some(loaded) = args.recipe.load()? else { return Ok(ExitCode::SUCCESS) };
    if !args.from.is_empty() {
        let copied = merge::collect(&loaded.recipe, &loaded.recipe.vocabulary()?, &args.from)?;
        eprintln!("took over {} finished pieces", thousands(copied));
    }
    run(&loaded, &Options { merge: true, ..Options::default() })
}

fn run(loaded: &Loaded, options: &Options) -> anyhow::Result<ExitCode> {
    let mut bad = BadRecords::default();
    let built = build::run(loaded, options, &mut |record| bad.report(record))?;
    bad.close();
    let output = loaded.recipe.output.display();
    match built {
        Built::Corpora { corpora, bytes, phases } => {
            summary(&corpora, bytes, &phases)?;
            eprintln!("report      {output}/report.html, {output}/report.md");
        }
        Built::Already => eprintln!("{output}: built already, by this recipe from these inputs (--fresh builds anew)"),
        Built::Read => eprintln!(
            "shard read; when all are, run `hephaestus-forge group --recipe …` once, then this again on every machine"
        ),
        Built::Tokenized => {
            eprintln!("shard tokenized; when all are, run `hephaestus-forge merge --recipe …` once");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn summary(corpora: &[Manifest], bytes: u64, phases: &[(&str, Duration)]) -> anyhow::Result<()> {
    let mut err = std::io::stderr().lock();
    let width = corpora.iter().map(|corpus| corpus.source.len()).max().unwrap_or(0).max(10);
    for corpus in corpora {
        let (documents, tokens) = (thousands(corpus.documents), thousands(corpus.tokens));
        writeln!(err, "{:<width$}  {documents:>12} documents  {tokens:>15} tokens", corpus.source)?;
    }
    let (documents, tokens): (u64, u64) =
        corpora.iter().fold((0, 0), |sum, corpus| (sum.0 + corpus.documents, sum.1 + corpus.tokens));
    writeln!(
        err,
        "{:<width$}  {:>12} documents  {:>15} tokens, {:.2} bytes each",
        "together",
        thousands(documents),
        thousands(tokens),
        bytes as f64 / tokens.max(1) as f64
    )?;
    let told = phases.iter().filter(|(_, took)| took.as_millis() >= 50);
    let told: Vec<String> = told.map(|(phase, took)| format!("{phase} {:.1} s", took.as_secs_f64())).collect();
    writeln!(err, "time        {}", told.join(", "))?;
    Ok(())
}

fn dry_run(recipe: &Recipe) -> anyhow::Result<ExitCode> {
    let plan = Plan::new(recipe, &recipe.vocabulary()?)?;
    let mut out = std::io::stdout().lock();
    for (source, (name, described)) in recipe.sources.iter().enumerate() {
        for (at, input) in described.inputs.iter().enumerate() {
            let parts = || plan.parts.iter().filter(|part| part.source == source && part.input == at);
            let (count, bytes) = (parts().count(), parts().map(|part| part.bytes).sum());
            let reader = input.reader.name();
            writeln!(out, "{name:<16} {reader:<14} {:>10}  {:>6} parts", size(bytes), thousands(count as u64))?;
        }
    }
    writeln!(
        out,
        "{:<31} {:>10}  {:>6} parts -> {}",
        "together",
        size(plan.parts.iter().map(|part| part.bytes).sum()),
        thousands(plan.parts.len() as u64),
        recipe.output.display()
    )?;
    Ok(ExitCode::SUCCESS)
}
