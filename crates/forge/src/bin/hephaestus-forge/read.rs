//! `read`: documents as JSON lines, by a reader's name or as a source of a recipe has them.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use hephaestus_core::settings::quantity::Count;
use hephaestus_forge::build::preview;
use hephaestus_forge::readers::{BadRecord, Kind, Reader};
use hephaestus_forge::recipe::{self, Input};
use hephaestus_forge::render::Renderer;
use serde_json::json;

use crate::bad_records::BadRecords;

#[derive(Args)]
pub(crate) struct ReadArgs {
    /// Files and folders to read.
    #[arg(required_unless_present = "recipe")]
    inputs: Vec<PathBuf>,
    /// How to read them.
    #[arg(long, default_value = "text")]
    reader: Kind,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Read a source of this forge recipe instead, scrubbed, rendered and judged as a build does; "dropped" says why a
    /// document would be left out. Classifiers and duplicates are left aside.
    #[arg(long, value_name = "FILE", requires = "source", conflicts_with_all = ["inputs", "reader", "field", "extension", "exclude", "max_file_bytes"])]
    recipe: Option<PathBuf>,
    /// Which source of the recipe.
    #[arg(long, value_name = "NAME", requires = "recipe")]
    source: Option<String>,
    /// Override a key of the recipe; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", requires = "recipe")]
    set: Vec<String>,
}

/// What is read of the inputs that a command names.
#[derive(Args)]
pub(crate) struct ReadingArgs {
    /// jsonl: the key that holds the text, or a JSON pointer such as /a/b.
    #[arg(long, default_value = "text")]
    field: String,
    /// Extensions taken from folders, separated by commas, instead of the reader's own.
    #[arg(long, value_delimiter = ',', value_name = "EXT")]
    extension: Vec<String>,
    /// Leave out paths that match a glob, relative to each input folder; may be repeated.
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<String>,
    /// Largest file, or JSON line, that is read, such as 500k.
    #[arg(long, value_name = "BYTES", value_parser = parse_size)]
    max_file_bytes: Option<u64>,
    /// Stop at the first bad record instead of skipping it.
    #[arg(long)]
    pub(crate) strict: bool,
}

impl ReadingArgs {
    pub(crate) fn reader(&self, kind: Kind, paths: &[PathBuf]) -> Reader {
        Reader::new(Input {
            field: Some(self.field.clone()),
            extensions: self.extension.clone(),
            exclude: self.exclude.clone(),
            max_bytes: self.max_file_bytes.map(Count),
            ..Input::new(kind, paths)
        })
    }
}

pub(crate) fn read(args: &ReadArgs) -> anyhow::Result<ExitCode> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut bad = BadRecords::default();
    let mut print = |read: Result<serde_json::Value, BadRecord>| -> anyhow::Result<()> {
        match read {
            Ok(line) => writeln!(out, "{line}")?,
            Err(record) if args.reading.strict => anyhow::bail!("{record} (--strict)"),
            Err(record) => bad.report(&record),
        }
        Ok(())
    };
    if let (Some(path), Some(source)) = (&args.recipe, &args.source) {
        let loaded = recipe::load(path, &args.set)?;
        preview(&loaded.recipe, source, &mut |read| {
            print(read.map(|read| match read.dropped {
                None => json!({ "text": read.text, "origin": read.origin }),
                Some(dropped) => json!({ "text": read.text, "origin": read.origin, "dropped": dropped }),
            }))
        })?;
    } else {
        let reader = args.reading.reader(args.reader, &args.inputs);
        let renderer = Renderer::plain();
        let slices = reader.list()?.slices();
        for unit in reader.units(&slices) {
            for read in unit.map_or_else(|bad| vec![Err(bad)], |unit| reader.documents(&unit)) {
                print(read.map(|document| {
                    let text = renderer.render(&document).unwrap_or_default().text;
                    json!({ "text": text, "origin": document.origin })
                }))?;
            }
        }
    }
    out.flush()?;
    bad.close();
    Ok(ExitCode::SUCCESS)
}

/// Bytes as people write them: `500`, `500k`, `20M`, `1.5G`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let unit = text.trim_end_matches(['B', 'b']);
    let (number, scale) = match unit.chars().last() {
        Some('k' | 'K') => (&unit[..unit.len() - 1], 1e3),
        Some('m' | 'M') => (&unit[..unit.len() - 1], 1e6),
        Some('g' | 'G') => (&unit[..unit.len() - 1], 1e9),
        _ => (unit, 1.0),
    };
    match number.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * scale) as u64),
        _ => Err("expected a number of bytes above 0, such as 500000, 500k, 20M or 1G".to_owned()),
    }
}
