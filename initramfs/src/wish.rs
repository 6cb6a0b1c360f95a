//! What the installer and PID 1 say to each other: a word in a file.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Where this program keeps what lives as long as the mini-kernel.
pub(crate) const RUN: &str = "/run/simulcast";

/// What PID 1 is to do when the installer has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Restart the machine.
    Reboot,
    /// Switch it off.
    Poweroff,
    /// Start the kernel that was loaded.
    Kexec,
    /// Wait, with shells on the consoles.
    Rescue,
}

const WORD: &str = "next";

impl Wish {
    fn word(self) -> &'static str {
        match self {
            Self::Reboot => "reboot",
            Self::Poweroff => "poweroff",
            Self::Kexec => "kexec",
            Self::Rescue => "rescue",
        }
    }

    /// What the installer left word to do; rescue when it left none.
    pub(crate) fn read() -> Self {
        let word = fs::read_to_string(Path::new(RUN).join(WORD)).unwrap_or_default();
        [Self::Reboot, Self::Poweroff, Self::Kexec]
            .into_iter()
            .find(|wish| wish.word() == word.trim())
            .unwrap_or(Self::Rescue)
    }

    /// Leaves word for PID 1.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub(crate) fn leave(self) -> Result<()> {
        let path = Path::new(RUN).join(WORD);
        fs::write(&path, self.word()).with_context(|| format!("cannot write {}", path.display()))
    }
}
