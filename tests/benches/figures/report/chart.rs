//! `start.svg`: how long it takes until there is a cluster, as horizontal bars.

use super::published::{FIGURES, NOTE};
use crate::record::Record;
use std::fmt::Write as _;

const WIDTH: f64 = 960.0;
/// Where bars begin and end.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 860.0;
const TOP: f64 = 86.0;
const ROW: f64 = 34.0;
const BAR: f64 = 20.0;
/// The axis, in seconds. It is logarithmic: the figures are of several magnitudes.
const LEAST: f64 = 0.1;
const MOST: f64 = 300.0;
const TICKS: &[f64] = &[0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0];

/// What is shown of what was measured: the figure, how it is called, the colour.
const MEASURED: &[(&str, &str, &str)] = &[
    ("floor", "the floor: bare QEMU, restored", FLOOR),
    ("fresh.return", "fresh start", OURS),
    (
        "fresh.uncached.return",
        "fresh start, page cache empty",
        OURS,
    ),
    ("resume.return", "start of a stopped cluster", OURS),
    ("run", "run -- true, with its deletion", OURS),
    ("first.return", "first start: boots cold, once", OURS),
];
const FLOOR: &str = "#8a949e";
const OURS: &str = "#1f6f8b";
const OTHERS: &str = "#d08a2e";
const TEXT: &str = "#1c2329";
const GRID: &str = "#dde2e6";

struct Bar {
    label: String,
    seconds: f64,
    colour: &'static str,
}

/// Its text.
pub(crate) fn of(record: &Record) -> String {
    let measured = MEASURED.iter().filter_map(|(id, label, colour)| {
        Some(Bar {
            label: (*label).to_owned(),
            seconds: record.value(id)?,
            colour,
        })
    });
    let published = FIGURES.iter().map(|one| Bar {
        label: format!("{}, as published", one.who),
        seconds: one.seconds,
        colour: OTHERS,
    });
    draw(
        &measured.chain(published).collect::<Vec<_>>(),
        &conditions(record),
    )
}

/// On what it was measured, in one line.
fn conditions(record: &Record) -> String {
    let fact = |name: &str| {
        let found = record.facts().iter().find(|(known, _)| *known == name);
        found.map_or_else(String::new, |(_, value)| {
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned)
        })
    };
    let accelerator = fact("accelerator");
    let accelerator = match accelerator.split(',').next() {
        Some("tcg") => "software emulation (tcg)",
        Some(other) => other,
        None => "unknown",
    };
    format!("{} cores, {accelerator}", fact("cores"))
}

fn draw(bars: &[Bar], conditions: &str) -> String {
    let bottom = TOP + ROW * bars.len() as f64;
    let height = bottom + 120.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"14\" fill=\"{TEXT}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    text(
        &mut svg,
        (24.0, 36.0),
        "start",
        20,
        "Until there is a Kubernetes cluster",
    );
    let subtitle = format!("Coracle measured here: {conditions}. Median, in seconds.");
    text(&mut svg, (24.0, 60.0), "start", 13, &subtitle);
    for tick in TICKS {
        let at = place(*tick);
        line(&mut svg, at, bottom);
        text(
            &mut svg,
            (at, bottom + 18.0),
            "middle",
            12,
            &tick.to_string(),
        );
    }
    let middle = f64::midpoint(LEFT, RIGHT);
    let axis = "seconds, logarithmic scale";
    text(&mut svg, (middle, bottom + 40.0), "middle", 12, axis);
    for (index, bar) in bars.iter().enumerate() {
        let top = TOP + ROW * index as f64 + (ROW - BAR) / 2.0;
        let base = top + BAR / 2.0 + 5.0;
        text(&mut svg, (LEFT - 12.0, base), "end", 14, &bar.label);
        let size = ((place(bar.seconds) - LEFT).max(1.0), BAR);
        rectangle(&mut svg, (LEFT, top), size, bar.colour);
        let value = match bar.seconds {
            seconds if seconds < 10.0 => format!("{seconds:.2}"),
            seconds => format!("{seconds:.1}"),
        };
        text(
            &mut svg,
            (place(bar.seconds) + 8.0, base),
            "start",
            14,
            &value,
        );
    }
    let others =
        format!("others, {NOTE}: until an app runs and DNS answers (Minikube's benchmark)");
    let legend = [
        (24.0, 60.0, FLOOR, "QEMU without Coracle"),
        (214.0, 60.0, OURS, "Coracle, measured here"),
        (24.0, 84.0, OTHERS, &others),
    ];
    for (left, top, colour, label) in legend {
        rectangle(&mut svg, (left, bottom + top), (14.0, 14.0), colour);
        text(
            &mut svg,
            (left + 22.0, bottom + top + 12.0),
            "start",
            13,
            label,
        );
    }
    svg + "</svg>\n"
}

/// Where a time is on the axis.
fn place(seconds: f64) -> f64 {
    let share = (seconds.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LEFT + share * (RIGHT - LEFT)
}

fn line(svg: &mut String, x: f64, bottom: f64) {
    let (x, top) = (round(x), TOP - 4.0);
    let _ = writeln!(
        svg,
        "<line x1=\"{x}\" x2=\"{x}\" y1=\"{top}\" y2=\"{bottom}\" stroke=\"{GRID}\"/>"
    );
}

fn rectangle(svg: &mut String, (x, y): (f64, f64), (width, height): (f64, f64), colour: &str) {
    let (x, y, width) = (round(x), round(y), round(width));
    let _ = writeln!(
        svg,
        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" rx=\"2\" fill=\"{colour}\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, size: u32, content: &str) {
    let content = content.replace('&', "&amp;").replace('<', "&lt;");
    let (x, y) = (round(x), round(y));
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" font-size=\"{size}\">{content}</text>"
    );
}

fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
