//! Trying again: how often, and after which pauses.

use std::thread;
use std::time::Duration;

use super::HttpError;

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(8);

/// Wrong bytes of a chunk are asked for again so often: a cache or a broken transfer may be to blame, a damaged store
/// stays damaged.
const DAMAGED: u32 = 3;

/// How often a request is tried and how long is waited between, doubling each time up to 8 seconds.
#[derive(Debug, Clone, Copy)]
pub struct Retry {
    /// Tries in all; at least 1.
    pub tries: u32,
    /// The first pause.
    pub pause: Duration,
}

impl Retry {
    /// For somebody who waits at the terminal: 4 tries within 4 seconds.
    pub const BRIEF: Self = Self {
        tries: 4,
        pause: Duration::from_millis(500),
    };

    /// In the middle of an install: 9 tries, about 40 seconds, which a server needs to restart.
    pub const PATIENT: Self = Self {
        tries: 9,
        pause: Duration::from_millis(250),
    };

    /// Does `act` until it succeeds, fails for good, or was tried often enough; gives the last error.
    pub(super) fn run<T>(&self, mut act: impl FnMut() -> Result<T, HttpError>) -> Result<T, HttpError> {
        let mut pause = self.pause;
        let mut tried = 1;
        loop {
            let error = match act() {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            let tries = match error {
                HttpError::Damaged(..) => self.tries.min(DAMAGED),
                _ => self.tries,
            };
            if !error.may_pass() || tried >= tries {
                return Err(error);
            }
            tracing::debug!(error = %error, tried, "trying again after {pause:?}");
            thread::sleep(pause);
            pause = (pause * 2).min(LONGEST);
            tried += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use simulcast_protocol::id::ChunkId;

    use super::*;

    fn tries_of(error: impl Fn() -> HttpError) -> u32 {
        let mut tried = 0;
        let retry = Retry {
            tries: 5,
            pause: Duration::from_millis(1),
        };
        let result: Result<(), _> = retry.run(|| {
            tried += 1;
            Err(error())
        });
        assert!(result.is_err());
        tried
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let server = || "http://server".parse::<crate::http::ServerUrl>().unwrap();
        let trouble = || HttpError::Trouble {
            server: server(),
            what: "x".to_owned(),
            status: 503,
            error: String::new(),
        };
        assert_eq!(tries_of(trouble), 5);
        assert_eq!(tries_of(|| HttpError::Damaged(server(), ChunkId::of(b""))), 3);
        assert_eq!(tries_of(|| HttpError::WrongToken(server())), 1);
        let mut tried = 0;
        let second = Retry::BRIEF.run(|| {
            tried += 1;
            if tried == 2 { Ok(tried) } else { Err(trouble()) }
        });
        assert_eq!(second.unwrap(), 2);
    }
}
