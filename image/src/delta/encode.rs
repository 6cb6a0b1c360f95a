//! Making a delta: matching new content against a signature, window by window.

use std::io::{self, Read, Write};
use std::time::Duration;

use fast_rsync::IndexedSignature;
use rustix::time::{ClockId, clock_gettime};

use super::ops::{MAGIC, Op};
use super::{DeltaError, Signature, WINDOW_BYTES};

/// Time that matching may take in any case. The rest depends on the size: see [`BYTES_PER_SECOND`].
const LEAST_TIME: Duration = Duration::from_secs(5);

/// Content that nothing matches takes one second of processor time for each 100 MB; a slow machine shall have ten.
const BYTES_PER_SECOND: u64 = 10_000_000;

/// What a delta is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeltaStats {
    /// Bytes of new content that are copied from the basis.
    pub copied_bytes: u64,
    /// Bytes of new content that stand in the delta.
    pub literal_bytes: u64,
    /// Bytes of the delta in all. Compare it with the new content's size, compressed or not, before sending it.
    pub delta_bytes: u64,
}

/// Writes the delta that makes `new_bytes` bytes of `new` out of the basis of `signature`.
///
/// # Errors
/// [`DeltaError::ReadNew`] and [`DeltaError::NewShort`]; [`DeltaError::Write`]; [`DeltaError::TooSlow`] when matching
/// takes more processor time than any genuine signature causes: then send the content whole.
pub fn encode_delta(
    signature: &Signature,
    new: impl Read,
    new_bytes: u64,
    out: impl Write,
) -> Result<DeltaStats, DeltaError> {
    encode_within(matching_time(new_bytes), signature, new, new_bytes, out)
}

/// Processor time that matching so many bytes may take.
pub(super) fn matching_time(new_bytes: u64) -> Duration {
    LEAST_TIME + Duration::from_secs(new_bytes / BYTES_PER_SECOND)
}

pub(super) fn encode_within(
    time: Duration,
    signature: &Signature,
    new: impl Read,
    new_bytes: u64,
    out: impl Write,
) -> Result<DeltaStats, DeltaError> {
    let full_blocks = signature.full_blocks()?;
    let mut writer = OpWriter::new(out)?;
    let mut matcher = Matcher {
        index: full_blocks.index(),
        block_bytes: signature.block_bytes() as usize,
        unmatched: Vec::with_capacity(WINDOW_BYTES + signature.block_bytes() as usize),
        delta: Vec::new(),
        time_left: time,
    };
    let mut new = new.take(new_bytes);
    let tail_bytes = signature.tail_bytes();
    // The end of the new content is kept back for the basis's last block, which is not full.
    let mut body_bytes = new_bytes.checked_sub(tail_bytes as u64).unwrap_or(new_bytes);
    while body_bytes > 0 {
        let take = usize::try_from(body_bytes).map_or(WINDOW_BYTES, |left| left.min(WINDOW_BYTES));
        read_more(&mut new, &mut matcher.unmatched, take)?;
        body_bytes -= take as u64;
        matcher.match_window(&mut writer)?;
    }
    let left = usize::try_from(new.limit()).map_err(|_| DeltaError::NewShort(new.limit()))?;
    let mut end = Vec::with_capacity(left);
    read_more(&mut new, &mut end, left)?;
    if signature.is_tail(&end) {
        writer.literal(&matcher.unmatched)?;
        writer.copy(signature.basis_bytes() - tail_bytes as u64, tail_bytes as u64)?;
    } else {
        matcher.unmatched.extend_from_slice(&end);
        matcher.match_window(&mut writer)?;
        writer.literal(&matcher.unmatched)?;
    }
    writer.finish()
}

fn read_more(from: &mut io::Take<impl Read>, to: &mut Vec<u8>, len: usize) -> Result<(), DeltaError> {
    let read = from
        .by_ref()
        .take(len as u64)
        .read_to_end(to)
        .map_err(DeltaError::ReadNew)?;
    if read < len {
        return Err(DeltaError::NewShort(from.limit()));
    }
    Ok(())
}

/// Holds new content against the index, and keeps back what may match together with what follows.
struct Matcher<'a> {
    index: IndexedSignature<'a>,
    block_bytes: usize,
    /// New content that is not written yet: less than a block between two windows.
    unmatched: Vec<u8>,
    /// What fast_rsync says of one window.
    delta: Vec<u8>,
    time_left: Duration,
}

impl Matcher<'_> {
    /// Writes all of `unmatched` as copies and literals, but the last bytes if they match nothing: less than a block
    /// of them stays.
    fn match_window(&mut self, writer: &mut OpWriter<impl Write>) -> Result<(), DeltaError> {
        self.find_matches()?;
        let mut ops = &self.delta[MAGIC.len()..];
        let mut at = 0;
        let mut keep = 0;
        loop {
            match Op::read(&mut ops)? {
                Op::End => break,
                Op::Copy { offset, len } => {
                    writer.copy(offset, len)?;
                    at += to_usize(len)?;
                }
                Op::Literal(len) => {
                    let len = to_usize(len)?;
                    ops = ops
                        .get(len..)
                        .ok_or(DeltaError::WrongDelta("a literal without its bytes"))?;
                    // What ends the window without a match may match together with what follows.
                    let last = ops.first() == Some(&0) && ops.len() == 1;
                    keep = if last { len.min(self.block_bytes - 1) } else { 0 };
                    let literal = self.unmatched.get(at..at + len - keep);
                    writer.literal(literal.ok_or(DeltaError::WrongDelta("more than the window"))?)?;
                    at += len;
                }
            }
        }
        self.unmatched.drain(..self.unmatched.len() - keep);
        Ok(())
    }

    fn find_matches(&mut self) -> Result<(), DeltaError> {
        self.delta.clear();
        let before = cpu_time();
        fast_rsync::diff(&self.index, &self.unmatched, &mut self.delta).map_err(|error| match error {
            fast_rsync::DiffError::Io(error) => DeltaError::Write(error),
            fast_rsync::DiffError::InvalidSignature => DeltaError::WrongSignature("it cannot be matched"),
        })?;
        let spent = cpu_time().saturating_sub(before);
        self.time_left = self.time_left.checked_sub(spent).ok_or(DeltaError::TooSlow)?;
        Ok(())
    }
}

/// Processor time of this thread: a loaded machine must not look like a forged signature.
fn cpu_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(now.tv_sec).unwrap_or(0),
        u32::try_from(now.tv_nsec).unwrap_or(0),
    )
}

fn to_usize(len: u64) -> Result<usize, DeltaError> {
    usize::try_from(len).map_err(|_| DeltaError::WrongDelta("more than the window"))
}

/// Writes operations, and puts copies together that continue each other.
struct OpWriter<W> {
    out: W,
    copy: Option<(u64, u64)>,
    stats: DeltaStats,
}

impl<W: Write> OpWriter<W> {
    fn new(mut out: W) -> Result<Self, DeltaError> {
        out.write_all(&MAGIC).map_err(DeltaError::Write)?;
        Ok(Self {
            out,
            copy: None,
            stats: DeltaStats {
                delta_bytes: MAGIC.len() as u64,
                ..DeltaStats::default()
            },
        })
    }

    fn op(&mut self, op: Op) -> Result<(), DeltaError> {
        self.stats.delta_bytes += op.write(&mut self.out).map_err(DeltaError::Write)?;
        Ok(())
    }

    fn copy(&mut self, offset: u64, len: u64) -> Result<(), DeltaError> {
        self.stats.copied_bytes += len;
        if let Some((start, before)) = &mut self.copy
            && *start + *before == offset
        {
            *before += len;
            return Ok(());
        }
        self.flush()?;
        self.copy = Some((offset, len));
        Ok(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Result<(), DeltaError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let len = bytes.len() as u64;
        self.op(Op::Literal(len))?;
        self.out.write_all(bytes).map_err(DeltaError::Write)?;
        self.stats.literal_bytes += len;
        self.stats.delta_bytes += len;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DeltaError> {
        match self.copy.take() {
            Some((offset, len)) => self.op(Op::Copy { offset, len }),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<DeltaStats, DeltaError> {
        self.flush()?;
        self.op(Op::End)?;
        self.out.flush().map_err(DeltaError::Write)?;
        Ok(self.stats)
    }
}
