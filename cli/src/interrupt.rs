//! Ctrl-C and SIGTERM.
//!
//! Whatever our programs write is safe against being killed at any instant, so an interruption ends the program at
//! once. Work that can keep something by ending in good order holds a [`Guard`] and looks at [`requested`]; a second
//! signal ends it all the same.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::Exit;

static REQUESTED: AtomicBool = AtomicBool::new(false);
static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// While one lives, the first signal only makes [`requested`] true.
#[derive(Debug)]
pub struct Guard(());

impl Guard {
    /// Takes over the responsibility to end soon after a signal.
    pub fn new() -> Self {
        GUARDS.fetch_add(1, Ordering::SeqCst);
        Self(())
    }
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        GUARDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Whether somebody asked the program to end.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Listens for signals on a thread of its own until the program ends.
pub(crate) fn listen() -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::Builder::new()
        .name("signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                let again = REQUESTED.swap(true, Ordering::SeqCst);
                if again || GUARDS.load(Ordering::SeqCst) == 0 {
                    crate::console::talk("interrupted");
                    std::process::exit(Exit::Interrupted.code().into());
                }
            }
        })?;
    Ok(())
}
