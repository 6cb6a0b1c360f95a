//! /etc/hosts.

/// The hosts file of a node: the image's, without the golden client's own name, with the node's on 127.0.1.1.
pub(crate) fn hosts(image: &str, golden: &str, node: &str, domain: &str) -> String {
    let mut text = String::new();
    for line in image.lines() {
        let names = line.split('#').next().unwrap_or_default();
        let mut words = names.split_whitespace();
        let address = words.next().unwrap_or_default();
        let is_golden =
            |name: &str| !golden.is_empty() && (name == golden || name.split('.').next() == Some(golden));
        let own = address == "127.0.1.1"
            || address.starts_with("127.")
                && words.clone().any(|name| name != "localhost" && is_golden(name));
        if !own {
            text += &format!("{line}\n");
        } else if address != "127.0.1.1" {
            // localhost may stand on one line with the golden client's name.
            let rest: Vec<&str> = words.filter(|name| !is_golden(name)).collect();
            if !rest.is_empty() {
                text += &format!("{address} {}\n", rest.join(" "));
            }
        }
    }
    if text.is_empty() {
        text += "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
    }
    if domain.is_empty() {
        text + &format!("127.0.1.1 {node}\n")
    } else {
        text + &format!("127.0.1.1 {node}.{domain} {node}\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_golden_clients_name_goes_and_all_else_stays() {
        let image = "127.0.0.1 localhost golden01\n127.0.1.1 golden01.lab golden01\n# servers\n10.0.0.1 image\n10.0.0.9 golden01\n";
        assert_eq!(
            hosts(image, "golden01", "node01", "lab"),
            "127.0.0.1 localhost\n# servers\n10.0.0.1 image\n10.0.0.9 golden01\n127.0.1.1 node01.lab node01\n"
        );
        assert_eq!(
            hosts("", "", "n", ""),
            "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n127.0.1.1 n\n"
        );
    }
}
