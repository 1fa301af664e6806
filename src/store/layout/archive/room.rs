//! Room on the disk, taken before it is needed: a run that has fetched for an hour is not to end for want of it.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use rustix::io::{Errno, Result};

/// Bytes that are needed, and bytes that there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub needed: u64,
    pub available: u64,
}

impl Room {
    pub(super) fn is_enough(self) -> bool {
        self.needed <= self.available
    }
}

/// What has to be found for `file` to have `size` bytes.
pub(super) fn of(file: &File, size: u64) -> Result<Room> {
    let system = fstatvfs(file)?;
    let available = system.f_bavail.saturating_mul(system.f_frsize);
    Ok(Room { needed: size.saturating_sub(taken(file)), available })
}

/// Bytes that a file takes on the disk.
pub(super) fn taken(file: &File) -> u64 {
    file.metadata().map_or(0, |there| there.blocks().saturating_mul(512))
}

/// Gives `file` its size, and takes the room for it.
///
/// # Errors
/// `NOSPC` where there is not enough, and what else the system says.
pub(super) fn take(file: &File, size: u64) -> Result<()> {
    take_with(file, size, |file, size| fallocate(file, FallocateFlags::empty(), 0, size))
}

fn take_with(file: &File, size: u64, allocate: impl FnOnce(&File, u64) -> Result<()>) -> Result<()> {
    match allocate(file, size) {
        // The file system cannot; what it says of its room has to do.
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
            if !of(file, size)?.is_enough() {
                return Err(Errno::NOSPC);
            }
            rustix::fs::ftruncate(file, size)
        }
        taken => taken,
    }
}

/// Gives the room of these bytes of a file back, where the file system can.
pub(super) fn give_back(file: &File, offset: u64, size: u64) {
    #[cfg(target_os = "linux")]
    {
        let _ = fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, size);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, offset, size);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_taken_before_anything_is_written() {
        let file = tempfile::tempfile().unwrap();
        take(&file, 3 << 20).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
        assert!(taken(&file) >= 3 << 20);
        give_back(&file, 0, 2 << 20);
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
        assert_eq!(of(&file, 3 << 20).unwrap().needed, (3 << 20) - taken(&file));
    }

    #[test]
    fn a_file_system_that_takes_no_room_beforehand_is_asked_for_what_it_has() {
        let unable = |_: &File, _| Err(Errno::OPNOTSUPP);
        let file = tempfile::tempfile().unwrap();
        take_with(&file, 3 << 20, unable).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
        assert_eq!(take_with(&file, 1 << 60, unable), Err(Errno::NOSPC));
        assert_eq!(file.metadata().unwrap().len(), 3 << 20);
        for told in [Errno::NOSPC, Errno::DQUOT, Errno::FBIG] {
            assert_eq!(take_with(&file, 1, |_, _| Err(told)), Err(told));
        }
    }
}
