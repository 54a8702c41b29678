//! Documents on their way from sources to what became of them: a Sankey diagram.

use std::fmt::Write as _;

use hephaestus_core::figures::thousands;

use super::{Outcome, escape, open, short, text};

/// Size of the picture without its margins, in SVG units.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 280.0;
/// Where the right column stands, and how wide a node is.
const RIGHT: f64 = 640.0;
const NODE: f64 = 9.0;
/// Least height that a node has for its words, and the space between nodes.
const SLOT: f64 = 17.0;
const GAP: f64 = 7.0;
/// Least thickness of a flow that is there at all.
const HAIR: f64 = 0.8;
/// Characters of a name, and the width of one, generously.
const NAME: usize = 22;
const CHARACTER: f64 = 7.6;

/// Draws the flow of documents from `sources` to `outcomes`, whose amounts are one a source.
pub(in crate::report) fn flow(sources: &[&str], outcomes: &[Outcome]) -> String {
    let documents = |outcome: &Outcome, source: usize| outcome.amounts.get(source).map_or(0, |a| a.documents) as f64;
    let from: Vec<f64> = (0..sources.len()).map(|at| outcomes.iter().map(|to| documents(to, at)).sum()).collect();
    let to: Vec<f64> = outcomes.iter().map(|to| (0..sources.len()).map(|at| documents(to, at)).sum()).collect();
    let whole: f64 = from.iter().sum();
    if whole <= 0.0 {
        return String::new();
    }
    let longest = sources.iter().map(|name| short(name, NAME).chars().count()).max().unwrap_or(0);
    let left = 12.0 + CHARACTER * longest as f64;
    let scale = HEIGHT / whole;
    let tall = |column: &[f64]| column.iter().map(|value| (value * scale).max(SLOT) + GAP).sum::<f64>();
    let height = tall(&from).max(tall(&to));
    let mut out = open(WIDTH, height, "documents from their sources to what became of them");
    // The next free place of each node, from above.
    let mut starts = places(&from, scale, (height - tall(&from)) / 2.0);
    let mut ends = places(&to, scale, (height - tall(&to)) / 2.0);
    let nodes = [(left, &from, starts.clone()), (RIGHT, &to, ends.clone())];
    for (outcome, end) in outcomes.iter().zip(&mut ends) {
        for (at, start) in starts.iter_mut().enumerate() {
            let value = documents(outcome, at);
            if value > 0.0 {
                let thick = (value * scale).max(HAIR);
                let (x, y, middle) = (left + NODE, *start, f64::midpoint(left + NODE, RIGHT));
                let (low, end_low) = (y + thick, *end + thick);
                let title = format!("{} → {}: {}", sources[at], outcome.name, thousands(value as u64));
                let _ = write!(
                    out,
                    r#"<path class="flow {}" d="M{x:.1} {y:.1}C{middle:.1} {y:.1} {middle:.1} {end:.1} {RIGHT:.1} {end:.1}L{RIGHT:.1} {end_low:.1}C{middle:.1} {end_low:.1} {middle:.1} {low:.1} {x:.1} {low:.1}Z"><title>{}</title></path>"#,
                    outcome.class,
                    escape(&title)
                );
                *start += value * scale;
                *end += value * scale;
            }
        }
    }
    for (x, values, places) in nodes {
        for (at, (value, place)) in values.iter().zip(places).enumerate() {
            let (tall, middle) =
                ((value * scale).max(HAIR), place + (value * scale).max(SLOT).min(value * scale) / 2.0);
            let class = if x < RIGHT { "node" } else { &outcomes[at].class };
            let _ = write!(
                out,
                r#"<rect class="{class}" x="{x:.1}" y="{place:.1}" width="{NODE}" height="{tall:.1}" rx="1.5"/>"#
            );
            let share = 100.0 * value / whole;
            let count = format!("{} · {share:.1} %", thousands(*value as u64));
            let baseline = middle.max(place + SLOT / 4.0) + 4.5;
            if x < RIGHT {
                text(&mut out, (x - 10.0, baseline), "end", "name", &short(sources[at], NAME));
            } else {
                text(&mut out, (x + NODE + 10.0, baseline), "start", "name", &short(&outcomes[at].name, NAME));
                text(&mut out, (WIDTH, baseline), "end", "soft", &count);
            }
        }
    }
    out + "</svg>"
}

/// Where each node of a column begins.
fn places(values: &[f64], scale: f64, top: f64) -> Vec<f64> {
    let mut next = top;
    let place = |value: &f64| {
        let place = next;
        next += (value * scale).max(SLOT) + GAP;
        place
    };
    values.iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Amount;

    #[test]
    fn flows_leave_a_source_side_by_side_and_are_as_thick_as_their_documents_are_many() {
        let amounts = |counts: [u64; 2]| counts.map(|documents| Amount { documents, bytes: 0 }).to_vec();
        let outcome = |name: &str, counts| Outcome { name: name.into(), class: name.into(), amounts: amounts(counts) };
        let drawn = flow(&["a", "<b>"], &[outcome("kept", [30, 40]), outcome("d0", [0, 30])]);
        assert_eq!(drawn.matches("class=\"flow kept\"").count(), 2);
        assert_eq!(drawn.matches("class=\"flow d0\"").count(), 1);
        // A source of 70 documents in a picture of 100: 196 of 280 units tall.
        assert!(
            drawn.contains(r#"height="196.0""#) && drawn.contains("&lt;b&gt;") && !drawn.contains("<b>"),
            "{drawn}"
        );
        assert_eq!(flow(&["a"], &[]), "");
    }
}
