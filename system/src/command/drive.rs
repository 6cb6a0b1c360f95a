//! Moving a program's input and output until it ends, its time is up, or it writes too much.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, ChildStderr, ChildStdin, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

/// How long a program may take to end after it was asked to.
const GRACE: Duration = Duration::from_secs(2);

/// How long outputs are read on after the program has ended: what it started may hold them open for ever.
const LINGER: Duration = Duration::from_millis(500);

const PIECE_BYTES: usize = 64 << 10;

pub(super) struct Collected {
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
    pub(super) ending: Ending,
}

pub(super) enum Ending {
    Exited(ExitStatus),
    TimedOut,
    TooMuchOutput,
}

/// Writes `input` to the child, collects what it writes, and waits for its end; ends it and its group at `deadline` or
/// above `output_bytes`. Pipes that were taken from the child are left alone.
pub(super) fn drive(
    child: &mut Child,
    input: &[u8],
    output_bytes: usize,
    mut deadline: Instant,
) -> io::Result<Collected> {
    let pidfd = pidfd_open(pid(child)?, PidfdFlags::empty())?;
    let mut stdin = Feed::new(child.stdin.take(), input)?;
    let mut stdout = Sink::new(child.stdout.take(), output_bytes)?;
    let mut stderr = Sink::new(child.stderr.take(), output_bytes)?;
    let mut status = None;
    loop {
        if status.is_some() && stdout.pipe.is_none() && stderr.pipe.is_none() {
            break;
        }
        let now = Instant::now();
        let too_much = stdout.overrun || stderr.overrun;
        if now >= deadline || too_much {
            if status.is_some() && !too_much {
                break;
            }
            end_group(child);
            return Ok(Collected {
                stdout: stdout.bytes,
                stderr: stderr.bytes,
                ending: if too_much {
                    Ending::TooMuchOutput
                } else {
                    Ending::TimedOut
                },
            });
        }
        wait_for_any(
            &stdin,
            &stdout,
            &stderr,
            status.is_none().then_some(&pidfd),
            deadline - now,
        )?;
        stdin.step()?;
        stdout.step()?;
        stderr.step()?;
        if status.is_none() {
            status = child.try_wait()?;
            if status.is_some() {
                deadline = Instant::now() + LINGER;
            }
        }
    }
    let status = match status {
        Some(status) => status,
        None => child.wait()?,
    };
    Ok(Collected {
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        ending: Ending::Exited(status),
    })
}

/// Ends the child and what it started, first by asking. It is waited for, so nothing of it is left behind.
pub(super) fn end_group(child: &mut Child) {
    // Each of these fails only when there is nothing left to end.
    let Ok(group) = pid(child) else { return };
    if matches!(child.try_wait(), Ok(Some(_))) {
        return;
    }
    let _gone = kill_process_group(group, Signal::TERM);
    if let Ok(pidfd) = pidfd_open(group, PidfdFlags::empty()) {
        let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
        let _ended_or_not = poll(&mut fds, Some(&timespec(GRACE)));
    }
    let _gone = kill_process_group(group, Signal::KILL);
    let _status = child.wait();
}

fn pid(child: &Child) -> io::Result<Pid> {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

fn wait_for_any(
    stdin: &Feed<'_>,
    stdout: &Sink<impl AsFd>,
    stderr: &Sink<impl AsFd>,
    pidfd: Option<&OwnedFd>,
    at_most: Duration,
) -> io::Result<()> {
    let outputs = [
        stdout.pipe.as_ref().map(AsFd::as_fd),
        stderr.pipe.as_ref().map(AsFd::as_fd),
    ];
    let to_read = outputs.into_iter().chain([pidfd.map(AsFd::as_fd)]).flatten();
    let to_write = stdin.pipe.as_ref().map(AsFd::as_fd);
    let mut fds: Vec<_> = to_read
        .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
        .chain(to_write.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::OUT)))
        .collect();
    match poll(&mut fds, Some(&timespec(at_most))) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

fn without_blocking(fd: impl AsFd) -> io::Result<()> {
    let flags = fcntl_getfl(&fd)?;
    Ok(fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?)
}

/// What is still to be written to the child.
struct Feed<'a> {
    pipe: Option<ChildStdin>,
    rest: &'a [u8],
}

impl<'a> Feed<'a> {
    fn new(pipe: Option<ChildStdin>, rest: &'a [u8]) -> io::Result<Self> {
        // Nothing to write: the pipe is closed at once, so that the child does not wait for input.
        let pipe = pipe.filter(|_| !rest.is_empty());
        pipe.as_ref().map_or(Ok(()), without_blocking)?;
        Ok(Self { pipe, rest })
    }

    fn step(&mut self) -> io::Result<()> {
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.write(self.rest) {
            Ok(written) => self.rest = &self.rest[written..],
            Err(error) if again(&error) => {}
            // It does not want to read more; its exit status says whether that is well.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.rest = &[],
            Err(error) => return Err(error),
        }
        if self.rest.is_empty() {
            self.pipe = None;
        }
        Ok(())
    }
}

/// What the child has written to one output.
struct Sink<R> {
    pipe: Option<R>,
    bytes: Vec<u8>,
    bound: usize,
    overrun: bool,
}

impl<R: Read + AsFd> Sink<R> {
    fn new(pipe: Option<R>, bound: usize) -> io::Result<Self> {
        pipe.as_ref().map_or(Ok(()), without_blocking)?;
        Ok(Self {
            pipe,
            bytes: Vec::new(),
            bound,
            overrun: false,
        })
    }

    fn step(&mut self) -> io::Result<()> {
        let mut piece = [0; PIECE_BYTES];
        let Some(pipe) = &mut self.pipe else { return Ok(()) };
        match pipe.read(&mut piece) {
            Ok(0) => self.pipe = None,
            Ok(read) => {
                let room = self.bound - self.bytes.len();
                self.overrun = read > room;
                self.bytes.extend_from_slice(&piece[..read.min(room)]);
            }
            Err(error) if again(&error) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Reads what a program says beside its data while somebody else talks to it, so that it never waits for that, and
/// keeps the end.
#[derive(Debug)]
pub(super) struct Talk {
    end: Arc<Mutex<Vec<u8>>>,
    done: Receiver<()>,
}

impl Talk {
    pub(super) fn listen(mut from: ChildStderr, keep_bytes: usize) -> Self {
        let end = Arc::new(Mutex::new(Vec::new()));
        let (ended, done) = channel();
        let kept = Arc::clone(&end);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = from.read(&mut piece) {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&piece[..read]);
                let surplus = kept.len().saturating_sub(keep_bytes);
                kept.drain(..surplus);
            }
            // Nobody may be waiting any more.
            let _nobody = ended.send(());
        });
        Self { end, done }
    }

    /// What it said last. The program has ended, but what it started may hold the pipe open: not waited for long.
    pub(super) fn into_end(self) -> Vec<u8> {
        let _ended_or_not = self.done.recv_timeout(LINGER);
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn again(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
    )
}
