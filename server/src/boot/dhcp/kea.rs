//! What a site's own Kea needs.

use serde_json::{Value, json};

use super::super::node::Nodes;
use super::{Answer, Service, fixed};

/// What goes into `Dhcp4` of Kea's configuration: classes of clients, and reservations of the subnet. JSON has no comments;
/// `user-context` stands for them.
pub(crate) fn kea(service: &Service<'_>, nodes: &Nodes) -> Value {
    const IPXE: &str = "option[77].hex == 'iPXE'";
    let answers = service.answers();
    let is = |answer: &Answer| {
        let numbers = answer
            .firmware
            .numbers
            .iter()
            .map(|number| format!("option[93].hex == 0x{number:04x}"));
        format!("({})", numbers.collect::<Vec<_>>().join(" or "))
    };
    let others = answers.iter().filter(|answer| !answer.ipxe);
    let others: String = others.map(|answer| format!(" and not {}", is(answer))).collect();
    let mut classes = vec![json!({
        "name": "simulcast-ipxe",
        "test": format!("{IPXE}{others}"),
        "boot-file-name": service.script(),
    })];
    for answer in &answers {
        let unless = if answer.ipxe {
            format!(" and not ({IPXE})")
        } else {
            String::new()
        };
        let mut class = json!({
            "name": format!("simulcast-{}", answer.firmware.name),
            "test": format!("{}{unless}", is(answer)),
            "boot-file-name": answer.file,
        });
        if answer.firmware.http {
            // Firmware takes an offer for one that it can boot by only with this, whether it has asked for it or not.
            class["option-data"] =
                json!([{ "name": "vendor-class-identifier", "data": "HTTPClient", "always-send": true }]);
        } else {
            class["next-server"] = json!(service.tftp);
        }
        classes.push(class);
    }
    let reservations: Vec<_> = fixed(nodes)
        .map(|(mac, address, name)| {
            let mut host = json!({ "hw-address": mac, "hostname": name });
            if let Some(address) = address {
                host["ip-address"] = json!(address);
            }
            host
        })
        .collect();
    json!({
        "Dhcp4": {
            "client-classes": classes,
            "subnet4": [{
                "id": 1,
                "subnet": service.dhcp.network.to_string(),
                "reservations": reservations,
                "user-context": { "comment": "add the site's pools and options" },
            }],
        }
    })
}
