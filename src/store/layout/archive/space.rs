//! An archive's bytes, in one file or in parts of it that are cut anywhere.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

use super::room;
use super::scan::ReadAt;

/// Files one behind the other, as one.
#[derive(Debug)]
pub(crate) struct Space {
    files: Vec<File>,
    /// Bytes of each file but the last, which has no more.
    limit: u64,
}

impl Space {
    /// `limit` is what each of the files has, but the last.
    pub(super) fn new(files: Vec<File>, limit: u64) -> Self {
        Self { files, limit: limit.max(1) }
    }

    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    pub(super) fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut rest = bytes;
        self.each(bytes.len(), offset, |file, at, length| {
            let (piece, behind) = rest.split_at(length);
            rest = behind;
            file.write_all_at(piece, at)
        })
    }

    /// Gives the room of these bytes back.
    pub(super) fn give_back(&self, offset: u64, size: u64) {
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let _ = self.each(size, offset, |file, at, length| {
            room::give_back(file, at, length as u64);
            Ok(())
        });
    }

    /// Does something with each file that has some of the `length` bytes at `offset`.
    fn each(
        &self,
        length: usize,
        offset: u64,
        mut act: impl FnMut(&File, u64, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let (mut offset, mut length) = (offset, length);
        while length > 0 {
            let number = usize::try_from(offset / self.limit).unwrap_or(usize::MAX);
            let file = self.files.get(number).ok_or(io::ErrorKind::UnexpectedEof)?;
            let at = offset % self.limit;
            let there = usize::try_from(self.limit - at).unwrap_or(usize::MAX).min(length);
            act(file, at, there)?;
            offset += there as u64;
            length -= there;
        }
        Ok(())
    }
}

impl ReadAt for Space {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let length = buffer.len();
        let mut rest = buffer;
        self.each(length, offset, |file, at, length| {
            let (piece, behind) = std::mem::take(&mut rest).split_at_mut(length);
            rest = behind;
            ReadAt::read_exact_at(file, piece, at)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_go_over_the_ends_of_files() {
        let files = || (0..4).map(|_| tempfile::tempfile().unwrap()).collect();
        let bytes: Vec<u8> = (0..40).collect();
        for limit in 10..50 {
            let space = Space::new(files(), limit);
            space.write_all_at(&bytes[3..], 3).unwrap();
            space.write_all_at(&bytes[..3], 0).unwrap();
            let lengths = space.files().iter().map(|file| file.metadata().unwrap().len());
            assert_eq!(lengths.sum::<u64>(), 40);
            for begin in 0..40 {
                let mut read = vec![0; 40 - begin];
                space.read_exact_at(&mut read, begin as u64).unwrap();
                assert_eq!(read, bytes[begin..]);
            }
            assert!(space.read_exact_at(&mut [0; 2], 39).is_err());
        }
        assert!(Space::new(files(), 1).write_all_at(&bytes, 0).is_err());
    }
}
