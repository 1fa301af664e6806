//! Blobs whose bytes are made when they are read.

use std::fmt;
use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};

use crate::support::digest::{Digest, Hasher};

const BLOCK: u64 = 64 * 1024;
const CHUNK: u64 = 4 * BLOCK;

/// Noise shared by all generated blobs. A blob stamps its seed and the block's number over the
/// head of each copy: unique, seekable, and as fast as a memory copy even in a debug build.
static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut state = 0x243f_6a88_85a3_08d3_u64;
    let words = (0..BLOCK / 8).map(|_| mix(&mut state).to_le_bytes());
    words.flatten().collect()
});

/// splitmix64: small, and good enough to look like compressed data.
pub(super) fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Clone)]
enum Source {
    Literal(Bytes),
    Generated { seed: u64 },
}

#[derive(Clone)]
pub struct Blob {
    pub digest: Digest,
    pub size: u64,
    source: Source,
}

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({}, {} bytes)", self.digest, self.size)
    }
}

impl Blob {
    pub fn literal(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            digest: crate::support::digest::sha256(&bytes),
            size: bytes.len() as u64,
            source: Source::Literal(bytes),
        }
    }

    /// Bytes whose digest has been verified before.
    pub fn stored(digest: &str, bytes: Bytes) -> Self {
        Self { digest: digest.to_owned(), size: bytes.len() as u64, source: Source::Literal(bytes) }
    }

    /// `size` bytes made from `seed`; reads itself once, chunk by chunk, for its digest.
    pub fn generated(seed: u64, size: u64) -> Self {
        let mut blob = Self { digest: String::new(), size, source: Source::Generated { seed } };
        let mut hasher = Hasher::default();
        blob.chunks(0..size).for_each(|chunk| hasher.update(&chunk));
        blob.digest = hasher.finish();
        blob
    }

    /// The bytes of a range in chunks of at most 256 KiB.
    pub fn chunks(&self, range: Range<u64>) -> impl Iterator<Item = Bytes> + Send + 'static {
        let blob = self.clone();
        let end = range.end.min(self.size);
        let mut at = range.start;
        std::iter::from_fn(move || {
            let stop = end.min((at / CHUNK + 1) * CHUNK);
            (at < stop).then(|| {
                let chunk = blob.read(at..stop);
                at = stop;
                chunk
            })
        })
    }

    /// A range at once; for small ones.
    pub fn read(&self, range: Range<u64>) -> Bytes {
        match &self.source {
            Source::Literal(bytes) => bytes.slice(range.start as usize..range.end as usize),
            Source::Generated { seed } => generate(*seed, range),
        }
    }

    pub fn bytes(&self) -> Bytes {
        self.read(0..self.size)
    }
}

fn generate(seed: u64, range: Range<u64>) -> Bytes {
    let mut out = BytesMut::with_capacity((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        let block = at / BLOCK;
        let from = (at % BLOCK) as usize;
        let to = (range.end - block * BLOCK).min(BLOCK) as usize;
        let stamp = stamp(seed, block);
        let head = from.min(stamp.len())..to.min(stamp.len());
        out.extend_from_slice(&stamp[head]);
        out.extend_from_slice(&NOISE[from.max(stamp.len()).min(to)..to]);
        at = block * BLOCK + to as u64;
    }
    out.freeze()
}

fn stamp(seed: u64, block: u64) -> [u8; 16] {
    let mut state = seed ^ block.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let mut stamp = [0; 16];
    stamp[..8].copy_from_slice(&mix(&mut state).to_le_bytes());
    stamp[8..].copy_from_slice(&mix(&mut state).to_le_bytes());
    stamp
}
