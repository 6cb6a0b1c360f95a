//! What a capture says of the machine that it comes from.

use std::collections::BTreeMap;
use std::path::Path;

use crate::facts::{FactsError, read_os_release};

/// File of the configuration directory in which `si-prepareclient` records a machine's facts, as JSON.
pub const MACHINE_RECORD: &str = "machine.json";

/// Host name, distribution, kernel and architecture of this machine, and its record, when there is one below `config`.
///
/// # Errors
/// [`FactsError::Read`] when a file that is there cannot be read.
pub fn describe(config: &Path) -> Result<BTreeMap<String, String>, FactsError> {
    let uname = rustix::system::uname();
    let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
    let mut facts = BTreeMap::from([
        ("host".to_owned(), text(uname.nodename())),
        ("kernel".to_owned(), text(uname.release())),
        ("architecture".to_owned(), text(uname.machine())),
        ("os".to_owned(), read_os_release(Path::new("/"))?.pretty_name),
    ]);
    let path = config.join(MACHINE_RECORD);
    match std::fs::read_to_string(&path) {
        Ok(record) => drop(facts.insert("machine".to_owned(), record)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(FactsError::Read { path, source }),
    }
    Ok(facts)
}
