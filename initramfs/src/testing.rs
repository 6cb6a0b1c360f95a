//! What several tests need.

use simulcast_image::layout::plan::{Plan, Purpose};
use simulcast_image::layout::{DiskFacts, Firmware, Layout};
use simulcast_image::order::Order;
use simulcast_protocol::id::ManifestId;

/// Two empty disks.
pub(crate) fn disks() -> Vec<DiskFacts> {
    let disk = |name: &str| DiskFacts {
        bus: "virtio".into(),
        ..DiskFacts::new(name, 10 << 30)
    };
    vec![disk("vda"), disk("vdb")]
}

/// Two disks that mirror each other, LVM on them, for a BIOS.
pub(crate) fn raid_plan() -> Plan {
    let layout = Layout::parse(include_str!("../../image/fixtures/layout-raid1.toml")).unwrap();
    let purpose = Purpose {
        node: &"node01".parse().unwrap(),
        order: 7,
        manifest: ManifestId::of(b"m"),
        firmware: Firmware::Bios,
    };
    Plan::new(&layout, &disks(), &purpose).unwrap()
}

/// An order for such a machine.
pub(crate) fn order() -> Order {
    let json = r#"{"number": 7, "node": "node01", "image": "golden01", "version": 3,
        "manifest": "0000000000000000000000000000000000000000000000000000000000000000", "layout": {"disk": {}},
        "network": {"hostname": "node01", "address": "dhcp", "mac": "52:54:00:12:34:56"}}"#;
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    let layout = Layout::parse(include_str!("../../image/fixtures/layout-raid1.toml")).unwrap();
    value["layout"] = serde_json::to_value(layout).unwrap();
    serde_json::from_value(value).unwrap()
}
