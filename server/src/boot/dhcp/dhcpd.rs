//! What a site's own ISC dhcpd needs.

use std::fmt::Write;

use super::super::node::Nodes;
use super::{Answer, Service, fixed};

/// What goes into `dhcpd.conf`, beside the site's subnets.
pub(crate) fn dhcpd(service: &Service<'_>, nodes: &Nodes) -> String {
    let mut text = String::from(
        "# For the site's own ISC dhcpd, beside its subnets.\n\
         option architecture-type code 93 = unsigned integer 16;\n\
         class \"simulcast\" {\n\
         \x20 match if substring(option vendor-class-identifier, 0, 9) = \"PXEClient\"\n\
         \x20       or substring(option vendor-class-identifier, 0, 10) = \"HTTPClient\";\n",
    );
    let (ipxe, others): (Vec<_>, Vec<_>) = service.answers().into_iter().partition(|answer| answer.ipxe);
    let script = format!(
        "if exists user-class and option user-class = \"iPXE\" {{\n    filename \"{}\";\n  }}",
        service.script()
    );
    // The first that fits counts: iPXE in a card's ROM must not get its script where something else was chosen.
    let mut branches: Vec<String> = others.iter().map(|answer| branch(service, answer)).collect();
    branches.push(script);
    branches.extend(ipxe.iter().map(|answer| branch(service, answer)));
    write!(text, "  {}", branches.join(" els")).unwrap_or_default();
    text.push_str("\n}\n");
    for (mac, address, name) in fixed(nodes) {
        let address = address.map_or_else(String::new, |address| format!(" fixed-address {address};"));
        text.push_str(&format!(
            "host {name} {{ hardware ethernet {mac};{address} option host-name \"{name}\"; }}\n"
        ));
    }
    text
}

/// What machines with one kind of firmware get.
fn branch(service: &Service<'_>, answer: &Answer) -> String {
    // dhcpd writes a number of two bytes as 00:07.
    let is = answer.firmware.numbers.iter().map(|number| {
        let [high, low] = number.to_be_bytes();
        format!("option architecture-type = {high:02x}:{low:02x}")
    });
    let test = is.collect::<Vec<_>>().join(" or ");
    let first = if answer.firmware.http {
        "option vendor-class-identifier \"HTTPClient\";".to_owned()
    } else {
        format!("next-server {};", service.tftp)
    };
    format!(
        "if {test} {{\n    {first}\n    filename \"{}\";\n  }}",
        answer.file
    )
}
