//! What boot loaders are told, each in its own language: iPXE, PXELINUX and GRUB.
//!
//! Everything that stands in a script is of a type that has no character with a meaning in any of these languages
//! ([`NodeName`], [`Mac`], [`KernelArgs`], package names and identities), so nothing can be injected.

use std::net::{IpAddr, SocketAddr};

use simulcast_bootpackage::{INITRD, KERNEL};
use simulcast_protocol::install::cmdline::{CommandLine, Word};
use simulcast_protocol::install::{Mac, NodeName};

use super::args::KernelArgs;
use super::files::BootFile;
use super::node::BootAction;
use super::package::Package;

/// What the mini-kernel always gets: few words on the console, and a new try when it crashes.
const USUAL: &str = "quiet panic=60";

/// Seconds before a boot loader that could not load something tries again.
const AGAIN: u32 = 10;

/// What one machine should boot, with all that its script needs.
#[derive(Debug, Clone)]
pub(crate) struct Boot<'a> {
    /// The node, if it is one.
    pub(crate) name: Option<&'a NodeName>,
    /// Its card, if that is known.
    pub(crate) mac: Option<Mac>,
    /// What it should do.
    pub(crate) action: BootAction,
    /// What it loads unless it boots its disk; none when none was built.
    pub(crate) package: Option<&'a Package>,
    /// Where it reaches us.
    pub(crate) server: SocketAddr,
    /// The key that signs what we say, in hexadecimal digits.
    pub(crate) key: &'a str,
    /// Further words of its kernel command line: those of all nodes, then its own.
    pub(crate) args: [&'a KernelArgs; 2],
}

impl Boot<'_> {
    fn who(&self) -> String {
        match (self.name, self.mac) {
            (Some(name), _) => name.to_string(),
            (None, Some(mac)) => format!("the unknown machine {mac}"),
            (None, None) => "an unknown machine".to_owned(),
        }
    }

    /// The kernel command line, without what names the card.
    fn line(&self) -> String {
        let word = |text: String| text.parse::<Word>().ok();
        let ours = CommandLine {
            server: word(base(self.server)),
            key: word(self.key.to_owned()),
            boot: self.mac,
            consoles: self
                .args
                .iter()
                .flat_map(|args| args.consoles())
                .filter_map(|name| name.parse().ok())
                .collect(),
            rescue: self.action == BootAction::Rescue,
            ..CommandLine::default()
        };
        let mut words = vec![USUAL.to_owned(), ours.to_string()];
        words.extend(self.args.iter().map(|args| args.as_str().to_owned()));
        words.retain(|word| !word.is_empty());
        words.join(" ")
    }

    /// What is wrong when a mini-kernel is wanted and there is none.
    fn no_package(&self) -> String {
        format!(
            "{}: there is no mini-kernel; run si-mkbootpackage on the image server",
            self.who()
        )
    }

    /// The path of a file of the mini-kernel, below the server.
    fn path(package: &Package, file: &str) -> String {
        format!("/boot/packages/{}/{}/{file}", package.name, package.id)
    }
}

/// How a machine reaches us by HTTP.
pub(crate) fn base(server: SocketAddr) -> String {
    let address = SocketAddr::new(server.ip().to_canonical(), server.port());
    format!("http://{address}")
}

/// The iPXE script that finds out who the machine is, and asks again with that.
pub(crate) fn ipxe_first(server: SocketAddr) -> String {
    format!(
        "#!ipxe\n\
         :ask\n\
         chain --replace {}/boot/ipxe?mac=${{netX/mac:hexhyp}}&uuid=${{uuid}} || goto again\n\
         :again\n\
         echo The image server does not answer; asking again in {AGAIN} seconds\n\
         sleep {AGAIN}\n\
         goto ask\n",
        base(server)
    )
}

/// The iPXE script of one machine.
pub(crate) fn ipxe(boot: &Boot<'_>) -> String {
    let (who, base) = (boot.who(), base(boot.server));
    // A BIOS boots the first disk. On a UEFI GRUB finds it; without GRUB, firmware goes on with its next entry when we say
    // that this one failed.
    if boot.action == BootAction::Local {
        return format!(
            "#!ipxe\n\
             # {who} boots its local disk\n\
             iseq ${{platform}} efi || goto bios\n\
             chain {base}/boot/files/{} ||\n\
             exit 1\n\
             :bios\n\
             sanboot --no-describe --drive 0x80 ||\n\
             exit 1\n",
            BootFile::LocalUefi.name()
        );
    }
    let again = format!(
        ":again\n\
         echo Trying again in {AGAIN} seconds\n\
         sleep {AGAIN}\n\
         chain --replace {base}/boot/ipxe || goto again\n"
    );
    let Some(package) = boot.package else {
        return format!("#!ipxe\necho {}\n{again}", boot.no_package());
    };
    // On a UEFI the name of the kernel's file becomes the first word of its command line, and what is no parameter there is an
    // argument of the installer; so it is called by the name of a parameter that it has anyway.
    format!(
        "#!ipxe\n\
         # {who} boots the mini-kernel\n\
         kernel --name quiet {base}{} initrd={INITRD} {} || goto again\n\
         initrd --name {INITRD} {base}{} || goto again\n\
         boot || goto again\n\
         {again}",
        Boot::path(package, KERNEL),
        boot.line(),
        Boot::path(package, INITRD),
    )
}

/// The configuration of PXELINUX for one machine. Kernel and initramfs come by HTTP, which lpxelinux.0 can.
pub(crate) fn pxelinux(boot: &Boot<'_>) -> String {
    let who = boot.who();
    if boot.action == BootAction::Local {
        return format!("# {who} boots its local disk\nDEFAULT local\nLABEL local\n  LOCALBOOT -1\n");
    }
    let Some(package) = boot.package else {
        return format!(
            "SAY {}\nDEFAULT local\nLABEL local\n  LOCALBOOT -1\n",
            boot.no_package()
        );
    };
    let base = base(boot.server);
    // PXELINUX tells the card itself when we do not know it.
    let card = if boot.mac.is_none() { "  IPAPPEND 2\n" } else { "" };
    format!(
        "# {who} boots the mini-kernel\n\
         DEFAULT simulcast\n\
         LABEL simulcast\n\
         \x20 KERNEL {base}{}\n\
         \x20 INITRD {base}{}\n\
         \x20 APPEND {}\n\
         {card}",
        Boot::path(package, KERNEL),
        Boot::path(package, INITRD),
        boot.line(),
    )
}

/// The configuration of GRUB for one machine. Kernel and initramfs come by TFTP: GRUB before 2.12 knows no other port of HTTP
/// than 80.
pub(crate) fn grub(boot: &Boot<'_>) -> String {
    let who = boot.who();
    let local = "if [ \"$grub_platform\" = efi ]; then\n\
                 \x20 if search --no-floppy --set=root --file /EFI/BOOT/BOOTX64.EFI; then\n\
                 \x20   chainloader /EFI/BOOT/BOOTX64.EFI\n\
                 \x20   boot\n\
                 \x20 fi\n\
                 \x20 exit\n\
                 else\n\
                 \x20 set root=(hd0)\n\
                 \x20 chainloader +1\n\
                 \x20 boot\n\
                 fi\n";
    if boot.action == BootAction::Local {
        return format!("# {who} boots its local disk\n{local}");
    }
    let Some(package) = boot.package else {
        return format!("echo \"{}\"\nsleep {AGAIN}\n{local}", boot.no_package());
    };
    let IpAddr::V4(server) = boot.server.ip().to_canonical() else {
        return format!("echo \"{who}: GRUB loads the mini-kernel by IPv4 alone\"\nsleep {AGAIN}\n{local}");
    };
    // Where we do not know the card, GRUB does.
    let card = if boot.mac.is_none() {
        " BOOTIF=01-$net_default_mac"
    } else {
        ""
    };
    let path = |file| format!("(tftp,{server})/packages/{}/{}/{file}", package.name, package.id);
    format!(
        "# {who} boots the mini-kernel\n\
         linux {} {}{card}\n\
         initrd {}\n\
         boot\n",
        path(KERNEL),
        boot.line(),
        path(INITRD),
    )
}

#[cfg(test)]
#[path = "script_tests.rs"]
mod tests;
