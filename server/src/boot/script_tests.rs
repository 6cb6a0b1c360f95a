//! The scripts, compared as they are.

use super::super::package::PackageName;
use super::*;

const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn package() -> Package {
    let name: PackageName = "default".parse().unwrap();
    Package::sample(name, "0123456789abcdef")
}

/// Calls `check` with what `node01` boots.
fn with(action: BootAction, known: bool, check: impl FnOnce(Boot<'_>)) {
    let (package, name) = (package(), "node01".parse().unwrap());
    let (all, own) = (
        "console=ttyS0,115200".parse().unwrap(),
        "nomodeset".parse().unwrap(),
    );
    let boot = Boot {
        name: known.then_some(&name),
        mac: known.then(|| "52:54:00:12:34:56".parse().unwrap()),
        action,
        package: Some(&package),
        server: "[::ffff:10.0.0.1]:9440".parse().unwrap(),
        key: KEY,
        args: [&all, &own],
    };
    check(boot);
}

#[test]
fn ipxe_asks_with_its_card_first() {
    assert_eq!(
        ipxe_first("10.0.0.1:9440".parse().unwrap()),
        "#!ipxe\n\
         :ask\n\
         chain --replace http://10.0.0.1:9440/boot/ipxe?mac=${netX/mac:hexhyp}&uuid=${uuid} || goto again\n\
         :again\n\
         echo The image server does not answer; asking again in 10 seconds\n\
         sleep 10\n\
         goto ask\n"
    );
    assert!(ipxe_first("[fd77::1]:80".parse().unwrap()).contains("http://[fd77::1]:80/boot/ipxe?"));
}

#[test]
fn ipxe_installs() {
    with(BootAction::Install, true, |boot| {
        assert_eq!(
            ipxe(&boot),
            format!(
                "#!ipxe\n\
                 # node01 boots the mini-kernel\n\
                 kernel --name quiet http://10.0.0.1:9440/boot/packages/default/0123456789abcdef/vmlinuz initrd=initrd.img quiet panic=60 \
                 si.server=http://10.0.0.1:9440 si.key={KEY} BOOTIF=01-52-54-00-12-34-56 si.console=ttyS0 console=ttyS0,115200 nomodeset || goto again\n\
                 initrd --name initrd.img http://10.0.0.1:9440/boot/packages/default/0123456789abcdef/initrd.img || goto again\n\
                 boot || goto again\n\
                 :again\n\
                 echo Trying again in 10 seconds\n\
                 sleep 10\n\
                 chain --replace http://10.0.0.1:9440/boot/ipxe || goto again\n"
            )
        );
    });
}

#[test]
fn ipxe_boots_the_disk_rescues_and_says_what_is_missing() {
    with(BootAction::Local, true, |boot| {
        assert_eq!(
            ipxe(&boot),
            "#!ipxe\n\
             # node01 boots its local disk\n\
             iseq ${platform} efi || goto bios\n\
             chain http://10.0.0.1:9440/boot/files/local.efi ||\n\
             exit 1\n\
             :bios\n\
             sanboot --no-describe --drive 0x80 ||\n\
             exit 1\n"
        );
    });
    with(BootAction::Rescue, true, |boot| {
        assert!(
            ipxe(&boot)
                .contains(" BOOTIF=01-52-54-00-12-34-56 si.rescue si.console=ttyS0 console=ttyS0,115200 ")
        );
    });
    with(BootAction::Install, false, |boot| {
        let boot = Boot {
            package: None,
            ..boot
        };
        assert!(ipxe(&boot).starts_with(
            "#!ipxe\necho an unknown machine: there is no mini-kernel; run si-mkbootpackage on the image server\n:again\n"
        ));
    });
}

#[test]
fn pxelinux_has_the_same_choices() {
    with(BootAction::Install, true, |boot| {
        assert_eq!(
            pxelinux(&boot),
            format!(
                "# node01 boots the mini-kernel\n\
                 DEFAULT simulcast\n\
                 LABEL simulcast\n\
                 \x20 KERNEL http://10.0.0.1:9440/boot/packages/default/0123456789abcdef/vmlinuz\n\
                 \x20 INITRD http://10.0.0.1:9440/boot/packages/default/0123456789abcdef/initrd.img\n\
                 \x20 APPEND quiet panic=60 si.server=http://10.0.0.1:9440 si.key={KEY} BOOTIF=01-52-54-00-12-34-56 si.console=ttyS0 \
                 console=ttyS0,115200 nomodeset\n"
            )
        );
    });
    with(BootAction::Install, false, |boot| {
        assert!(pxelinux(&boot).ends_with(" nomodeset\n  IPAPPEND 2\n"));
    });
    with(BootAction::Local, true, |boot| {
        assert_eq!(
            pxelinux(&boot),
            "# node01 boots its local disk\nDEFAULT local\nLABEL local\n  LOCALBOOT -1\n"
        );
    });
}

#[test]
fn grub_has_the_same_choices() {
    with(BootAction::Install, true, |boot| {
        assert_eq!(
            grub(&boot),
            format!(
                "# node01 boots the mini-kernel\n\
                 linux (tftp,10.0.0.1)/packages/default/0123456789abcdef/vmlinuz quiet panic=60 \
                 si.server=http://10.0.0.1:9440 si.key={KEY} BOOTIF=01-52-54-00-12-34-56 si.console=ttyS0 console=ttyS0,115200 nomodeset\n\
                 initrd (tftp,10.0.0.1)/packages/default/0123456789abcdef/initrd.img\n\
                 boot\n"
            )
        );
    });
    with(BootAction::Install, false, |boot| {
        assert!(grub(&boot).contains(" nomodeset BOOTIF=01-$net_default_mac\n"));
    });
    with(BootAction::Local, true, |boot| {
        let text = grub(&boot);
        assert!(
            text.starts_with("# node01 boots its local disk\nif [ \"$grub_platform\" = efi ]; then\n"),
            "{text}"
        );
        assert!(
            text.ends_with("else\n  set root=(hd0)\n  chainloader +1\n  boot\nfi\n"),
            "{text}"
        );
    });
}

#[test]
fn every_command_line_is_one_that_the_installer_reads() {
    for action in [BootAction::Install, BootAction::Rescue] {
        with(action, true, |boot| {
            let read = CommandLine::parse(&boot.line()).unwrap();
            assert_eq!(read.server.unwrap().as_str(), "http://10.0.0.1:9440");
            assert_eq!(read.key.unwrap().as_str(), KEY);
            assert_eq!(read.boot, boot.mac);
            assert_eq!(read.rescue, action == BootAction::Rescue);
        });
    }
}
