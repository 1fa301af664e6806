//! What was measured, as a table.

use std::fmt::Write as _;
use std::time::Duration;

use crate::arena::Traffic;
use crate::set::Set;
use crate::usage::Usage;

/// One run of one tool.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    pub usage: Usage,
    pub source: Traffic,
    pub target: Traffic,
    /// From the start until the source had handed out its first blob.
    pub first_blob: Option<Duration>,
}

/// All counted runs of one tool.
pub struct Column {
    pub name: &'static str,
    pub first: Vec<Sample>,
    pub again: Vec<Sample>,
}

/// What a number means, and so how it is written.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Bytes,
    Count,
    RoundTrips,
}

pub type Measure = fn(&Sample) -> f64;

const FIRST: [(&str, Unit, Measure); 9] = [
    ("wall", Unit::Seconds, |s| s.usage.wall.as_secs_f64()),
    ("CPU of the tool", Unit::Seconds, |s| s.usage.cpu.as_secs_f64()),
    ("CPU of both registries", Unit::Seconds, |s| (s.source.cpu + s.target.cpu).as_secs_f64()),
    ("memory, all processes", Unit::Bytes, |s| s.usage.memory as f64),
    ("requests at the source", Unit::Count, |s| s.source.requests as f64),
    ("requests at the target", Unit::Count, |s| s.target.requests as f64),
    ("pulled", Unit::Bytes, |s| s.source.served as f64),
    ("pushed", Unit::Bytes, |s| s.target.taken as f64),
    ("wall, slowest", Unit::Seconds, |s| s.usage.wall.as_secs_f64()),
];

const AGAIN: [(&str, Unit, Measure); 3] = [
    ("re-run: wall", Unit::Seconds, |s| s.usage.wall.as_secs_f64()),
    ("re-run: CPU of the tool", Unit::Seconds, |s| s.usage.cpu.as_secs_f64()),
    ("re-run: requests", Unit::Count, |s| (s.source.requests + s.target.requests) as f64),
];

/// Medians, each with its ratio to the first column's. `delay` is the time of a round trip, if they take any.
pub fn table(columns: &[Column], delay: Duration) -> String {
    let mut text = String::from("| |");
    for column in columns {
        let _ = write!(text, " {} |", column.name);
    }
    text += "\n|---|";
    text += &"---:|".repeat(columns.len());
    text.push('\n');
    for (name, unit, measure) in FIRST {
        let slowest = name.ends_with("slowest");
        let value = |column: &Column| pick(&column.first, measure, slowest);
        line(&mut text, name, unit, columns.iter().map(value).collect());
    }
    let (unit, one) =
        if delay.is_zero() { (Unit::Seconds, 1.0) } else { (Unit::RoundTrips, delay.as_secs_f64()) };
    let value = |column: &Column| pick(&column.first, first_blob, false).map(|seconds| seconds / one);
    line(&mut text, "first blob after", unit, columns.iter().map(value).collect());
    for (name, unit, measure) in AGAIN {
        let value = |column: &Column| pick(&column.again, measure, false);
        line(&mut text, name, unit, columns.iter().map(value).collect());
    }
    text
}

fn first_blob(sample: &Sample) -> f64 {
    sample.first_blob.map_or(f64::NAN, |after| after.as_secs_f64())
}

fn line(text: &mut String, name: &str, unit: Unit, values: Vec<Option<f64>>) {
    let _ = write!(text, "| {name} |");
    let ours = values.first().copied().flatten();
    for (number, value) in values.into_iter().enumerate() {
        let _ = match (value, ours) {
            (None, _) => write!(text, " wrong |"),
            (Some(value), Some(ours)) if number > 0 && ours > 0.0 => {
                write!(text, " {} (× {:.2}) |", show(value, unit), value / ours)
            }
            (Some(value), _) => write!(text, " {} |", show(value, unit)),
        };
    }
    text.push('\n');
}

/// The median, or the largest.
pub fn pick(samples: &[Sample], measure: Measure, largest: bool) -> Option<f64> {
    let mut values: Vec<f64> = samples.iter().map(measure).collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (largest, values.len().is_multiple_of(2)) {
        (true, _) => values.last().copied(),
        (false, false) => values.get(middle).copied(),
        (false, true) => values.get(middle).map(|high| (high + values[middle - 1]) / 2.0),
    }
}

fn show(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Seconds if value < 10.0 => format!("{value:.2} s"),
        Unit::Seconds => format!("{value:.1} s"),
        Unit::Bytes if value >= 1e9 => format!("{:.2} GB", value / 1e9),
        Unit::Bytes => format!("{:.0} MB", value / 1e6),
        Unit::Count => format!("{value:.0}"),
        Unit::RoundTrips => format!("{value:.1} round trips"),
    }
}

/// The least that a first run can make do with: what the rules of the transfer come to for this set.
pub struct Least {
    pub references: usize,
    pub repositories: usize,
    pub manifests: usize,
    pub blobs: usize,
    /// Bytes of unique blobs.
    pub bytes: u64,
    /// Bytes if every repository gets its own copy.
    pub apart: u64,
    pub at_source: usize,
    pub at_target: usize,
}

impl Least {
    pub fn of(set: &Set) -> Self {
        let content = &set.content;
        let copies =
            |name: &str| set.images.iter().find(|i| i.repository == name).map_or(0, |i| i.destinations.len());
        let (mut pairs, mut puts, mut apart) = (0, 0, 0);
        for (name, repository) in &content.repositories {
            pairs += repository.blobs.len() * copies(name);
            puts += repository.manifests.len() * copies(name);
            apart += repository.blobs.iter().map(|digest| content.blobs[digest].size).sum::<u64>();
        }
        let links: usize = content.repositories.values().map(|r| r.manifests.len()).sum();
        let tags = set.wanted().len();
        let blobs = content.blobs.len();
        let mounts = pairs - blobs;
        // What the first mount has brought is looked at.
        let looks = usize::from(mounts > 0);
        Self {
            references: set.images.len(),
            repositories: content.repositories.len(),
            manifests: content.manifests.len(),
            blobs,
            bytes: content.blob_bytes(),
            apart,
            at_source: links + blobs,
            at_target: tags + 2 * blobs + mounts + looks + puts,
        }
    }
}

/// Share of the line that was used, from the wall time of the median run.
pub fn of_line(samples: &[Sample], megabits: u64) -> Option<f64> {
    let speed =
        |s: &Sample| s.source.served as f64 * 8.0 / s.usage.wall.max(Duration::from_millis(1)).as_secs_f64();
    pick(samples, speed, false).map(|speed| speed / (megabits as f64 * 1e6))
}
