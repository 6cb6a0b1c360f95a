//! Where a file has data and where it has holes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;
use simulcast_protocol::limits;

use super::{Act, FsError, Stat};

/// Holes that we look at in one file; behind them everything counts as data, so that no file system keeps us forever.
const STEPS: usize = 1 << 24;

/// The ranges of a file that hold data; the kernel is only asked when the file has less space than bytes, since only
/// then it can have holes.
///
/// # Errors
/// As [`data_ranges`].
pub fn data_of(file: impl AsFd, stat: &Stat) -> Result<Vec<Range<u64>>, FsError> {
    if stat.allocated < stat.size {
        data_ranges(file, stat.size)
    } else {
        Ok(std::iter::once(0..stat.size).collect())
    }
}

/// The ranges of a file's first `size` bytes that hold data, in order and not touching each other; the rest are holes.
///
/// A file system that cannot tell has no holes. A file with more than [`limits::HOLES`] keeps its largest ones. The
/// descriptor's offset is used: read such a file by offset.
///
/// # Errors
/// [`Act::FindHoles`] with an empty path.
pub fn data_ranges(file: impl AsFd, size: u64) -> Result<Vec<Range<u64>>, FsError> {
    let holes = largest_holes(Holes::new(file.as_fd(), size), limits::HOLES)
        .map_err(|errno| FsError::new(Act::FindHoles, b"", errno))?;
    Ok(between(&holes, size))
}

/// The holes of a file in order, as the kernel reports them.
struct Holes<'a> {
    file: BorrowedFd<'a>,
    size: u64,
    at: u64,
    steps: usize,
}

impl<'a> Holes<'a> {
    fn new(file: BorrowedFd<'a>, size: u64) -> Self {
        Self {
            file,
            size,
            at: 0,
            steps: 0,
        }
    }

    fn next_hole(&mut self) -> Result<Option<Range<u64>>, Errno> {
        if self.at >= self.size || self.steps == STEPS {
            return Ok(None);
        }
        self.steps += 1;
        let start = match seek(self.file, SeekFrom::Hole(self.at)) {
            Ok(start) => start,
            // The file system cannot tell, or the file has become shorter.
            Err(Errno::INVAL | Errno::NXIO | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        if start >= self.size {
            return Ok(None);
        }
        let end = match seek(self.file, SeekFrom::Data(start)) {
            Ok(end) => end.min(self.size),
            // No data behind it.
            Err(Errno::NXIO) => self.size,
            Err(Errno::INVAL | Errno::OPNOTSUPP) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        // A file that changes meanwhile can give an empty hole; the next step must still be ahead.
        self.at = end.max(start.saturating_add(1)).max(self.at.saturating_add(1));
        Ok(Some(start..end))
    }
}

impl Iterator for Holes<'_> {
    type Item = Result<Range<u64>, Errno>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_hole().transpose()
    }
}

/// The `bound` largest holes, in order; of equal ones the first. Memory stays within `bound`.
fn largest_holes(
    holes: impl Iterator<Item = Result<Range<u64>, Errno>>,
    bound: usize,
) -> Result<Vec<Range<u64>>, Errno> {
    // The smallest, and of these the last one, is on top: it goes first.
    let mut kept = BinaryHeap::new();
    for hole in holes {
        let hole = hole?;
        if hole.is_empty() {
            continue;
        }
        kept.push((Reverse(hole.end - hole.start), hole.start));
        if kept.len() > bound {
            kept.pop();
        }
    }
    let mut holes: Vec<_> = kept
        .into_iter()
        .map(|(Reverse(len), start)| start..start + len)
        .collect();
    holes.sort_unstable_by_key(|hole| hole.start);
    Ok(holes)
}

/// What lies between the holes in `0..size`.
fn between(holes: &[Range<u64>], size: u64) -> Vec<Range<u64>> {
    let ends = holes.iter().map(|hole| hole.end);
    let starts = holes.iter().map(|hole| hole.start);
    std::iter::once(0)
        .chain(ends)
        .zip(starts.chain(std::iter::once(size)))
        .map(|(start, end)| start..end)
        .filter(|data| data.start < data.end)
        .collect()
}

#[cfg(test)]
#[expect(
    clippy::single_range_in_vec_init,
    reason = "one range of a file is what is meant"
)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::fs::create_file;
    use crate::fs::testing::Scratch;

    fn sparse(scratch: &Scratch, size: u64, data: &[(u64, usize)]) -> File {
        let file = create_file(scratch, format!("{size}-{}", data.len()).as_bytes()).unwrap();
        for &(at, len) in data {
            file.write_all_at(&vec![1; len], at).unwrap();
        }
        file.set_len(size).unwrap();
        file
    }

    #[test]
    fn a_sparse_file_of_5_gib() {
        let scratch = Scratch::new();
        let size = 5 << 30;
        let file = sparse(
            &scratch,
            size,
            &[(0, 10_000), (1 << 30, 50_000), (size - 10_000, 10_000)],
        );
        let ranges = data_ranges(&file, size).unwrap();
        assert_eq!(ranges.len(), 3, "{ranges:?}");
        assert_eq!(ranges[0].start, 0);
        assert!(ranges[1].contains(&(1 << 30)) && ranges[1].end >= (1 << 30) + 50_000);
        assert_eq!(ranges[2].end, size);
        let data: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        assert!((70_000..70_000 + 6 * 4096).contains(&data), "{data}");
        // A size that is not the file's own, as when it grew or shrank since.
        assert_eq!(data_ranges(&file, 5_000).unwrap(), [0..5_000]);
        assert_eq!(data_ranges(&file, size + 4096).unwrap().last().unwrap().end, size);
    }

    #[test]
    fn holes_at_the_end_only_holes_no_holes_and_empty() {
        let scratch = Scratch::new();
        let end = sparse(&scratch, 1 << 20, &[(0, 4096)]);
        assert_eq!(data_ranges(&end, 1 << 20).unwrap(), [0..4096]);
        let only = sparse(&scratch, 1 << 20, &[]);
        assert_eq!(data_ranges(&only, 1 << 20).unwrap(), []);
        let full = sparse(&scratch, 8192, &[(0, 8192), (0, 1)]);
        assert_eq!(data_ranges(&full, 8192).unwrap(), [0..8192]);
        let empty = sparse(&scratch, 0, &[]);
        assert_eq!(data_ranges(&empty, 0).unwrap(), []);
    }

    #[test]
    fn a_file_system_that_cannot_tell_has_no_holes() {
        let status = File::open("/proc/self/status").unwrap();
        assert_eq!(data_ranges(&status, 1000).unwrap(), [0..1000]);
    }

    #[test]
    fn the_largest_holes_are_kept() {
        let holes = [0..1, 10..20, 30..35, 40..50, 60..61, 70..70];
        let kept = |bound| largest_holes(holes.iter().cloned().map(Ok), bound).unwrap();
        assert_eq!(kept(9), [0..1, 10..20, 30..35, 40..50, 60..61]);
        assert_eq!(kept(3), [10..20, 30..35, 40..50]);
        assert_eq!(kept(1), [10..20]);
        assert_eq!(kept(0), []);
        assert_eq!(between(&kept(3), 100), [0..10, 20..30, 35..40, 50..100]);
        assert_eq!(between(&kept(9), 61), [1..10, 20..30, 35..40, 50..60]);
    }
}
