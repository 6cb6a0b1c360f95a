//! What GRUB reads in the installed system.

/// The image's grub.cfg for a node: the golden client's file systems replaced by the node's, `more` added to what the kernel
/// is started with. None when it does not speak of the old root, so that it has to be made anew.
pub(crate) fn adapted(image: &str, replace: &[(String, String)], more: &[String]) -> Option<String> {
    let (old_root, _) = replace.first()?;
    if !image.contains(&format!("root=UUID={old_root}")) {
        return None;
    }
    let mut text = image.to_owned();
    for (old, new) in replace {
        text = text.replace(old.as_str(), new);
    }
    Some(
        text.lines()
            .map(|line| with_arguments(line, more) + "\n")
            .collect(),
    )
}

fn with_arguments(line: &str, more: &[String]) -> String {
    let is_linux = line
        .split_whitespace()
        .next()
        .is_some_and(|word| matches!(word, "linux" | "linuxefi" | "linux16"));
    let missing = more
        .iter()
        .filter(|argument| !line.split_whitespace().any(|word| word == argument.as_str()));
    let mut line = line.to_owned();
    if is_linux {
        missing.for_each(|argument| line += &format!(" {argument}"));
    }
    line
}

/// A grub.cfg for kernels that were found, newest first, each with its initramfs if it has one: what is used when the image
/// has no program that makes one. `directory` is that of the kernels as GRUB sees it.
pub(crate) fn plain(
    boot: &str,
    directory: &str,
    kernels: &[(String, Option<String>)],
    root: &str,
    more: &[String],
) -> String {
    let mut text = format!(
        "# Written when this node was installed; the image has no grub-mkconfig.\nset default=0\nset timeout=3\ninsmod all_video\n\
         search --no-floppy --fs-uuid --set=root {boot}\n"
    );
    let more: String = more.iter().map(|argument| format!(" {argument}")).collect();
    for (kernel, initramfs) in kernels {
        text += &format!("menuentry '{kernel}' {{\n    linux {directory}/{kernel} root={root} ro{more}\n");
        if let Some(initramfs) = initramfs {
            text += &format!("    initrd {directory}/{initramfs}\n");
        }
        text += "}\n";
    }
    text
}

/// /etc/default/grub with `more` added to what every kernel is started with, so that update-grub keeps it.
pub(crate) fn defaults(image: &str, more: &[String]) -> String {
    const NAME: &str = "GRUB_CMDLINE_LINUX=";
    let old = image
        .lines()
        .find_map(|line| line.trim().strip_prefix(NAME))
        .unwrap_or("\"\"");
    let old = old.trim().trim_matches(['"', '\'']);
    let mut words: Vec<&str> = old.split_whitespace().collect();
    words.extend(
        more.iter()
            .map(String::as_str)
            .filter(|word| !old.split_whitespace().any(|other| other == *word)),
    );
    let new = format!("{NAME}\"{}\"", words.join(" "));
    let mut found = false;
    let mut text = String::new();
    for line in image.lines() {
        let ours = line.trim().starts_with(NAME);
        if !ours {
            text += line;
        } else if !found {
            text += &new;
        }
        found |= ours;
        text.push('\n');
    }
    if !found {
        text += &format!("{new}\n");
    }
    text
}

/// The UUIDs that an fstab mounts at `/`, `/boot` and `/boot/efi`, or uses as swap, each with its place.
pub(crate) fn uuids_of(fstab: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for line in fstab.lines() {
        let mut words = line.split_whitespace();
        if let (Some(source), Some(point), Some(kind)) = (words.next(), words.next(), words.next())
            && let Some(uuid) = source.strip_prefix("UUID=")
        {
            let uuid = uuid.trim_matches('"');
            let plain = uuid.len() >= 9 && uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
            let point = if kind == "swap" { "swap" } else { point };
            if plain && matches!(point, "/" | "/boot" | "/boot/efi" | "swap") {
                found.push((point.to_owned(), uuid.to_owned()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "9b1c6e0a-1111-4222-8333-444455556666";
    const NEW: &str = "0f0e0d0c-0b0a-8908-8706-050403020100";

    #[test]
    fn the_images_menu_is_kept_with_the_nodes_disks() {
        let image = format!(
            "search --no-floppy --fs-uuid --set=root {OLD}\nlinux\t/boot/vmlinuz-6.1 root=UUID={OLD} ro quiet\ninitrd /boot/initrd.img-6.1\n"
        );
        let replace = [(OLD.to_owned(), NEW.to_owned())];
        assert_eq!(
            adapted(&image, &replace, &["console=ttyS0".into(), "quiet".into()]).unwrap(),
            format!(
                "search --no-floppy --fs-uuid --set=root {NEW}\nlinux\t/boot/vmlinuz-6.1 root=UUID={NEW} ro quiet console=ttyS0\n\
                 initrd /boot/initrd.img-6.1\n"
            )
        );
        assert_eq!(adapted("linux /vmlinuz root=/dev/sda1", &replace, &[]), None);
        assert_eq!(adapted(&image, &[], &[]), None);
    }

    #[test]
    fn arguments_outlive_update_grub() {
        let more = ["console=ttyS0".to_owned()];
        let image = "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"a b\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n";
        let once = defaults(image, &more);
        assert_eq!(
            once,
            "GRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"a b console=ttyS0\"\nGRUB_CMDLINE_LINUX_DEFAULT=\"quiet\"\n"
        );
        assert_eq!(defaults(&once, &more), once);
        assert_eq!(defaults("", &more), "GRUB_CMDLINE_LINUX=\"console=ttyS0\"\n");
    }

    #[test]
    fn uuids_of_what_matters_are_found() {
        let text = format!(
            "# x\nUUID={OLD} / ext4 defaults 0 1\nUUID=1A2B-3C4D /boot/efi vfat x 0 1\nUUID={NEW} none swap sw 0 0\n/dev/sda5 /home ext4 x 0 0\n"
        );
        assert_eq!(
            uuids_of(&text),
            [
                ("/".to_owned(), OLD.to_owned()),
                ("/boot/efi".to_owned(), "1A2B-3C4D".to_owned()),
                ("swap".to_owned(), NEW.to_owned())
            ]
        );
    }

    #[test]
    fn a_menu_of_our_own_names_every_kernel() {
        let kernels = [
            ("vmlinuz-6.1".to_owned(), Some("initrd.img-6.1".to_owned())),
            ("vmlinuz-5.10".to_owned(), None),
        ];
        let text = plain("u", "/boot", &kernels, "UUID=u", &["quiet".into()]);
        assert!(
            text.contains("linux /boot/vmlinuz-6.1 root=UUID=u ro quiet\n    initrd /boot/initrd.img-6.1\n")
        );
        assert_eq!(text.matches("menuentry").count(), 2);
    }
}
