//! The memory of chunks that came, used again for those that come next.
//!
//! A chunk takes so much that an allocator gives its memory back to the system and asks for it anew, and the system clears
//! every page: that took a sixth of a receiver's processor time.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Chunks whose memory is kept at most: what the sender has in its window, and as many on their way to a disk.
const KEPT: usize = 32;

/// The bytes of a chunk. When it is dropped, its memory is used for another one, if the session goes on.
#[derive(Debug)]
pub struct ChunkBytes {
    bytes: Vec<u8>,
    home: Weak<Pool>,
}

/// Where the memory goes to.
#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Vec<Vec<u8>>>);

impl Pool {
    /// Has `bytes` come back when they are not needed any more.
    pub(crate) fn lend(self: &Arc<Self>, bytes: Vec<u8>) -> ChunkBytes {
        let home = Arc::downgrade(self);
        ChunkBytes { bytes, home }
    }

    /// Memory that came back.
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl From<Vec<u8>> for ChunkBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let home = Weak::new();
        Self { bytes, home }
    }
}

impl Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for ChunkBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for ChunkBytes {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut kept = home.0.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT {
                kept.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_back_as_long_as_somebody_wants_it_and_never_without_end() {
        let pool = Arc::new(Pool::default());
        let lent: Vec<ChunkBytes> = (0..KEPT + 1).map(|_| pool.lend(vec![7; 100])).collect();
        assert_eq!((lent[0].len(), pool.take()), (100, None));
        drop(lent);
        let back: Vec<Vec<u8>> = std::iter::from_fn(|| pool.take()).collect();
        assert!(back.len() == KEPT && back.iter().all(|bytes| bytes.capacity() >= 100));
        let last = pool.lend(vec![7; 100]);
        drop(pool);
        assert_eq!(*last, [7; 100]);
    }
}
