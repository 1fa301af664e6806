//! How the time, the processor time and the memory of a run grow with the number of images.

use std::fmt::Write as _;
use std::time::Duration;

use crate::arena::Traffic;
use crate::options::Options;
use crate::relay::Relay;
use crate::support::content::Content;
use crate::support::registry::RegistryBuilder;
use crate::support::{Failure, Keep, Net, Op, Registry};
use crate::table::{Measure, Sample, pick};
use crate::tiny_images::{HOST, TinyImages};
use crate::tools::{self, OURS, Orders, Tool, Way};
use crate::{circumstances, complain, usage};

/// So few images that the program itself is what takes memory; always measured, to compare with.
const BASE: usize = 100;
/// The goal: bytes that a run may hold whatever its size, and bytes for each image.
const FIXED: f64 = 64.0 * MIB;
const PER_IMAGE: f64 = 2.0 * KIB;
const KIB: f64 = 1024.0;
const MIB: f64 = 1024.0 * KIB;

/// All counted runs of one build with so many images.
struct Row {
    images: usize,
    first: Vec<Sample>,
    again: Vec<Sample>,
}

/// Prints a table for each build. Whether all runs of this tool were right.
pub fn measure(options: &Options) -> Result<bool, Failure> {
    println!("{}", circumstances(options));
    let tools = tools::builds(options);
    let mut sizes: Vec<usize> = options.scale.iter().map(|size| size.get()).chain([BASE]).collect();
    sizes.sort_unstable();
    sizes.dedup();
    let mut rows: Vec<Vec<Row>> = tools.iter().map(|_| Vec::new()).collect();
    let mut right = true;
    for size in sizes {
        let images = TinyImages::new(size);
        for (tool, rows) in tools.iter().zip(&mut rows) {
            let mut row = Row { images: size, first: vec![], again: vec![] };
            for _ in 0..options.rounds {
                match turn(options, &images, tool)? {
                    Ok((first, again)) => {
                        row.first.push(first);
                        row.again.push(again);
                    }
                    Err(faults) => {
                        right &= tool.name != OURS;
                        complain(tool, &faults);
                    }
                }
            }
            rows.push(row);
        }
    }
    for (tool, rows) in tools.iter().zip(&rows) {
        print!("\n{} {}\n\n{}", tool.name, tool.version, table(rows, options.delay()));
    }
    Ok(right)
}

/// A first run into an empty target and a second one, or what was wrong with them.
fn turn(
    options: &Options,
    images: &TinyImages,
    tool: &Tool,
) -> Result<Result<(Sample, Sample), Vec<String>>, Failure> {
    let net = Net::new();
    let start = |builder: RegistryBuilder| if options.tls { builder.tls() } else { builder }.start();
    let source = start(net.registry("source").content(&images.content));
    let target = start(net.registry("target").keep(Keep::Digests));
    let ways = [way_to(&source, options, options.rate)?, way_to(&target, options, None)?];
    let [from, to] = [(&ways[0], &source), (&ways[1], &target)]
        .map(|(relay, registry)| relay.as_ref().map_or(registry.addr(), |relay| relay.addr).to_string());
    let way = Way { options, ca: &net.ca_file(), from: &from, to: &to };
    let run = || -> Result<Sample, Failure> { Ok(sample(&net, tool.mirror(way, images.names(), HOST)?)) };

    let first = run()?;
    let mut faults = first.usage.failures.clone();
    faults.extend(wrong(&images.content, &target));
    let again = run()?;
    faults.extend(again.usage.failures.clone());
    faults.extend(net.journal().writes().iter().map(|entry| format!("the second run wrote: {entry}")));
    eprintln!(
        "{} images, {}: {:.2} s, CPU {:.2} s, {:.1} MiB; again {:.2} s, {:.1} MiB",
        images.count,
        tool.name,
        first.usage.wall.as_secs_f64(),
        first.usage.cpu.as_secs_f64(),
        first.usage.memory as f64 / MIB,
        again.usage.wall.as_secs_f64(),
        again.usage.memory as f64 / MIB,
    );
    Ok(if faults.is_empty() { Ok((first, again)) } else { Err(faults) })
}

fn way_to(registry: &Registry, options: &Options, rate: Option<u64>) -> Result<Option<Relay>, Failure> {
    let far = !options.delay().is_zero() || rate.is_some();
    far.then(|| Relay::start(registry.addr().ip(), registry.addr(), options.delay(), rate)).transpose()
}

/// Runs it, from a journal that is empty.
fn sample(net: &Net, orders: Orders) -> Sample {
    let journal = net.journal();
    journal.clear();
    let began = journal.now();
    let usage = usage::run(orders.commands, orders.at_once);
    let first_blob = journal.of("source", Op::BlobGet).first().map(|entry| entry.at - began);
    let [source, target] = ["source", "target"]
        .map(|host| Traffic { requests: journal.requests(host) as u64, ..Traffic::default() });
    Sample { usage, source, target, first_blob }
}

/// What the target lacks or has wrong.
fn wrong(content: &Content, target: &Registry) -> Vec<String> {
    let tags = content
        .tags()
        .filter(|(repository, tag, digest)| target.digest_of(repository, tag).as_ref() != Some(*digest));
    let mut faults: Vec<_> =
        tags.map(|(repository, tag, _)| format!("{repository}:{tag} is not right")).collect();
    faults.extend(target.incomplete_tags().into_iter().map(|name| format!("{name} is not whole")));
    faults
}

/// Medians. A ratio in brackets is to the line above: 1 is linear.
fn table(rows: &[Row], delay: Duration) -> String {
    let head = [
        "images",
        "run",
        "wall",
        "time an image",
        "CPU an image",
        "memory",
        "goal",
        "growth an image",
        "requests an image",
        "first blob after",
    ];
    let mut text = format!("| {} |\n|{}\n", head.join(" | "), "---:|".repeat(head.len()));
    lines(&mut text, "first", rows.iter().map(|row| (row.images, &*row.first)).collect(), delay);
    lines(&mut text, "again", rows.iter().map(|row| (row.images, &*row.again)).collect(), delay);
    text
}

/// A line for each number of images, the smallest first.
fn lines(text: &mut String, run: &str, series: Vec<(usize, &[Sample])>, delay: Duration) {
    let base = series.first().and_then(|(images, samples)| Some((*images, pick(samples, memory, false)?)));
    let mut before: Option<[f64; 2]> = None;
    for (images, samples) in series {
        let of = |measure: Measure| pick(samples, measure, false);
        let (Some(wall), Some(cpu), Some(memory), Some(requests)) =
            (of(wall), of(cpu), of(memory), of(requests))
        else {
            let _ = writeln!(text, "| {images} | {run} | wrong |");
            continue;
        };
        let count = images as f64;
        let each = [wall / count, cpu / count];
        let [wall_each, cpu_each] = [0, 1].map(|n| microseconds(each[n], before.map(|before| before[n])));
        before = Some(each);
        let goal = FIXED + PER_IMAGE * count;
        let kept = if memory <= goal { "kept" } else { "missed" };
        let growth = base.filter(|(few, _)| *few < images).map(|(few, least)| {
            let each = (memory - least) / (images - few) as f64;
            format!("{:.1} KiB", each / KIB)
        });
        let _ = writeln!(
            text,
            "| {images} | {run} | {wall:.2} s | {wall_each} | {cpu_each} | {:.1} MiB | {:.1} MiB, {kept} | {} | {:.2} | {} |",
            memory / MIB,
            goal / MIB,
            growth.unwrap_or_default(),
            requests / count,
            first_blob(samples, delay),
        );
    }
}

fn wall(sample: &Sample) -> f64 {
    sample.usage.wall.as_secs_f64()
}

fn cpu(sample: &Sample) -> f64 {
    sample.usage.cpu.as_secs_f64()
}

fn memory(sample: &Sample) -> f64 {
    sample.usage.memory as f64
}

fn requests(sample: &Sample) -> f64 {
    (sample.source.requests + sample.target.requests) as f64
}

/// Seconds as microseconds, with the ratio to `before`.
fn microseconds(seconds: f64, before: Option<f64>) -> String {
    let value = format!("{:.0} µs", seconds * 1e6);
    match before.filter(|before| *before > 0.0) {
        Some(before) => format!("{value} (× {:.2})", seconds / before),
        None => value,
    }
}

/// Empty where no blob was asked for.
fn first_blob(samples: &[Sample], delay: Duration) -> String {
    let measure = |sample: &Sample| sample.first_blob.map_or(f64::NAN, |after| after.as_secs_f64());
    match pick(samples, measure, false).filter(|after| !after.is_nan()) {
        None => String::new(),
        Some(after) if delay.is_zero() => format!("{after:.2} s"),
        Some(after) => format!("{:.1} round trips", after / delay.as_secs_f64()),
    }
}
