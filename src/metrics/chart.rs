//! A line chart as SVG: axes, ticks, a legend; light or dark as the reader's screen is.

use std::fmt::Write as _;

use super::Validation;

/// A named curve: its points `(x, y)` in the order they are joined.
pub type Curve = (String, Vec<(f64, f64)>);

/// Size of the picture and of what lies around the plot, in SVG units.
const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 430.0;
const LEFT: f64 = 66.0;
const RIGHT: f64 = 24.0;
const BOTTOM: f64 = 52.0;
const TOP: f64 = 48.0;
/// Height of a row of the legend, and the width of a character in it, generously.
const LEGEND_ROW: f64 = 22.0;
const CHARACTER: f64 = 7.4;
/// Curves with more points than this have no dots.
const DOTS: usize = 40;

/// Colours for the light and the dark screen, by Okabe & Ito ("Color Universal Design", 2008), which colour-blind readers
/// can tell apart; the dark ones are lighter.
const COLOURS: [(&str, &str); 6] = [
    ("#0072b2", "#56b4e9"),
    ("#d55e00", "#f28e4b"),
    ("#009e73", "#2fc79b"),
    ("#a3578a", "#d893bd"),
    ("#9a7a00", "#e6c229"),
    ("#555555", "#b8b8b8"),
];

/// The held-out loss of each source against the tokens trained, to draw. Sources come in the order they first appear in.
#[must_use]
pub fn held_out_losses(validations: &[Validation]) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for validation in validations {
        for source in &validation.sources {
            let point = (validation.tokens as f64, source.loss);
            match curves.iter_mut().find(|(name, _)| *name == source.name) {
                Some((_, points)) => points.push(point),
                None => curves.push((source.name.clone(), vec![point])),
            }
        }
    }
    curves
}

/// Draws named curves. A point that is not finite interrupts its curve.
///
/// The text is a whole SVG document; it follows the screen's light or dark mode and brings its own background, so it is
/// readable wherever it is shown. Beyond six curves colours come again, dashed.
#[must_use]
pub fn svg(curves: &[Curve], title: &str, x_label: &str, y_label: &str) -> String {
    let points = || curves.iter().flat_map(|(_, points)| points).filter(|(x, y)| x.is_finite() && y.is_finite());
    let (legend, legend_height) = legend(curves);
    let top = TOP + legend_height;
    let x = Axis::new(points().map(|point| point.0), 8, false).to(LEFT, WIDTH - RIGHT);
    let y = Axis::new(points().map(|point| point.1), 6, true).to(HEIGHT - BOTTOM, top);

    let mut out = String::new();
    head(&mut out, title);
    for value in x.ticks() {
        let (at, label) = (x.place(value), x.label(value));
        line(&mut out, "grid", [at, top, at, HEIGHT - BOTTOM]);
        text(&mut out, at, HEIGHT - BOTTOM + 20.0, "middle", "tick", &label);
    }
    for value in y.ticks() {
        let (at, label) = (y.place(value), y.label(value));
        line(&mut out, "grid", [LEFT, at, WIDTH - RIGHT, at]);
        text(&mut out, LEFT - 9.0, at + 4.0, "end", "tick", &label);
    }
    line(&mut out, "axis", [LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM]);
    text(&mut out, f64::midpoint(LEFT, WIDTH - RIGHT), HEIGHT - 12.0, "middle", "label", x_label);
    let middle = f64::midpoint(top, HEIGHT - BOTTOM);
    let _ = writeln!(out, r#"<g transform="translate(18 {middle:.1}) rotate(-90)">"#);
    text(&mut out, 0.0, 0.0, "middle", "label", y_label);
    out += "</g>\n";
    out += &legend;
    for (index, (_, points)) in curves.iter().enumerate() {
        curve(&mut out, &classes(index), points, &x, &y);
    }
    out += "</svg>\n";
    out
}

/// The opening, the colours of both modes, the background and the title.
fn head(out: &mut String, title: &str) {
    let rules = |dark: bool| {
        let colours = COLOURS.iter().enumerate().map(|(index, (light, night))| {
            let colour = if dark { night } else { light };
            format!(".c{index}{{stroke:{colour};fill:{colour}}}")
        });
        let [back, text, soft, grid] = if dark {
            ["#0d1117", "#e6edf3", "#9aa4af", "#262c34"]
        } else {
            ["#ffffff", "#1f2328", "#59636e", "#e4e7eb"]
        };
        format!(
            ".back{{fill:{back}}}.title,.name,.label{{fill:{text}}}.tick{{fill:{soft}}}.grid{{stroke:{grid}}}\
             .axis{{stroke:{soft}}}{}",
            colours.collect::<String>()
        )
    };
    let _ = writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">
<title>{title}</title>
<style>
text{{font-family:system-ui,-apple-system,"Segoe UI","DejaVu Sans",sans-serif;font-size:13px}}
.title{{font-size:16px;font-weight:600}}.tick{{font-size:12px}}
.curve{{fill:none!important;stroke-width:2.2;stroke-linejoin:round;stroke-linecap:round}}.dot{{stroke:none!important}}
.dashed{{stroke-dasharray:7 5}}
{}
@media (prefers-color-scheme:dark){{{}}}
</style>
<rect class="back" width="{WIDTH}" height="{HEIGHT}" rx="6"/>"#,
        rules(false),
        rules(true),
        title = escape(title)
    );
    text(out, LEFT, 30.0, "start", "title", title);
}

/// Names with a stroke of their curve, in as many rows as they need, and the height of those rows.
fn legend(curves: &[Curve]) -> (String, f64) {
    let mut out = String::new();
    let (mut left, mut baseline) = (LEFT, TOP + 6.0);
    for (index, (name, _)) in curves.iter().enumerate() {
        let width = 26.0 + CHARACTER * name.chars().count() as f64 + 16.0;
        if left + width > WIDTH - RIGHT + 16.0 && left > LEFT {
            (left, baseline) = (LEFT, baseline + LEGEND_ROW);
        }
        line(&mut out, &format!("curve {}", classes(index)), [left, baseline - 4.5, left + 20.0, baseline - 4.5]);
        text(&mut out, left + 26.0, baseline, "start", "name", name);
        left += width;
    }
    let height = if curves.is_empty() { 0.0 } else { baseline - TOP - 6.0 + LEGEND_ROW };
    (out, height)
}

/// One curve, in pieces where points are not finite, and its dots.
fn curve(out: &mut String, classes: &str, points: &[(f64, f64)], x: &Axis, y: &Axis) {
    let mut path = String::new();
    let mut pen_down = false;
    for point in points {
        let finite = point.0.is_finite() && point.1.is_finite();
        if finite {
            let command = if pen_down { 'L' } else { 'M' };
            let _ = write!(path, "{command}{:.1} {:.1}", x.place(point.0), y.place(point.1));
        }
        pen_down = finite;
    }
    let _ = writeln!(out, r#"<path class="curve {classes}" d="{path}"/>"#);
    if points.len() <= DOTS {
        for (px, py) in points.iter().filter(|(px, py)| px.is_finite() && py.is_finite()) {
            let (px, py) = (x.place(*px), y.place(*py));
            let _ = writeln!(out, r#"<circle class="dot {classes}" cx="{px:.1}" cy="{py:.1}" r="2.8"/>"#);
        }
    }
}

fn classes(index: usize) -> String {
    let dashed = if (index / COLOURS.len()) % 2 == 1 { " dashed" } else { "" };
    format!("c{}{dashed}", index % COLOURS.len())
}

fn line(out: &mut String, class: &str, [x1, y1, x2, y2]: [f64; 4]) {
    let _ = writeln!(out, r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#);
}

fn text(out: &mut String, x: f64, y: f64, anchor: &str, class: &str, text: &str) {
    let text = escape(text);
    let _ = writeln!(out, r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#);
}

/// Text as XML takes it; characters that XML 1.0 has no way to write are left out.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {}
            other => out.push(other),
        }
    }
    out
}

/// One axis: the range of values, where it is drawn, and ticks at multiples of a round step.
struct Axis {
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis for `values` with about `ticks` ticks; `whole` ends it on ticks.
    fn new(values: impl Iterator<Item = f64>, ticks: u32, whole: bool) -> Self {
        let (mut low, mut high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            (low, high) = (0.0, 1.0);
        } else if high - low <= f64::EPSILON * low.abs().max(high.abs()) {
            let around = if low == 0.0 { 0.5 } else { low.abs() / 2.0 };
            (low, high) = (low - around, high + around);
        }
        let step = round_step((high - low) / f64::from(ticks));
        if whole {
            (low, high) = ((low / step).floor() * step, (high / step).ceil() * step);
        }
        Self { low, high, step, from: 0.0, to: 1.0 }
    }

    fn to(self, from: f64, to: f64) -> Self {
        Self { from, to, ..self }
    }

    fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// Multiples of the step inside the range, with a hair's breadth for rounding.
    fn ticks(&self) -> impl Iterator<Item = f64> + use<> {
        let (step, hair) = (self.step, 1e-9);
        let first = (self.low / step - hair).ceil() as i64;
        let last = (self.high / step + hair).floor() as i64;
        (first..=last).map(move |n| n as f64 * step)
    }

    /// A value to the precision of the step, in thousands, millions or billions where the step is not far below them.
    fn label(&self, value: f64) -> String {
        let units = [(1e9, "B"), (1e6, "M"), (1e3, "k"), (1.0, "")];
        let large = |unit: f64| self.step >= unit / 10.0 && self.high.abs().max(self.low.abs()) >= unit;
        let (unit, name) = units.into_iter().find(|(unit, _)| large(*unit)).unwrap_or((1.0, ""));
        let decimals = (-(self.step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
        if value == 0.0 { "0".to_owned() } else { format!("{:.decimals$}{name}", value / unit) }
    }
}

/// The least of 1, 2, 5 times a power of ten that is not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= least * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::SourceLoss;

    fn labels(values: &[f64], ticks: u32) -> String {
        let axis = Axis::new(values.iter().copied(), ticks, true);
        axis.ticks().map(|tick| axis.label(tick)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn ticks_are_round_numbers_in_readable_units() {
        assert_eq!(labels(&[0.0, 400.0], 8), "0 50 100 150 200 250 300 350 400");
        assert_eq!(labels(&[2.07, 9.3], 6), "2 4 6 8 10");
        assert_eq!(labels(&[0.0, 6_553_600.0], 8), "0 1M 2M 3M 4M 5M 6M 7M");
        assert_eq!(labels(&[0.0, 1_200_000.0], 6), "0 0.2M 0.4M 0.6M 0.8M 1.0M 1.2M");
        assert_eq!(labels(&[3.001, 3.004], 6), "3.0010 3.0015 3.0020 3.0025 3.0030 3.0035 3.0040");
        assert_eq!(labels(&[-1.0, 1.0], 4), "-1.0 -0.5 0 0.5 1.0");
    }

    #[test]
    fn nothing_to_draw_and_a_single_value_still_make_a_chart() {
        assert_eq!(labels(&[], 4), "0 0.5 1.0");
        assert_eq!(labels(&[4.0], 4), "2 3 4 5 6");
        for curves in [vec![], vec![("none".to_owned(), vec![])], vec![("one".to_owned(), vec![(1.0, f64::NAN)])]] {
            assert!(!svg(&curves, "t", "x", "y").contains("NaN"));
        }
    }

    #[test]
    fn each_source_is_a_curve_over_the_tokens_trained() {
        let validation = |tokens, losses: &[(&str, f64)]| {
            let source = |(name, loss): &(&str, f64)| SourceLoss { name: (*name).to_owned(), loss: *loss, tokens: 1 };
            Validation { step: 0, tokens, sources: losses.iter().map(source).collect() }
        };
        let validations = [validation(0, &[("code", 9.0)]), validation(4096, &[("text", 4.0), ("code", 8.0)])];
        let expected = [("code".to_owned(), vec![(0.0, 9.0), (4096.0, 8.0)]), ("text".to_owned(), vec![(4096.0, 4.0)])];
        assert_eq!(held_out_losses(&validations), expected);
    }

    #[test]
    fn points_lie_where_their_values_are_and_a_gap_interrupts_the_curve() {
        let axis = Axis::new([0.0, 10.0].into_iter(), 5, true).to(100.0, 200.0);
        assert_eq!([0.0, 5.0, 10.0].map(|value| axis.place(value)), [100.0, 150.0, 200.0]);
        let mut out = String::new();
        curve(&mut out, "c0", &[(0.0, 0.0), (5.0, 5.0), (6.0, f64::NAN), (10.0, 10.0)], &axis, &axis);
        assert!(out.contains(r#"d="M100.0 100.0L150.0 150.0M200.0 200.0""#), "{out}");
        assert_eq!(out.matches("<circle").count(), 3);
    }

    #[test]
    fn names_are_escaped_and_a_long_legend_wraps() {
        let curves: Vec<_> = (0..9).map(|n| (format!("a <source> & {n}"), vec![(0.0, 1.0), (1.0, 2.0)])).collect();
        let picture = svg(&curves, "\"t\"", "x", "y");
        assert!(picture.contains("a &lt;source&gt; &amp; 8</text>"));
        assert!(picture.contains("<title>&quot;t&quot;</title>"));
        assert_eq!(legend(&curves).1, 3.0 * LEGEND_ROW);
        assert!(picture.contains("c0 dashed"));
    }
}
