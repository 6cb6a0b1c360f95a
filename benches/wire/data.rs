//! What is sent: bytes that nothing compresses, in one file, cut into chunks of 1,024 symbols.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail, ensure};
use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng as _, SeedableRng as _};
use simulcast_protocol::id::{ChunkId, ManifestId};
use simulcast_protocol::limits::SYMBOL_BYTES;
use simulcast_protocol::multicast::{ChunkInfo, ChunkTable};
use simulcast_transport::multicast::ChunkSource;

/// Bytes of a chunk: what a full chunk of a root file system has when it is compressed.
const CHUNK_BYTES: usize = 1024 * SYMBOL_BYTES;

/// The file and the table of its chunks.
#[derive(Debug, Clone)]
pub(crate) struct Data {
    /// The bytes.
    pub(crate) file: PathBuf,
    /// Hash and length of each chunk, a line each.
    pub(crate) table: PathBuf,
    /// How many bytes there are.
    pub(crate) bytes: u64,
}

impl Data {
    /// Makes `bytes` random ones below `dir`. In small pieces: the kernel counts the memory of this process at the
    /// start of a child as the child's.
    pub(crate) fn make(dir: &Path, bytes: u64) -> Result<Self> {
        let data = Self {
            file: dir.join("data"),
            table: dir.join("table"),
            bytes,
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(bytes);
        let mut file = File::create(&data.file).context("create what is sent")?;
        let (mut buffer, mut table, mut left) = (vec![0; CHUNK_BYTES], String::new(), bytes);
        while left > 0 {
            let len = usize::try_from(left).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let chunk = &mut buffer[..len];
            rng.fill_bytes(chunk);
            file.write_all(chunk).context("write what is sent")?;
            writeln!(table, "{} {len}", ChunkId::of(chunk)).context("write the table")?;
            left -= u64::try_from(len).context("a length")?;
        }
        fs::write(&data.table, table).context("write the table")?;
        Ok(data)
    }

    /// Fails when `copy` is not what was sent.
    pub(crate) fn require_copy(&self, copy: &Path) -> Result<()> {
        let open = |path: &Path| File::open(path).with_context(|| format!("open {}", path.display()));
        let (mut ours, mut theirs) = (open(&self.file)?, open(copy)?);
        let len = theirs.metadata().context("look at a copy")?.len();
        ensure!(len == self.bytes, "{len} bytes instead of {}", self.bytes);
        let (mut a, mut b) = (vec![0; 256 << 10], vec![0; 256 << 10]);
        let mut at = 0;
        loop {
            let read = ours.read(&mut a).context("read what was sent")?;
            if read == 0 {
                return Ok(());
            }
            theirs.read_exact(&mut b[..read]).context("read a copy")?;
            if a[..read] != b[..read] {
                bail!("other bytes than what was sent, at {at} or soon after");
            }
            at += read;
        }
    }
}

/// Reads a table that [`Data::make`] wrote.
pub(crate) fn read_table(path: &Path) -> Result<ChunkTable> {
    let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let chunk = |line: &str| -> Result<ChunkInfo> {
        let (id, len) = line.split_once(' ').context("two words")?;
        Ok(ChunkInfo {
            id: id.parse()?,
            len: len.parse()?,
        })
    };
    let chunks = text.lines().map(chunk).collect::<Result<_>>()?;
    Ok(ChunkTable::new(ManifestId::of(text.as_bytes()), chunks)?)
}

/// Where each chunk of a table begins in the file.
pub(crate) fn offsets(table: &ChunkTable) -> Vec<u64> {
    let begin = table.chunks().iter().scan(0, |at, info| {
        let begin = *at;
        *at += u64::from(info.len);
        Some(begin)
    });
    begin.collect()
}

/// The chunks of a file, read one by one as from a store.
#[derive(Debug)]
pub(crate) struct Chunks {
    file: File,
    table: Arc<ChunkTable>,
    offsets: Vec<u64>,
}

impl Chunks {
    /// Opens the file.
    pub(crate) fn open(file: &Path, table: Arc<ChunkTable>) -> Result<Self> {
        Ok(Self {
            file: File::open(file).with_context(|| format!("open {}", file.display()))?,
            offsets: offsets(&table),
            table,
        })
    }
}

impl ChunkSource for Chunks {
    fn read(&self, index: u32) -> io::Result<Vec<u8>> {
        let missing = || io::Error::from(io::ErrorKind::NotFound);
        let info = self.table.get(index).ok_or_else(missing)?;
        let at = usize::try_from(index).ok().and_then(|i| self.offsets.get(i));
        let mut bytes = vec![0; usize::try_from(info.len).map_err(|_| missing())?];
        self.file.read_exact_at(&mut bytes, *at.ok_or_else(missing)?)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulcast_testkit::run::Run;

    #[test]
    fn chunks_and_table_fit_together_and_wrong_copies_are_noticed() {
        let run = Run::start("wire-data").unwrap();
        let bytes = u64::try_from(CHUNK_BYTES).unwrap() * 2 + 5;
        let data = Data::make(run.dir(), bytes).unwrap();
        let table = Arc::new(read_table(&data.table).unwrap());
        assert_eq!((table.count(), table.bytes()), (3, bytes));
        let chunks = Chunks::open(&data.file, Arc::clone(&table)).unwrap();
        for index in 0..3 {
            let info = table.get(index).unwrap();
            assert_eq!(ChunkId::of(&chunks.read(index).unwrap()), info.id);
        }
        assert!(chunks.read(3).is_err());
        data.require_copy(&data.file).unwrap();
        let copy = run.dir().join("copy");
        let mut content = fs::read(&data.file).unwrap();
        content[300_000] ^= 1;
        fs::write(&copy, &content).unwrap();
        let error = data.require_copy(&copy).unwrap_err().to_string();
        assert!(error.contains("at 262144"), "{error}");
        fs::write(&copy, &content[..9]).unwrap();
        assert!(data.require_copy(&copy).is_err());
    }
}
