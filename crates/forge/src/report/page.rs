//! A report as one HTML page: the template, and what it is given.
//!
//! Documents are hostile. The template escapes whatever it shows, characters that are not seen are shown as pictures, and
//! the page's own policy allows neither scripts nor any address, so that nothing in it could run even so.

use hephaestus_core::figures::{size, thousands};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, Value, context};

use super::chart::{self, Outcome};
use super::examples::Example;
use super::{Report, Source};
use crate::visible::visible;

const TEMPLATE: &str = include_str!("templates/report.html");
const STYLE: &str = include_str!("templates/report.css");

/// Renders the page.
pub(super) fn of(report: &Report) -> Result<String, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.add_filter("thousands", thousands);
    environment.add_filter("rounded", chart::rounded);
    environment.add_filter("size", size);
    environment.add_filter("percent", |share: f64| format!("{:.1} %", 100.0 * share));
    environment.add_filter("three", |share: f64| format!("{share:.3}"));
    environment.add_filter("visible", |text: &str| visible(text).into_owned());
    environment.add_template("report.html", TEMPLATE)?;
    let outcomes = chart::outcomes(report);
    let names: Vec<&str> = report.sources.iter().map(|source| source.name.as_str()).collect();
    let sources: Vec<Value> =
        report.sources.iter().enumerate().map(|(at, one)| source(report, one, at, &outcomes)).collect();
    let classifiers: Vec<Value> = report
        .classifiers
        .iter()
        .map(|classifier| context! { chart => safe(chart::sweep(classifier)), ..Value::from(Serde(classifier)) })
        .collect();
    environment.get_template("report.html")?.render(context! {
        style => safe(STYLE.to_owned()),
        flow => safe(chart::flow(&names, &outcomes)),
        total => figures(&report.total),
        clusters => safe(chart::columns(&report.duplicates.sizes, &report.duplicates.sizes, "groups", "near")),
        rules => report.rules().into_iter().map(|name| rule(report, name, &outcomes)).collect::<Vec<_>>(),
        report => Value::from(Serde(report)),
        outcomes => Value::from(Serde(&outcomes)),
        sources,
        classifiers,
    })
}

fn safe(markup: String) -> Value {
    Value::from_safe_string(markup)
}

/// What a row of figures shows, of a source or of all.
fn figures(source: &Source) -> Value {
    let figures = &source.figures;
    context! {
        name => &source.name,
        read => figures.read.documents,
        read_bytes => figures.read.bytes,
        bad => figures.bad.count,
        dropped => figures.dropped_together().documents,
        duplicates => source.exact.documents.saturating_add(source.near.documents),
        kept => figures.kept.documents,
        kept_bytes => figures.kept.bytes,
        apis => source.apis,
        providers => source.providers,
        tokens => figures.tokens,
        learned => figures.learned().round() as u64,
        learned_share => source.learned_share(),
        bytes_a_token => format!("{:.2}", source.bytes_a_token()),
    }
}

fn source(report: &Report, source: &Source, at: usize, outcomes: &[Outcome]) -> Value {
    let figures = &source.figures;
    let most = report.sources.iter().map(|source| source.figures.tokens).max().unwrap_or(0);
    context! {
        share => figures.tokens as f64 / report.total.figures.tokens.max(1) as f64,
        fate => safe(chart::fate(outcomes, at)),
        token_bar => safe(chart::tokens(source, most)),
        lengths => safe(chart::columns(&figures.lengths, &report.total.figures.lengths, "documents", "kept")),
        bad_records => Value::from(Serde(&figures.bad.first)),
        largest_providers => Value::from(Serde(&source.largest_providers)),
        examples => figures.examples.list().iter().map(example).collect::<Vec<_>>(),
        ..self::figures(source)
    }
}

/// A rule, what it dropped of each source, and examples.
fn rule(report: &Report, name: &str, outcomes: &[Outcome]) -> Value {
    let of = |source: &Source| source.figures.dropped.get(name).map_or(0, |dropped| dropped.amount.documents);
    let found = report.total.figures.dropped.get(name);
    let own = outcomes.iter().find(|outcome| outcome.name == name && outcome.class != "kept");
    context! {
        name,
        class => own.map_or("other", |outcome| outcome.class.as_str()),
        documents => of(&report.total),
        bytes => found.map_or(0, |dropped| dropped.amount.bytes),
        by_source => report.sources.iter().map(of).collect::<Vec<u64>>(),
        examples => found.map_or(&[][..], |found| found.examples.list()).iter().map(example).collect::<Vec<_>>(),
    }
}

fn example(example: &Example) -> Value {
    let Example { origin, detail, text, bytes } = example;
    context! { origin, detail, text, bytes => *bytes, whole => text.len() as u64 >= *bytes }
}
