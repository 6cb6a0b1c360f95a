//! Waiting for a condition, with a bound. Nothing in the laboratory sleeps for a time that was guessed.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Looks at `condition` until it gives a value, at most for `limit`; `what` completes the sentence "waited for".
///
/// # Errors
/// The condition's own error at once, or that the time is over.
pub fn until<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("waited {:.1} s in vain for {what}", limit.as_secs_f64());
        }
        thread::sleep(PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_ends_the_wait_and_the_bound_ends_it_too() {
        let mut looks = 0;
        let value = until("three looks", Duration::from_secs(5), || {
            looks += 1;
            Ok((looks == 3).then_some("seen"))
        });
        assert_eq!(value.unwrap(), "seen");
        let vain = until("rain", Duration::from_millis(30), || Ok(None::<()>)).unwrap_err();
        assert_eq!(vain.to_string(), "waited 0.0 s in vain for rain");
    }
}
