//! Signals that end a run in order.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context as _, Result};
use mirror_images::output::report::Exit;
use mirror_images::store::registry::credentials::end_helpers;
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// The exit status of a run that a terminal which went away has ended.
const HUNG_UP: u8 = 129;

/// A future that ends at the first SIGINT, SIGTERM or SIGHUP, and the exit status that stands for it. Another SIGINT
/// or SIGTERM ends the program at once; another SIGHUP does not, for a terminal that goes away can send two.
pub(crate) fn watch_signals() -> Result<(impl Future<Output = ()>, Arc<AtomicU8>)> {
    // A file that would be larger than it may be is an error, and not the end of the program.
    let _ = signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).context("cannot watch for SIGXFSZ")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot watch for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot watch for SIGTERM")?;
    let mut hang_up = if ignores_hang_up() {
        None
    } else {
        Some(signal(SignalKind::hangup()).context("cannot watch for SIGHUP")?)
    };
    let by = Arc::new(AtomicU8::new(Exit::Interrupted as u8));
    let status = by.clone();
    let mut next = async move || {
        tokio::select! {
            _ = interrupt.recv() => Exit::Interrupted as u8,
            _ = terminate.recv() => 143,
            _ = async { hang_up.as_mut().expect("only if there is one").recv().await }, if hang_up.is_some() => HUNG_UP,
        }
    };
    let first = async move {
        status.store(next().await, Ordering::Relaxed);
        tracing::warn!("stopping; once more ends at once");
        tokio::spawn(async move {
            loop {
                let status = next().await;
                if status != HUNG_UP {
                    end_helpers();
                    std::process::exit(i32::from(status));
                }
            }
        });
    };
    Ok((first, by))
}

/// Whether the program was started to outlive its terminal, as by nohup: to watch for the signal would undo that.
/// Where it cannot be told (proc(5), `SigIgn`), the signal does what it always did.
fn ignores_hang_up() -> bool {
    let ignored = std::fs::read_to_string("/proc/self/status").ok().and_then(|status| {
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    ignored.is_none_or(|mask| mask & 1 != 0)
}
