//! Tests of [`super`].

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

#[test]
fn what_boot_loaders_really_write_is_read() {
    let key = "0123456789abcdef".repeat(4);
    let pxelinux = format!(
        "BOOT_IMAGE=vmlinuz initrd=initrd.img console=ttyS0,115200 quiet si.server=http://10.0.0.1:9440 si.key={key} \
         ip=10.0.0.7:10.0.0.1:10.0.0.1:255.255.255.0 BOOTIF=01-52-54-00-ab-CD-56\n"
    );
    let line = CommandLine::parse(&pxelinux).unwrap();
    assert_eq!(line.server.as_ref().unwrap().as_str(), "http://10.0.0.1:9440");
    assert_eq!(line.key.as_ref().unwrap().as_str(), key);
    assert_eq!(line.boot, "52:54:00:ab:cd:56".parse().ok());
    assert_eq!(line.address, Addressing::Dhcp);
    let grub = "BOOT_IMAGE=(http,10.0.0.1:9440)/boot/vmlinuz root=/dev/ram0 \"si.server=http://image\" BOOTIF=52:54:00:12:34:56 \
                si.debug si.break=partition si.console=tty0 si.console=ttyS0 -- splash";
    let line = CommandLine::parse(grub).unwrap();
    assert_eq!(line.server.unwrap().as_str(), "http://image");
    assert!(line.debug && !line.rescue);
    assert_eq!(line.break_at.unwrap().as_str(), "partition");
    assert_eq!(line.consoles.len(), 2);
    let debian = "BOOT_IMAGE=/boot/vmlinuz-6.1.0-18-amd64 root=UUID=9b1c ro quiet crashkernel=384M-:128M";
    assert_eq!(CommandLine::parse(debian), Ok(CommandLine::default()));
}

#[test]
fn an_address_may_have_gateway_and_names() {
    let address = |text: &str| CommandLine::parse(&format!("si.ip={text}")).map(|line| line.address);
    assert_eq!(address("dhcp"), Ok(Addressing::Dhcp));
    assert_eq!(
        address("10.0.0.5/24,,1.1.1.1,9.9.9.9"),
        Ok(Addressing::Static {
            address: Subnet::new(Ipv4Addr::new(10, 0, 0, 5).into(), 24).unwrap(),
            gateway: None,
            dns: vec![Ipv4Addr::new(1, 1, 1, 1).into(), Ipv4Addr::new(9, 9, 9, 9).into()],
        })
    );
    assert_eq!(
        address("fd00::5/64,fd00::1"),
        Ok(Addressing::Static {
            address: Subnet::new("fd00::5".parse().unwrap(), 64).unwrap(),
            gateway: Some(IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1))),
            dns: vec![],
        })
    );
    for text in [
        "",
        "10.0.0.5",
        "10.0.0.5/0",
        "10.0.0.5/33",
        "10.0.0.5/+8",
        "10.0.0.5/24,x",
        "10.0.0.5/24,10.0.0.1,",
    ] {
        assert!(address(text).is_err(), "{text:?}");
    }
}

#[test]
fn what_cannot_be_used_is_named() {
    let refused = |text: &str| CommandLine::parse(text).unwrap_err().to_string();
    assert_eq!(
        refused("si.key=12"),
        "si.key=\"12\" on the kernel command line: 64 hexadecimal digits"
    );
    assert_eq!(
        refused("si.sever=x"),
        "\"si.sever\" on the kernel command line is nothing that the installer knows"
    );
    assert_eq!(
        refused("si.debug=maybe"),
        "si.debug=\"maybe\" on the kernel command line: nothing, 0 or 1"
    );
    assert!(refused("BOOTIF=01-ff-ff-ff-ff-ff-ff").starts_with("BOOTIF="));
    assert_eq!(
        refused(&"x".repeat(20_000)),
        "the kernel command line has more than 16 KiB"
    );
    for text in ["", "a b", "a\"b", "a'b", "a\\b", "$a", "ä", "\n"] {
        assert!(text.parse::<Word>().is_err(), "{text:?}");
    }
}

fn any_address() -> impl Strategy<Value = Addressing> {
    let ip = prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(bits.into())),
        any::<u128>().prop_map(|bits| IpAddr::V6(bits.into())),
    ];
    let fixed = (
        ip.clone(),
        1u8..=32,
        prop::option::of(ip.clone()),
        prop::collection::vec(ip, 0..=LIST),
    );
    let fixed = fixed.prop_map(|(address, prefix, gateway, dns)| Addressing::Static {
        address: Subnet::new(address, prefix).unwrap(),
        gateway,
        dns,
    });
    prop_oneof![Just(Addressing::Dhcp), fixed]
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        server in prop::option::of("http://[a-z0-9.:]{1,40}"),
        key in prop::option::of("[0-9a-f]{64}"),
        mac in prop::option::of(any::<[u8; 5]>()),
        address in any_address(),
        switches in any::<(bool, bool)>(),
        step in prop::option::of("[a-z-]{1,20}"),
        consoles in prop::collection::vec("[a-zA-Z0-9,=]{1,20}", 0..=LIST),
    ) {
        let word = |text: String| text.parse::<Word>().unwrap();
        let line = CommandLine {
            server: server.map(word),
            key: key.map(word),
            boot: mac.map(|[a, b, c, d, e]| format!("02-{a:02x}-{b:02x}-{c:02x}-{d:02x}-{e:02x}").parse().unwrap()),
            address,
            debug: switches.0,
            break_at: step.map(word),
            rescue: switches.1,
            consoles: consoles.into_iter().map(word).collect(),
        };
        prop_assert_eq!(CommandLine::parse(&format!("quiet {line} panic=10")), Ok(line));
    }

    #[test]
    fn no_text_makes_it_panic(text in "(si\\.[a-z]{0,8}=?|BOOTIF=)?\\PC{0,40}( si\\.ip=\\PC{0,30})?") {
        let _read_or_refused = CommandLine::parse(&text);
    }
}
