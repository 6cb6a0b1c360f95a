//! What an image must have for a plan: asked before anything is written, because an install that cannot end should not begin.

use simulcast_image::layout::plan::Plan;
use simulcast_image::layout::{Firmware, Loader};
use simulcast_system::grub::Platform;

/// What GRUB runs on here.
pub(super) fn platform(firmware: Firmware) -> Platform {
    match (firmware, std::env::consts::ARCH) {
        (Firmware::Bios, _) => Platform::Pc,
        (Firmware::Uefi, "aarch64") => Platform::EfiArm64,
        (Firmware::Uefi, _) => Platform::Efi64,
    }
}

/// What the plan needs of the image and the image does not have, as `has` says of a path below its root; one sentence each.
pub(super) fn lacking(plan: &Plan, has: &dyn Fn(&str) -> bool) -> Vec<String> {
    let program = |name: &str| {
        ["usr/sbin", "usr/bin", "sbin", "bin"]
            .iter()
            .any(|dir| has(&format!("{dir}/{name}")))
    };
    let mut lacking = Vec::new();
    let mut need = |there: bool, text: String| {
        if !there {
            lacking.push(text);
        }
    };
    let package = |package: &str| format!("install {package} in the golden client");
    if !plan.arrays.is_empty() {
        need(
            program("mdadm"),
            format!(
                "the layout has RAID, and the image no mdadm: {}",
                package("mdadm")
            ),
        );
    }
    if !plan.groups.is_empty() {
        need(
            program("lvm"),
            format!("the layout has LVM, and the image no lvm: {}", package("lvm2")),
        );
    }
    match plan.loader {
        Loader::None => {}
        Loader::Grub => {
            let platform = platform(plan.firmware);
            let (name, from) = (platform.name(), platform.package());
            let modules = platform.module_files().into_iter().any(|path| has(&path));
            need(
                modules,
                format!("the image has no GRUB for {name}: {}", package(from)),
            );
            let maker = program("grub-mkimage") || program("grub2-mkimage");
            need(
                maker,
                format!("the image has no grub-mkimage: {}", package("grub-common")),
            );
        }
        Loader::SystemdBoot => {
            let there = has(super::systemd_boot::PROGRAM);
            need(
                there,
                format!("the image has no systemd-boot: {}", package("systemd-boot")),
            );
        }
    }
    lacking
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::raid_plan;

    #[test]
    fn what_the_image_lacks_is_named_before_anything_is_written() {
        let plan = raid_plan();
        let all = [
            "usr/sbin/mdadm",
            "sbin/lvm",
            "usr/lib/grub/i386-pc/normal.mod",
            "usr/bin/grub-mkimage",
        ];
        assert!(lacking(&plan, &|path| all.contains(&path)).is_empty());
        assert_eq!(
            lacking(&plan, &|path| all[1..3].contains(&path)),
            [
                "the layout has RAID, and the image no mdadm: install mdadm in the golden client",
                "the image has no grub-mkimage: install grub-common in the golden client",
            ]
        );
        let mut uefi = plan.clone();
        uefi.firmware = Firmware::Uefi;
        uefi.arrays.clear();
        let missing = lacking(&uefi, &|path| all.contains(&path));
        assert!(
            missing[0].starts_with("the image has no GRUB for "),
            "{missing:?}"
        );
        assert_eq!(missing.len(), 1);
        uefi.loader = Loader::None;
        assert!(lacking(&uefi, &|path| all.contains(&path)).is_empty());
    }
}
