//! What happens to a document between the file it lies in and the file it is kept in.

use std::collections::BTreeMap;

use super::BuildError;
use super::stored::Stored;
use crate::document::{Content, Document};
use crate::duplicates::{Signature, Signer};
use crate::quality::decontamination::Decontaminator;
use crate::quality::{Filter, Scrubbed, Scrubber};
use crate::readers::{BadRecord, Reader, Unit};
use crate::recipe::Recipe;
use crate::render::Renderer;
use crate::retrieval::{self, Classifier};

/// What became of a record.
pub(super) enum Outcome {
    /// It is no document.
    Bad(BadRecord),
    /// It was left out.
    Dropped {
        /// By which rule.
        rule: &'static str,
        /// What the rule found.
        detail: String,
        /// The benchmark it holds, where that is why.
        benchmark: Option<String>,
        /// Where it came from.
        origin: String,
        /// Its text.
        text: String,
        /// What was taken out of it.
        scrubbed: Scrubbed,
    },
    /// It is kept, unless it turns out to be a duplicate.
    Kept {
        /// As it is stored.
        stored: Box<Stored>,
        /// What tells duplicates of it.
        signature: Signature,
        /// What was taken out of it.
        scrubbed: Scrubbed,
    },
}

/// Everything a recipe says of documents, ready to be applied by any thread.
pub(super) struct Mill {
    sources: Vec<SourceMill>,
    decontaminator: Decontaminator,
    signer: Signer,
    classifiers: BTreeMap<String, Classifier>,
}

struct SourceMill {
    readers: Vec<Reader>,
    renderer: Renderer,
    scrubber: Scrubber,
    filter: Filter,
    select: Option<(String, f32)>,
}

impl Mill {
    /// Compiles templates and filters, reads benchmarks.
    pub(super) fn new(recipe: &Recipe) -> Result<Self, BuildError> {
        let source = |(name, source): (&String, &crate::recipe::Source)| -> Result<SourceMill, BuildError> {
            Ok(SourceMill {
                readers: source.inputs.iter().map(|input| Reader::new(input.clone())).collect(),
                renderer: Renderer::new(&source.render, recipe.seed, name, &recipe.tokenizer)?,
                scrubber: Scrubber::new(&source.quality.scrub)?,
                filter: Filter::new(&source.quality)?,
                select: source.select.as_ref().map(|select| (select.classifier.clone(), select.threshold as f32)),
            })
        };
        Ok(Self {
            sources: recipe.sources.iter().map(source).collect::<Result<_, _>>()?,
            decontaminator: Decontaminator::new(&recipe.decontamination)?,
            signer: Signer::new(&recipe.duplicates),
            classifiers: BTreeMap::new(),
        })
    }

    /// With the classifiers that sources select by.
    pub(super) fn with(self, classifiers: BTreeMap<String, Classifier>) -> Self {
        Self { classifiers, ..self }
    }

    /// The reader of an input.
    pub(super) fn reader(&self, source: usize, input: usize) -> &Reader {
        &self.sources[source].readers[input]
    }

    /// What becomes of the records of a unit.
    pub(super) fn grind(&self, source: usize, input: usize, unit: &Result<Unit, BadRecord>) -> Vec<Outcome> {
        let documents = match unit {
            Ok(unit) => self.reader(source, input).documents(unit),
            Err(bad) => vec![Err(bad.clone())],
        };
        if let (Ok(Unit::Record { path, position, .. }), []) = (unit, documents.as_slice()) {
            return vec![self.passed_over(source, input, position.origin(path))];
        }
        let one = |read| match read {
            Ok(document) => self.document(&self.sources[source], document),
            Err(bad) => Outcome::Bad(bad),
        };
        documents.into_iter().map(one).collect()
    }

    /// A record of which the reader made nothing: it was not selected, or is empty.
    fn passed_over(&self, source: usize, input: usize, origin: String) -> Outcome {
        let (rule, detail) = match self.reader(source, input).input.at_least.is_empty() {
            true => ("empty", "no text"),
            false => ("at_least", "below what the recipe asks for"),
        };
        let (detail, scrubbed) = (detail.to_owned(), Scrubbed::default());
        Outcome::Dropped { rule, detail, benchmark: None, origin, text: String::new(), scrubbed }
    }

    fn document(&self, source: &SourceMill, mut document: Document) -> Outcome {
        let scrubbed = source.scrubber.scrub(&mut document);
        let text = match source.renderer.render(&document) {
            Ok(text) => text,
            Err(reason) => return Outcome::Bad(BadRecord { origin: document.origin, reason }),
        };
        if let Some(Refusal { rule, detail, benchmark }) = self.refuse(source, &document, &text.text) {
            return Outcome::Dropped { rule, detail, benchmark, origin: document.origin, text: text.text, scrubbed };
        }
        let signature = self.signer.sign(&text.text);
        let called = match &document.content {
            Content::Conversation(conversation) => conversation.called().map(str::to_owned).collect(),
            Content::Text(_) | Content::Record { .. } => Vec::new(),
        };
        let stored = Box::new(Stored { origin: document.origin, facts: document.facts, called, text });
        Outcome::Kept { stored, signature, scrubbed }
    }

    /// The first rule that a document breaks.
    fn refuse(&self, source: &SourceMill, document: &Document, text: &str) -> Option<Refusal> {
        if text.trim().is_empty() {
            return Some(Refusal::new("empty", "nothing but white space".to_owned()));
        }
        if let Err(drop) = source.filter.judge(text) {
            return Some(Refusal::new(drop.rule, drop.detail));
        }
        if let Some((name, threshold)) = &source.select
            && let Some(classifier) = self.classifiers.get(name)
        {
            // It has learned from what documents say, not from how they are rendered.
            let score = classifier.score(&retrieval::plain(document.clone()));
            if score < *threshold {
                return Some(Refusal::new("classifier", format!("{name} scores {score:.3}, below {threshold}")));
            }
        }
        let hit = self.decontaminator.find(text)?;
        let detail = format!("{} {}: {}", hit.benchmark, hit.item, hit.ngram);
        Some(Refusal { benchmark: Some(hit.benchmark), ..Refusal::new("contaminated", detail) })
    }
}

/// Why a document is left out.
struct Refusal {
    rule: &'static str,
    detail: String,
    benchmark: Option<String>,
}

impl Refusal {
    fn new(rule: &'static str, detail: String) -> Self {
        Self { rule, detail, benchmark: None }
    }
}
