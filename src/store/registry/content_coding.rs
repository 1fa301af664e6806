//! Bodies that someone on the way has compressed, although they were asked for as they are (RFC 9110, section 8.4.1).
//!
//! What is taken off is the encoding of the transfer alone: a layer that is a gzip file by itself stays one.

use std::io::Write as _;

use bytes::Bytes;
use flate2::write::GzDecoder;
use reqwest::Response;
use reqwest::header::CONTENT_ENCODING;

/// Bytes that are decoded at a time; one of them becomes a thousand at most.
const STEP: usize = 4 << 10;

pub(super) fn is_gzip(response: &Response) -> bool {
    let encoding = response.headers().get(CONTENT_ENCODING);
    encoding.is_some_and(|e| e.as_bytes().eq_ignore_ascii_case(b"gzip") || e.as_bytes() == b"x-gzip")
}

/// Decodes a body piece by piece.
pub(super) struct Decoder(GzDecoder<Vec<u8>>);

impl Decoder {
    pub(super) fn new() -> Self {
        Self(GzDecoder::new(Vec::new()))
    }

    /// What `piece` adds, if that is not more than `limit` bytes.
    ///
    /// # Errors
    /// The body is no gzip, or is more than it should be.
    pub(super) fn decode(&mut self, piece: &[u8], limit: u64) -> Result<Bytes, &'static str> {
        for step in piece.chunks(STEP) {
            self.0.write_all(step).map_err(|_| "it says that it is gzip, and is not")?;
            self.0.flush().map_err(|_| "it says that it is gzip, and is not")?;
            if self.0.get_ref().len() as u64 > limit {
                return Err("it decodes to more bytes than it should");
            }
        }
        Ok(Bytes::from(std::mem::take(self.0.get_mut())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn pieces_decode_to_the_whole_and_a_bomb_is_stopped() {
        let whole: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut decoder = Decoder::new();
        let pieces = gzip(&whole);
        let decoded = pieces.chunks(777).flat_map(|piece| decoder.decode(piece, 1 << 20).unwrap().to_vec());
        assert_eq!(decoded.collect::<Vec<_>>(), whole);
        let bomb = gzip(&vec![0; 50 << 20]);
        assert_eq!(Decoder::new().decode(&bomb, 1000), Err("it decodes to more bytes than it should"));
        assert_eq!(
            Decoder::new().decode(b"no gzip at all", 1000),
            Err("it says that it is gzip, and is not")
        );
    }
}
