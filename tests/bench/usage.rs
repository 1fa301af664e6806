//! Runs processes, many at a time, and measures what all of them together take.

use std::collections::{BTreeSet, VecDeque};
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// The kernel counts processor time for user space in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

#[derive(Clone, Debug, Default)]
pub struct Usage {
    pub wall: Duration,
    /// User and system time of all processes.
    pub cpu: Duration,
    /// Most bytes resident at one time, over all processes.
    pub memory: u64,
    /// What failed processes said.
    pub failures: Vec<String>,
}

/// Runs all `commands`, at most `at_once` at a time.
pub fn run(commands: Vec<Command>, at_once: usize) -> Usage {
    let alone = commands.len() == 1;
    let waiting: Mutex<VecDeque<Command>> = Mutex::new(commands.into());
    let running: Mutex<BTreeSet<u32>> = Mutex::default();
    let failures: Mutex<Vec<String>> = Mutex::default();
    let over = AtomicBool::new(false);
    let (cpu_before, began) = (cpu_of_children(), Instant::now());
    let (wall, memory) = thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&running, &over, alone));
        let worker = || {
            loop {
                let next = lock(&waiting).pop_front();
                let Some(command) = next else { return };
                if let Err(why) = run_one(command, &running) {
                    lock(&failures).push(why);
                }
            }
        };
        let workers: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            worker.join().expect("no worker panics");
        }
        let wall = began.elapsed();
        over.store(true, Ordering::Relaxed);
        (wall, watching.join().expect("the watcher does not panic"))
    });
    let failures = failures.into_inner().expect("nothing panics while it holds this lock");
    Usage { wall, cpu: cpu_of_children() - cpu_before, memory, failures }
}

fn run_one(mut command: Command, running: &Mutex<BTreeSet<u32>>) -> Result<(), String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("{command:?}: {e}"))?;
    lock(running).insert(child.id());
    let mut said = Vec::new();
    let _ = child.stderr.take().expect("it is piped").read_to_end(&mut said);
    // Before its number can be another's.
    lock(running).remove(&child.id());
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}: {}", String::from_utf8_lossy(&said).trim())),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// The most that was resident at one time. The kernel knows the peak of one process; of several, the sum is looked
/// at often.
fn watch(running: &Mutex<BTreeSet<u32>>, over: &AtomicBool, alone: bool) -> u64 {
    let field = if alone { "VmHWM:" } else { "VmRSS:" };
    let mut most = 0;
    while !over.load(Ordering::Relaxed) {
        let now = lock(running).iter().map(|process| memory_of(*process, field)).sum();
        most = most.max(now);
        thread::sleep(LOOK);
    }
    most
}

fn memory_of(process: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processor time of a running process.
pub fn cpu_of(process: u32) -> Duration {
    ticks(&format!("/proc/{process}/stat"), 11)
}

/// Processor time of all children of this process that have ended, with their own children.
fn cpu_of_children() -> Duration {
    ticks("/proc/self/stat", 13)
}

/// Two neighbouring fields of a stat file, user and system time, by their place after the name in brackets.
fn ticks(file: &str, first: usize) -> Duration {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let both = fields.split_whitespace().skip(first).take(2).filter_map(|field| field.parse::<u32>().ok());
    TICK * both.sum::<u32>()
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics while it holds this lock")
}
