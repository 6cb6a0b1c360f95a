//! A reader that takes no more than a rate: what sends to it waits, as the connection's buffers are full.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use simulcast_protocol::units::Rate;

/// Bytes that are read at once at most, so that slow rates do not come in bursts of seconds.
const PIECE: usize = 64 << 10;

/// Reads from another reader at a rate.
#[derive(Debug)]
pub(crate) struct Throttled<R> {
    inner: R,
    rate: Option<Rate>,
    /// When what was read so far may have been read.
    due: Instant,
}

impl<R> Throttled<R> {
    /// `None` reads as fast as it comes.
    pub(crate) fn new(inner: R, rate: Option<Rate>) -> Self {
        let due = Instant::now();
        Self { inner, rate, due }
    }
}

impl<R: Read> Read for Throttled<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(rate) = self.rate else {
            return self.inner.read(buffer);
        };
        std::thread::sleep(self.due.saturating_duration_since(Instant::now()));
        let most = buffer.len().min(PIECE);
        let read = self.inner.read(&mut buffer[..most])?;
        let nanos = read as u128 * 8 * 1_000_000_000 / u128::from(rate.bits_per_second().max(1));
        // Time in which nothing came is not made up for.
        self.due =
            self.due.max(Instant::now()) + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_kept_and_every_byte_comes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let begun = Instant::now();
        let mut read = Vec::new();
        let rate = Some(Rate::from_bits_per_second(8_000_000));
        Throttled::new(&bytes[..], rate).read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        // The last piece of at most 64 KiB is not waited for.
        assert!(
            begun.elapsed() >= Duration::from_millis(130),
            "{:?}",
            begun.elapsed()
        );
    }
}
