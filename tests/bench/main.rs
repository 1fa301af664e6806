//! Measures this tool beside others that copy images: the same images, the same registries, in turn.
//!
//! It is no test: it asserts no times. It fails only if this tool leaves a target that is not what it should be.

// A program of its own has no outside, and prints.
#![allow(unreachable_pub, clippy::print_stdout)]

mod arena;
mod ceilings;
mod kubeone_engine;
mod options;
mod relay;
mod scale;
mod set;
#[path = "../support/mod.rs"]
mod support;
mod table;
mod tiny_images;
mod tools;
mod usage;
mod verify;

use std::path::Path;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use crate::arena::{Arena, Place, Traffic};
use crate::options::Options;
use crate::set::Set;
use crate::support::Failure;
use crate::support::process::require;
use crate::table::{Column, Least, Sample, of_line, table};
use crate::tools::{OURS, Orders, Tool};
use crate::verify::verify;

/// So many of the things that were wrong with a run are printed.
const FAULTS_SHOWN: usize = 5;

fn main() -> ExitCode {
    let Some(options) = Options::from_arguments() else {
        println!("nothing to do here but for cargo bench --bench mirror");
        return ExitCode::SUCCESS;
    };
    let done = if !options.scale.is_empty() {
        scale::measure(&options)
    } else if require("docker-registry") {
        compare(&options)
    } else {
        Ok(false)
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether all runs of this tool were right.
fn compare(options: &Options) -> Result<bool, Failure> {
    eprintln!("making the set and filling the source");
    let set = Set::new(options.small);
    let arena = Arena::start(options, &set)?;
    let tools = tools::find(options);
    introduce(&arena, &set, &tools)?;
    let mut columns: Vec<Column> =
        tools.iter().map(|tool| Column { name: tool.name, first: vec![], again: vec![] }).collect();
    let mut right = true;
    for round in 0..options.rounds {
        for (tool, column) in tools.iter().zip(&mut columns) {
            match turn(&arena, &set, tool, round)? {
                Ok((first, again)) => {
                    column.first.push(first);
                    column.again.push(again);
                }
                Err(faults) => {
                    right &= tool.name != OURS;
                    complain(tool, &faults);
                }
            }
        }
    }
    println!("\n{}", table(&columns, options.delay()));
    if let Some(rate) = options.rate {
        for column in &columns {
            let share = of_line(&column.first, rate).unwrap_or_default();
            println!("{}: {:.0} % of the line", column.name, share * 100.0);
        }
    }
    Ok(right)
}

/// When, on what machine, how busy that was before (the load of the last minute), and what is measured.
fn circumstances(options: &Options) -> String {
    let cores = available_parallelism().map_or(0, usize::from);
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    format!("{date}; {cores} cores; load {load}; {}", options.conditions())
}

/// Tells why a run is not counted.
fn complain(tool: &Tool, faults: &[String]) {
    let shown = &faults[..faults.len().min(FAULTS_SHOWN)];
    eprintln!("{}: not counted: {} faults:\n{}", tool.name, faults.len(), shown.join("\n"));
}

fn introduce(arena: &Arena<'_>, set: &Set, tools: &[Tool]) -> Result<(), Failure> {
    println!("{}", circumstances(arena.options));
    let named: Vec<String> = tools.iter().map(|tool| format!("{} {}", tool.name, tool.version)).collect();
    let debian = tools::version(Path::new("docker-registry"), "--version");
    let target = arena.options.target_program.as_deref().map(|p| tools::version(p, "--version"));
    println!("{}; registry {debian}, target {}", named.join(", "), target.as_ref().unwrap_or(&debian));
    let least = Least::of(set);
    println!(
        "{} references in {} repositories, {} manifests, {} unique blobs, {:.3} GB, {:.3} GB with a copy for each repository",
        least.references,
        least.repositories,
        least.manifests,
        least.blobs,
        least.bytes as f64 / 1e9,
        least.apart as f64 / 1e9
    );
    println!("requests by arithmetic: {} at the source, {} at the target", least.at_source, least.at_target);
    let ceilings = ceilings::measure(arena)?;
    println!(
        "this machine: SHA-256 {:.0} MB/s, loopback {:.0} MB/s, ingest of the target {:.0} MB/s",
        ceilings.hash / 1e6,
        ceilings.loopback / 1e6,
        ceilings.ingest / 1e6
    );
    Ok(())
}

/// A first run into a fresh target and a second one, or what was wrong with them.
fn turn(
    arena: &Arena<'_>,
    set: &Set,
    tool: &Tool,
    round: usize,
) -> Result<Result<(Sample, Sample), Vec<String>>, Failure> {
    let target = arena.target()?;
    let first = measure(arena, set, &target, tool.orders(arena, set, &target)?);
    let mut faults = first.usage.failures.clone();
    faults.extend(verify(arena, set, &target, round));
    let again = measure(arena, set, &target, tool.orders(arena, set, &target)?);
    faults.extend(again.usage.failures.clone());
    eprintln!(
        "round {}, {}: {:.2} s, CPU {:.2} s, {} MB, {} + {} requests; again {:.2} s",
        round + 1,
        tool.name,
        first.usage.wall.as_secs_f64(),
        first.usage.cpu.as_secs_f64(),
        first.usage.memory / 1_000_000,
        first.source.requests,
        first.target.requests,
        again.usage.wall.as_secs_f64()
    );
    Ok(if faults.is_empty() { Ok((first, again)) } else { Err(faults) })
}

fn measure(arena: &Arena<'_>, set: &Set, target: &Place, orders: Orders) -> Sample {
    let before: [Traffic; 2] = [arena.source.traffic(set), target.traffic(set)];
    let began = Instant::now();
    let usage = usage::run(orders.commands, orders.at_once);
    let [source, target] = [arena.source.traffic(set) - before[0], target.traffic(set) - before[1]];
    Sample { usage, source, target, first_blob: arena.source.first_blob(began) }
}
