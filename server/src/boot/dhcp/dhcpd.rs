//! What a site's own ISC dhcpd needs.

use std::fmt::Write;

use super::super::node::Nodes;
use super::{Service, fixed};

/// What goes into `dhcpd.conf`, beside the site's subnets.
pub(crate) fn dhcpd(service: &Service<'_>, nodes: &Nodes) -> String {
    let mut text = String::from(
        "# For the site's own ISC dhcpd, beside its subnets.\n\
         option architecture-type code 93 = unsigned integer 16;\n\
         class \"simulcast\" {\n\
         \x20 match if substring(option vendor-class-identifier, 0, 9) = \"PXEClient\"\n\
         \x20       or substring(option vendor-class-identifier, 0, 10) = \"HTTPClient\";\n",
    );
    let mut branch = format!(
        "  if exists user-class and option user-class = \"iPXE\" {{\n    filename \"{}\";\n  }}",
        service.script()
    );
    for (firmware, file) in &service.answered() {
        let is = firmware
            .numbers
            .iter()
            .map(|number| format!("option architecture-type = {number:04x}"));
        // dhcpd writes a number of two bytes as 00:07.
        let is: Vec<_> = is
            .map(|test| {
                let (head, number) = test.split_at(test.len() - 4);
                format!("{head}{}:{}", &number[..2], &number[2..])
            })
            .collect();
        let first = if firmware.http {
            "option vendor-class-identifier \"HTTPClient\";".to_owned()
        } else {
            format!("next-server {};", service.tftp)
        };
        let test = is.join(" or ");
        write!(
            branch,
            " elsif {test} {{\n    {first}\n    filename \"{file}\";\n  }}"
        )
        .unwrap_or_default();
    }
    text.push_str(&branch);
    text.push_str("\n}\n");
    for (mac, address, name) in fixed(nodes) {
        let address = address.map_or_else(String::new, |address| format!(" fixed-address {address};"));
        text.push_str(&format!(
            "host {name} {{ hardware ethernet {mac};{address} option host-name \"{name}\"; }}\n"
        ));
    }
    text
}
