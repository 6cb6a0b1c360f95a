//! The built programs, as `scripts/build` leaves them.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::run::workspace;

/// A directory of built programs with all their command links.
#[derive(Debug, Clone)]
pub struct Programs {
    dir: PathBuf,
}

impl Programs {
    /// The programs in `dir`, or where `scripts/build` puts them: `bin` in cargo's target directory.
    pub fn new(dir: Option<&Path>) -> Self {
        let target =
            || std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
        Self {
            dir: dir.map_or_else(|| target().join("bin"), Path::to_owned),
        }
    }

    /// The path of one command.
    ///
    /// # Errors
    /// When it was not built.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let path = self.dir.join(name);
        if !path.is_file() {
            bail!("there is no {name} in {}: run scripts/build", self.dir.display());
        }
        Ok(path)
    }

    /// Checks that all of `names` are there.
    ///
    /// # Errors
    /// Names all that are not.
    pub fn require(&self, names: &[&str]) -> Result<()> {
        let missing: Vec<&str> = names.iter().copied().filter(|n| self.path(n).is_err()).collect();
        if !missing.is_empty() {
            bail!(
                "there is no {} in {}: run scripts/build",
                missing.join(", "),
                self.dir.display()
            );
        }
        Ok(())
    }
}
