//! What machines get by TFTP, as files: configurations of boot loaders, and mini-kernels. dnsmasq gives out what is there, so
//! what is decided is written there whenever it changes.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};

use super::node::Asking;
use super::package::Package;
use super::script::{Boot, grub, pxelinux};
use super::service::Booting;
use super::{dhcp, files};

/// The name of the file that dnsmasq knows nodes by, beside its configuration.
pub(crate) const HOSTS: &str = "dhcp-hosts";

/// Writes everything that is decided. `server` is how machines reach us. Says whether dnsmasq must read its list of nodes
/// again.
///
/// # Errors
/// When a file cannot be written.
pub(crate) fn publish(booting: &Booting, server: SocketAddr) -> Result<bool> {
    let nodes = booting.nodes();
    let boot = super::package::directory(booting.state());
    let tftp = files::directory(booting.state());
    let (mut pxelinux_files, mut grub_files) = (BTreeMap::new(), BTreeMap::new());
    let mut packages = booting.packages();
    let everybody = nodes.iter().map(|node| {
        let by_uuid = node.uuid.clone().map(Asking::Machine);
        let by_address = node.address.map(Asking::Address);
        let names = [Some(Asking::Card(node.mac)), by_uuid, by_address];
        names.into_iter().flatten().collect::<Vec<_>>()
    });
    // PXELINUX waits for each name that is not there: a stranger finds the first digits of its network sooner than `default`.
    let network = booting.settings().dhcp.as_ref().map(|dhcp| dhcp.network);
    let anybody: Vec<_> = std::iter::once(Asking::Anybody)
        .chain(network.and_then(|network| network.digits().parse().ok()))
        .collect();
    for names in everybody.chain([anybody]) {
        let decision = booting.decide(&names[..1], &mut packages);
        let say = |words: fn(&Boot<'_>) -> String| booting.say(&decision, server, words);
        for name in &names {
            pxelinux_files.insert(name.to_string(), say(pxelinux));
            let name = match name {
                Asking::Anybody => "grub.cfg".to_owned(),
                who => format!("grub.cfg-{who}"),
            };
            grub_files.insert(name, say(grub));
        }
    }
    fill(&tftp.join("pxelinux.cfg"), &pxelinux_files)?;
    fill(&tftp.join("grub"), &grub_files)?;
    for package in packages.there() {
        link(&tftp, package)?;
    }
    files::write(&boot.join(HOSTS), dhcp::hosts(&nodes).as_bytes())
}

/// Makes a directory hold these files, and no others.
fn fill(directory: &Path, wanted: &BTreeMap<String, String>) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    for (name, text) in wanted {
        files::write(&directory.join(name), text.as_bytes())?;
    }
    let failed = || format!("cannot clean up {}", directory.display());
    for entry in fs::read_dir(directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let known = entry
            .file_name()
            .to_str()
            .is_some_and(|name| wanted.contains_key(name));
        if !known {
            fs::remove_file(entry.path()).with_context(failed)?;
        }
    }
    Ok(())
}

/// Makes a mini-kernel appear below `packages/NAME/ID`, and no other of this name.
fn link(tftp: &Path, package: &Package) -> Result<()> {
    let directory = tftp.join("packages").join(package.name.to_string());
    let failed = || format!("cannot fill {}", directory.display());
    fs::create_dir_all(&directory).with_context(failed)?;
    for entry in fs::read_dir(&directory).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        if entry.file_name() != package.id.as_str() {
            fs::remove_file(entry.path()).with_context(failed)?;
        }
    }
    let target = format!("../../../{}", package.name);
    match std::os::unix::fs::symlink(target, directory.join(&package.id)) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error).with_context(failed),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::node::{BootAction, sample};
    use super::super::settings::BootOptions;
    use super::*;

    #[test]
    fn files_follow_the_nodes() {
        let directory = tempfile::tempdir().unwrap();
        let text = "mode = \"dhcp\"\ninterface = \"eth1\"\nnetwork = \"10.0.0.0/22\"\n";
        let settings = toml::from_str::<BootOptions>(text).unwrap().check().unwrap();
        let booting = Booting::new(directory.path(), settings, "0".repeat(64), 9440);
        let server = "10.0.0.1:9440".parse().unwrap();
        let tftp = directory.path().join("boot/tftp");
        let list = |name: &str| {
            let mut names: Vec<_> = fs::read_dir(tftp.join(name))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        booting.set_nodes(vec![sample("node01", 11, BootAction::Local)]);
        assert!(publish(&booting, server).unwrap());
        assert_eq!(
            list("pxelinux.cfg"),
            [
                "0000abcd-0000-0000-0000-00000000000b",
                "01-52-54-00-00-00-0b",
                "0A000",
                "0A00000B",
                "default"
            ]
        );
        assert_eq!(
            list("grub"),
            [
                "grub.cfg",
                "grub.cfg-0000abcd-0000-0000-0000-00000000000b",
                "grub.cfg-01-52-54-00-00-00-0b",
                "grub.cfg-0A000",
                "grub.cfg-0A00000B"
            ]
        );
        let read = |name: &str| fs::read_to_string(tftp.join(name)).unwrap();
        assert!(read("pxelinux.cfg/0A00000B").starts_with("# node01 boots its local disk\n"));
        assert!(!publish(&booting, server).unwrap(), "nothing has changed");
        booting.set_nodes(Vec::new());
        assert!(publish(&booting, server).unwrap());
        assert_eq!(list("pxelinux.cfg"), ["0A000", "default"]);
        assert_eq!(read("pxelinux.cfg/0A000"), read("pxelinux.cfg/default"));
        assert_eq!(list("grub"), ["grub.cfg", "grub.cfg-0A000"]);
    }
}
