//! Every bound in one place, each with its reason. "Written" is what we produce; "accepted" is what we take from a
//! file or a peer; where they differ, the second leaves room for later versions.

/// Raw bytes of one part, and of one chunk at most. 4 MiB packs within 1 % of what larger chunks reach, while a
/// receiver holds few of them and a lost one costs little to fetch again.
pub const PART_BYTES: usize = 4 << 20;

/// Bytes of one chunk as stored and sent. What zstd cannot shrink is stored raw, so a chunk never grows.
pub const CHUNK_STORED_BYTES: usize = PART_BYTES;

/// Chunks of one version: 2^20 full chunks are 4 TiB of content, and a set of them is a 128 KiB bitmap.
pub const CHUNKS: usize = 1 << 20;

/// Entries (paths) of one version. 16 million is ten times the largest root file system that we know of.
pub const ENTRIES: usize = 1 << 24;

/// Distinct parts of one version.
pub const PARTS: usize = 1 << 24;

/// Bytes of one file: what ext4 and XFS can hold in practice, and what 2^20 chunks could carry.
pub const FILE_BYTES: u64 = 1 << 44;

/// Bytes of one file name: NAME_MAX of Linux.
pub const NAME_BYTES: usize = 255;

/// Bytes of a symlink target: PATH_MAX of Linux without its terminator.
pub const SYMLINK_BYTES: usize = 4095;

/// Directory levels below the root. Nothing recurses, so this bounds paths in messages rather than a stack.
pub const DEPTH: usize = 4096;

/// Extended attributes of one inode: XATTR_LIST_MAX (64 KiB) of the shortest names would be more, real ones have ten.
pub const XATTRS: usize = 1024;

/// Bytes of one extended attribute's value: XATTR_SIZE_MAX of Linux.
pub const XATTR_BYTES: usize = 64 << 10;

/// Holes that we record in one file. A file with more keeps its largest ones; the rest become zeros on disk.
pub const HOLES: usize = 1 << 16;

/// Bytes of an encoded manifest that we accept: 16 million entries take less.
pub const MANIFEST_BYTES: usize = 2 << 30;

/// Bytes of the list of what an update replaced: 16 million paths of usual length take less.
pub const UNDO_BYTES: usize = 2 << 30;

/// Bytes of the record of the version that a machine had before an update: a signed manifest.
pub const KEPT_RECORD_BYTES: usize = MANIFEST_BYTES;

/// Payload bytes of one multicast symbol: 1472 bytes of UDP payload at MTU 1500, less our 32-byte header.
pub const SYMBOL_BYTES: usize = 1440;

/// Source symbols of one chunk at most: 4 MiB in symbols of 1,440 bytes is 2,913.
pub const SYMBOLS: usize = 4096;

/// Parity symbols that one chunk can have. It is fixed for a session, because in the code that we use the value of
/// a parity symbol depends on it; 256 repairs 20 % loss of a usual chunk of 1,000 symbols.
pub const PARITY: usize = 256;

/// Bytes of old content that one record of an update pack builds on: with 4 MiB of new content it fits a window of 32 MiB,
/// and is what a node holds in memory for each of its threads.
pub const PACK_BASIS_BYTES: usize = 16 << 20;

/// Old versions that one update pack serves. Each costs its maker 16 MiB of chunks in memory a thread.
pub const PACK_SOURCES: usize = 8;

/// Records of one update pack: each part once for each old version, at most.
pub const PACK_RECORDS: usize = PARTS;

/// Bytes of an encoded update pack, without its chunks, that we accept: a record takes about 20.
pub const PACK_BYTES: usize = 512 << 20;
/// Bytes of one piece of a torrent: a chunk has up to sixteen, so that a version of a gigabyte has some thousands, and the
/// padding behind a chunk's last piece is a tenth of a usual chunk.
pub const PIECE_BYTES: usize = 256 << 10;

/// Pieces of one torrent: 2^20 of them are 256 GiB as stored, and their hashes 20 MiB.
pub const PIECES: usize = 1 << 20;

/// Bytes of one block, which is what a peer is asked for at a time: what every client uses, and the most that any
/// client answers.
pub const BLOCK_BYTES: usize = 16 << 10;

/// Requests of one peer that wait to be answered: more than standard clients ask for at a time (libtorrent: 250). What
/// comes beyond is not answered.
pub const PEER_REQUESTS: usize = 512;

/// Peers that one machine is connected to in one swarm; the image server, which seeds for all, may have more.
pub const PEERS: usize = 64;

/// Peers that a tracker knows in one swarm: ten times the largest site that the design is for.
pub const TRACKED_PEERS: usize = 20_000;

/// Peers that a tracker names in one answer: above the logarithm of any number of nodes, which is what a random net needs
/// to hold together.
pub const INTRODUCED_PEERS: usize = 12;

/// Addresses that are not connected to again because they sent wrong bytes, or none.
pub const BANNED_PEERS: usize = 1024;

/// Bytes of the query of an announce; real ones take some 300.
pub const ANNOUNCE_BYTES: usize = 4096;
