//! The kernels of the installed system.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::facts::below;

/// The kernels of the installed system, newest first, each with its initramfs.
pub(super) fn kernels(target: &Path) -> Result<Vec<(String, Option<String>)>> {
    let boot = below(target, "boot")?;
    let entries = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let names: Vec<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    let mut kernels: Vec<String> = names
        .iter()
        .filter(|name| name.starts_with("vmlinuz-"))
        .cloned()
        .collect();
    kernels.sort_by_cached_key(|name| std::cmp::Reverse(version_key(name)));
    if kernels.is_empty() {
        return Err(anyhow!(
            "the image has no kernel in /boot: install one in the golden client, or set loader = \"none\""
        ));
    }
    let with_initramfs = |kernel: String| {
        let version = kernel.trim_start_matches("vmlinuz-").to_owned();
        let candidates = [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
        ];
        let initramfs = candidates.into_iter().find(|name| names.contains(name));
        (kernel, initramfs)
    };
    Ok(kernels.into_iter().map(with_initramfs).collect())
}

/// Orders 6.10 behind 6.9.
fn version_key(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit())
        .filter_map(|number| number.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_ordered_by_version() {
        let scratch = tempfile::tempdir().unwrap();
        assert!(kernels(scratch.path()).is_err());
        fs::create_dir(scratch.path().join("boot")).unwrap();
        for name in [
            "vmlinuz-6.9.0-1",
            "vmlinuz-6.10.0-1",
            "initrd.img-6.10.0-1",
            "config-6.10.0-1",
        ] {
            fs::write(scratch.path().join("boot").join(name), "").unwrap();
        }
        assert_eq!(
            kernels(scratch.path()).unwrap(),
            [
                (
                    "vmlinuz-6.10.0-1".to_owned(),
                    Some("initrd.img-6.10.0-1".to_owned())
                ),
                ("vmlinuz-6.9.0-1".to_owned(), None)
            ]
        );
    }
}
