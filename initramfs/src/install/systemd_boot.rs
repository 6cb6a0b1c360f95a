//! systemd-boot: its program and one entry for each kernel on the EFI system partition.

use std::fs;

use anyhow::{Context, anyhow};
use simulcast_system::facts::OsRelease;

use super::efi::{boot_entry, write_bytes};
use super::extras::read_below;
use super::facts::below;
use super::kernels::kernels;
use super::{Done, Failure, Job};

/// The program, where the image has it.
pub(super) const PROGRAM: &str = "usr/lib/systemd/boot/efi/systemd-bootx64.efi";

/// Puts it in place: kernels first, the program last.
pub(super) fn install(job: &Job) -> Done {
    let plan = job.plan()?;
    let esp = plan.efi().context("there is no EFI system partition")?;
    let esp = esp.mount.clone().unwrap_or_default();
    let root = plan.root().context("there is no root")?;
    let program = fs::read(below(&job.target, PROGRAM)?).map_err(|_| {
        Failure::Final(anyhow!(
            "the image has no systemd-boot: install systemd-boot in the golden client"
        ))
    })?;
    let name = OsRelease::parse(&read_below(&job.target, "etc/os-release")?).pretty_name;
    let mut arguments = vec![format!("root=UUID={}", root.uuid), "ro".to_owned()];
    arguments.extend(
        root.subvolume
            .as_ref()
            .map(|subvolume| format!("rootflags=subvol={subvolume}")),
    );
    arguments.extend(job.no_resume.then(|| "noresume".to_owned()));
    arguments.extend(job.known_order()?.kernel_args.iter().cloned());
    for (kernel, initramfs) in kernels(&job.target)? {
        let version = kernel.trim_start_matches("vmlinuz-");
        let directory = format!("{esp}/simulcast/{version}");
        let mut entry = format!("title {name}\nversion {version}\nlinux /simulcast/{version}/linux\n");
        let copy = |from: &str, to: &str| {
            let bytes = fs::read(below(&job.target, &format!("boot/{from}"))?)
                .with_context(|| format!("cannot read {from}"))?;
            write_bytes(&below(&job.target, &format!("{directory}/{to}"))?, &bytes)
        };
        copy(&kernel, "linux")?;
        if let Some(initramfs) = &initramfs {
            copy(initramfs, "initrd")?;
            entry += &format!("initrd /simulcast/{version}/initrd\n");
        }
        entry += &format!("options {}\n", arguments.join(" "));
        let path = below(
            &job.target,
            &format!("{esp}/loader/entries/simulcast-{version}.conf"),
        )?;
        write_bytes(&path, entry.as_bytes())?;
    }
    let loader = below(&job.target, &format!("{esp}/loader/loader.conf"))?;
    write_bytes(&loader, b"timeout 3\n")?;
    for name in ["EFI/systemd/systemd-bootx64.efi", "EFI/BOOT/BOOTX64.EFI"] {
        write_bytes(&below(&job.target, &format!("{esp}/{name}"))?, &program)?;
    }
    boot_entry(job, "Linux Boot Manager", "EFI/systemd/systemd-bootx64.efi");
    Ok(())
}
