//! What the tests of this tier begin with.

use simulcast_testkit::programs::Programs;
use simulcast_testkit::run::Run;
use simulcast_testkit::tier::{Feature, ready};
use simulcast_testkit::vm::site::Site;

/// Whether this tier can run here.
pub(crate) fn can_run() -> bool {
    ready(
        "vm",
        &[
            Feature::Root,
            Feature::Network,
            Feature::Debian,
            Feature::Rsync,
            Feature::Vm,
        ],
    )
}

/// A bridge with a server on it that has this `server.toml` and boot files in place.
pub(crate) fn site<'run>(run: &'run Run, settings: &str) -> Site<'run> {
    Site::new(run, Programs::new(None), settings).unwrap()
}
