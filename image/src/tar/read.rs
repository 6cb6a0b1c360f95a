//! Reading an archive from a stream, header by header, with a bound on everything that is kept.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::TarError;
use super::member::{Member, Parsed, number};
use super::pax::{EXTENTS, Pax, decimal};

const BLOCK: usize = 512;

/// Bytes of one extension header: a pax header with a hundred attributes of the largest size fits.
const EXTENSION_BYTES: u64 = 16 << 20;

/// How compressed files begin, and what opens them.
const COMPRESSED: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0xfd, b'7', b'z', b'X', b'Z'], "xz"),
    (b"BZh", "bzip2"),
];

/// An archive that is being read.
#[derive(Debug)]
pub(super) struct Archive<R> {
    input: R,
    at: u64,
    /// Data of the current member that was not read yet.
    data: u64,
    /// Blanks behind them, up to a whole block.
    padding: u64,
    global: Pax,
}

impl<R: Read> Archive<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            at: 0,
            data: 0,
            padding: 0,
            global: Pax::default(),
        }
    }

    /// What it was read from.
    pub(super) fn into_input(self) -> R {
        self.input
    }

    /// The next member; `None` at the end of the archive. What was not read of the last one is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Member>, TarError> {
        let mut pax = self.global.clone();
        let (mut long_path, mut long_link) = (None, None);
        loop {
            self.skip_data()?;
            let at = self.at;
            let Some(block) = self.header()? else {
                return Ok(None);
            };
            let header = Header::from_byte_slice(&block);
            let size = || {
                number(&header.as_old().size)
                    .and_then(|size| u64::try_from(size).ok())
                    .filter(|&size| size <= EXTENSION_BYTES)
                    .ok_or(TarError::Header(
                        at,
                        "announces more than 16 MiB of pax records or name",
                    ))
            };
            match header.entry_type() {
                EntryType::XHeader => self.records(at, size()?, &mut pax)?,
                EntryType::XGlobalHeader => {
                    let mut global = std::mem::take(&mut self.global);
                    self.records(at, size()?, &mut global)?;
                    self.global = global;
                    pax = self.global.clone();
                }
                EntryType::GNULongName => long_path = Some(self.name(size()?)?),
                EntryType::GNULongLink => long_link = Some(self.name(size()?)?),
                _ => {
                    let parsed = Parsed {
                        at,
                        header,
                        pax,
                        long_path,
                        long_link,
                    };
                    return self.member(parsed).map(Some);
                }
            }
        }
    }

    /// Fills `buffer` with the next data of the current member.
    pub(super) fn read_data(&mut self, buffer: &mut [u8]) -> Result<(), TarError> {
        let len = buffer.len() as u64;
        self.data = self.data.checked_sub(len).ok_or(TarError::Header(
            self.at,
            "comes before all data of its extents were there",
        ))?;
        self.fill(buffer, "in the middle of a file")
    }

    /// Reads what is behind the end, so that whoever writes the archive into a pipe is not stopped.
    pub(super) fn drain(&mut self) -> Result<(), TarError> {
        io::copy(&mut self.input, &mut io::sink()).map_err(TarError::Read)?;
        Ok(())
    }

    fn member(&mut self, parsed: Parsed<'_>) -> Result<Member, TarError> {
        self.start_data(parsed.data_len()?);
        let sparse = match (&parsed.pax.sparse, parsed.header.entry_type()) {
            (Some(sparse), _) => {
                let extents = if sparse.in_data {
                    self.extents_in_data(parsed.at)?
                } else {
                    sparse.extents.clone()
                };
                let size = sparse.size.ok_or(TarError::Header(
                    parsed.at,
                    "is of a sparse file without a length",
                ))?;
                Some((size, extents))
            }
            (None, EntryType::GNUSparse) => Some(self.gnu_extents(parsed.header, parsed.at)?),
            _ => None,
        };
        let sparse = match sparse {
            Some((size, extents)) => Some((size, self.checked(parsed.at, size, extents)?)),
            None => None,
        };
        parsed.into_member(sparse)
    }

    /// Extents in order, within the file, and as long together as the data; empty ones are left out.
    fn checked(&self, at: u64, size: u64, mut extents: Vec<Range<u64>>) -> Result<Vec<Range<u64>>, TarError> {
        let wrong = || TarError::Header(at, "is of a sparse file whose extents contradict each other");
        extents.retain(|extent| !extent.is_empty());
        let mut end = 0;
        let mut total = 0u64;
        for extent in &extents {
            if extent.start < end || extent.end > size {
                return Err(wrong());
            }
            end = extent.end;
            total += extent.end - extent.start;
        }
        if total == self.data {
            Ok(extents)
        } else {
            Err(wrong())
        }
    }

    /// The extents of a sparse file of format 1.0: lines of decimal numbers in front of the data, in whole blocks.
    fn extents_in_data(&mut self, at: u64) -> Result<Vec<Range<u64>>, TarError> {
        let wrong = || TarError::Header(at, "is of a sparse file whose extents are damaged");
        let (mut line, mut numbers, mut wanted) = (Vec::new(), Vec::new(), None);
        while wanted.is_none_or(|wanted| numbers.len() < wanted) {
            let mut block = [0; BLOCK];
            if self.data < BLOCK as u64 {
                return Err(wrong());
            }
            self.read_data(&mut block)?;
            for &byte in &block {
                if wanted.is_some_and(|wanted| numbers.len() == wanted) {
                    break;
                }
                if byte != b'\n' {
                    line.push(byte);
                    continue;
                }
                let value = decimal(&line).ok_or_else(wrong)?;
                line.clear();
                if wanted.is_some() {
                    numbers.push(value);
                } else {
                    let count = usize::try_from(value)
                        .ok()
                        .filter(|&count| count <= EXTENTS)
                        .ok_or_else(wrong)?;
                    wanted = Some(2 * count);
                }
            }
        }
        let (pairs, _) = numbers.as_chunks::<2>();
        pairs
            .iter()
            .map(|&[start, len]| start.checked_add(len).map(|end| start..end).ok_or_else(wrong))
            .collect()
    }

    /// Length and extents of a sparse file of the old GNU format; the extents stand in the header and in blocks behind it.
    fn gnu_extents(&mut self, header: &Header, at: u64) -> Result<(u64, Vec<Range<u64>>), TarError> {
        let wrong = || TarError::Header(at, "is of a sparse file whose extents are damaged");
        let gnu = header.as_gnu().ok_or_else(wrong)?;
        let unsigned = |field: &[u8]| {
            number(field)
                .and_then(|number| u64::try_from(number).ok())
                .ok_or_else(wrong)
        };
        let mut extents = Vec::new();
        let mut take = |sparse: &[tar::GnuSparseHeader]| {
            for extent in sparse.iter().filter(|extent| !extent.is_empty()) {
                let start = unsigned(&extent.offset)?;
                extents.push(start..start.checked_add(unsigned(&extent.numbytes)?).ok_or_else(wrong)?);
            }
            if extents.len() > EXTENTS {
                Err(wrong())
            } else {
                Ok(())
            }
        };
        take(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut extension = GnuExtSparseHeader::new();
            self.fill(extension.as_mut_bytes(), "in the extents of a sparse file")?;
            take(&extension.sparse)?;
            more = extension.is_extended();
        }
        Ok((unsigned(&gnu.realsize)?, extents))
    }

    fn records(&mut self, at: u64, size: u64, pax: &mut Pax) -> Result<(), TarError> {
        let bytes = self.extension(size)?;
        pax.take(&bytes)
            .ok_or(TarError::Header(at, "is a pax header with damaged records"))
    }

    /// A long name of GNU tar; it ends with a NUL.
    fn name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.extension(size)?;
        if name.last() == Some(&0) {
            name.pop();
        }
        Ok(name)
    }

    /// The data of an extension header. Memory grows with what really comes.
    fn extension(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.start_data(size);
        let mut bytes = Vec::new();
        let read = (&mut self.input)
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(TarError::Read)? as u64;
        self.at += read;
        self.data = 0;
        if read == size {
            Ok(bytes)
        } else {
            Err(TarError::Short(self.at, "in a pax header or a long name"))
        }
    }

    fn start_data(&mut self, size: u64) {
        self.data = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let wanted = self
            .data
            .checked_add(self.padding)
            .ok_or(TarError::Header(self.at, "has no size"))?;
        let skipped =
            io::copy(&mut (&mut self.input).take(wanted), &mut io::sink()).map_err(TarError::Read)?;
        self.at += skipped;
        (self.data, self.padding) = (0, 0);
        if skipped == wanted {
            Ok(())
        } else {
            Err(TarError::Short(self.at, "in the middle of a file"))
        }
    }

    /// The next header; `None` where a block of zeros marks the end.
    fn header(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let (at, mut block) = (self.at, [0; BLOCK]);
        self.fill(&mut block, "without the mark that ends an archive")?;
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if adds_up(&block) {
            return Ok(Some(block));
        }
        if at > 0 {
            return Err(TarError::Header(at, "does not add up"));
        }
        let compressed = COMPRESSED.iter().find(|(magic, _)| block.starts_with(magic));
        Err(compressed.map_or(TarError::NotTar, |&(_, program)| TarError::Compressed(program)))
    }

    fn fill(&mut self, buffer: &mut [u8], place: &'static str) -> Result<(), TarError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.input.read(&mut buffer[filled..]) {
                Ok(0) => return Err(TarError::Short(self.at, place)),
                Ok(read) => {
                    filled += read;
                    self.at += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        Ok(())
    }
}

/// Whether a header's sum is right: of its bytes with blanks in place of the sum. Old programs added signed bytes.
fn adds_up(block: &[u8; BLOCK]) -> bool {
    let header = Header::from_byte_slice(block);
    let field = &header.as_old().cksum;
    let bytes = || {
        let counted = |(at, &byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { byte };
        block.iter().enumerate().map(counted)
    };
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    number(field).is_some_and(|sum| sum == unsigned || sum == signed)
}
