//! Clients that do not read: a connection that takes next to nothing for a while is given up, so that it holds neither
//! memory nor its place among the connections.

use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Time in which a client must take [`PROGRESS`] bytes of what waits for it.
const STALL: Duration = Duration::from_secs(30);

/// Bytes that count as progress. One byte at a time would otherwise hold a connection for ever.
const PROGRESS: usize = 64 << 10;

/// A stream that fails with `TimedOut` when its reader stalls.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    stall: Duration,
    /// Runs since bytes first had to wait; `taken` bytes were taken since.
    waiting: Option<Pin<Box<Sleep>>>,
    taken: usize,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S) -> Self {
        Self::with_stall(stream, STALL)
    }

    fn with_stall(stream: S, stall: Duration) -> Self {
        Self {
            stream,
            stall,
            waiting: None,
            taken: 0,
        }
    }

    /// Passes on what a write gave, and fails when it has waited too long.
    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Pending => {
                let stall = self.stall;
                let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(stall)));
                ready!(waiting.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(
                    ErrorKind::TimedOut,
                    "the client does not read what it asked for",
                )))
            }
            Poll::Ready(Ok(bytes)) => {
                self.taken = self.taken.saturating_add(*bytes);
                if self.taken >= PROGRESS {
                    self.restart();
                }
                written
            }
            Poll::Ready(Err(_)) => written,
        }
    }

    fn restart(&mut self) {
        self.waiting = None;
        self.taken = 0;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, buffers);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// The end of a response: all of it was taken.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.restart();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn a_client_that_does_not_read_is_given_up() {
        let (ours, _theirs) = duplex(1000);
        let mut stream = Watched::with_stall(ours, Duration::from_millis(50));
        let error = stream.write_all(&[0; 2000]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn one_that_reads_drop_by_drop_is_given_up_too() {
        let (ours, mut theirs) = duplex(1000);
        let mut stream = Watched::with_stall(ours, Duration::from_millis(100));
        let reader = tokio::spawn(async move {
            let mut buffer = [0; 10];
            while theirs.read(&mut buffer).await.is_ok_and(|bytes| bytes > 0) {
                tokio::task::yield_now().await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        let error = stream.write_all(&vec![0; PROGRESS]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        drop(stream);
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn one_that_reads_slowly_but_steadily_gets_all() {
        let (ours, mut theirs) = duplex(PROGRESS * 2);
        let mut stream = Watched::with_stall(ours, Duration::from_millis(300));
        let writer = tokio::spawn(async move {
            for _ in 0..5 {
                stream.write_all(&vec![0; PROGRESS]).await.unwrap();
                stream.flush().await.unwrap();
            }
        });
        let (mut buffer, mut total) = (vec![0; PROGRESS], 0);
        loop {
            match theirs.read(&mut buffer).await.unwrap() {
                0 => break,
                bytes => total += bytes,
            }
            tokio::time::sleep(Duration::from_millis(80)).await;
        }
        writer.await.unwrap();
        assert_eq!(total, 5 * PROGRESS);
    }
}
