//! How many files and connections the process may have open (`ulimit -n`).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than this is never needed.
const WANTED: u64 = 4096;
/// From here on nothing has to be kept short.
pub const PLENTY: u64 = 1024;

/// Raises the limit as far as the system lets everyone raise it, and says what it is now.
pub fn raise() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (now, most) = (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX));
    let wanted = WANTED.min(most);
    if now >= wanted {
        return now;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => wanted,
        Err(_) => now,
    }
}
