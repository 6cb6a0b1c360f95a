//! Decompressing a layer on the way: gzip or zstd, or nothing when it is not compressed.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use zstd_safe::{DCtx, InBuffer, OutBuffer};

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// A layer's archive.
pub(super) enum Unpacked<R: Read> {
    Plain(BufReader<R>),
    Gzip(Box<MultiGzDecoder<BufReader<R>>>),
    Zstd(Zstd<R>),
}

/// A sequence of zstd frames.
pub(super) struct Zstd<R> {
    input: BufReader<R>,
    context: DCtx<'static>,
    /// Whether a frame has begun and not ended.
    inside: bool,
}

impl<R: Read> Unpacked<R> {
    /// Looks at the first bytes and decides.
    pub(super) fn new(input: R) -> io::Result<Self> {
        let mut input = BufReader::with_capacity(BUFFER, input);
        let begin = input.fill_buf()?;
        Ok(if begin.starts_with(&[0x1f, 0x8b]) {
            Self::Gzip(Box::new(MultiGzDecoder::new(input)))
        } else if begin.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Self::Zstd(Zstd {
                input,
                context: DCtx::create(),
                inside: false,
            })
        } else {
            Self::Plain(input)
        })
    }

    /// The bytes under it, with what was not read of them.
    pub(super) fn into_inner(self) -> R {
        match self {
            Self::Plain(input) => input.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner().into_inner(),
            Self::Zstd(zstd) => zstd.input.into_inner(),
        }
    }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(decoder) => decoder.read(buffer),
            Self::Zstd(zstd) => zstd.read(buffer),
        }
    }
}

impl<R: Read> Read for Zstd<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            let input = self.input.fill_buf()?;
            if input.is_empty() {
                return match self.inside {
                    true => Err(io::ErrorKind::UnexpectedEof.into()),
                    false => Ok(0),
                };
            }
            let mut from = InBuffer::around(input);
            let mut to = OutBuffer::around(&mut *buffer);
            let left = self
                .context
                .decompress_stream(&mut to, &mut from)
                .map_err(|code| {
                    io::Error::new(io::ErrorKind::InvalidData, zstd_safe::get_error_name(code))
                })?;
            let (read, made) = (from.pos(), to.pos());
            self.input.consume(read);
            self.inside = left != 0;
            if made > 0 {
                return Ok(made);
            }
        }
    }
}
