//! The keys of an entry: what commands take as `KEY=VALUE`, and what they are for.

/// What a value looks like in TOML.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string.
    Text,
    /// `true` or `false`.
    Flag,
    /// A whole number.
    Number,
    /// A list of strings, with commas between on the command line.
    List,
    /// A table of strings; on the command line `variables.NAME=VALUE`.
    Table,
}

/// Who can have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Of {
    Node,
    Group,
    Both,
}

/// A key of an entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) of: Of,
    /// What it is for, in a few words.
    pub(crate) help: &'static str,
}

const fn key(name: &'static str, kind: Kind, of: Of, help: &'static str) -> Key {
    Key { name, kind, of, help }
}

/// All keys, in the order in which they are shown.
pub(crate) const KEYS: &[Key] = &[
    key("mac", Kind::Text, Of::Node, "the card that it boots from"),
    key(
        "uuid",
        Kind::Text,
        Of::Node,
        "what its firmware calls it, by which some boot loaders ask",
    ),
    key(
        "address",
        Kind::Text,
        Of::Node,
        "its address, as in 10.0.0.11 or 10.0.0.11/24",
    ),
    key(
        "groups",
        Kind::List,
        Of::Node,
        "the groups that it is in, besides all",
    ),
    key(
        "priority",
        Kind::Number,
        Of::Group,
        "the group with the higher number decides",
    ),
    key("comment", Kind::Text, Of::Both, "a note for people"),
    key(
        "image",
        Kind::Text,
        Of::Both,
        "what it is installed with, as in golden01 or golden01@3",
    ),
    key(
        "layout",
        Kind::Text,
        Of::Both,
        "a file of layouts.d, else the disks are as the image's golden client had them",
    ),
    key(
        "package",
        Kind::Text,
        Of::Both,
        "the mini-kernel, as si-mkbootpackage named it, else the usual one",
    ),
    key("network", Kind::Text, Of::Both, "dhcp (usual) or static"),
    key(
        "prefix",
        Kind::Number,
        Of::Both,
        "bits of the network part of static addresses, as in 24",
    ),
    key(
        "gateway",
        Kind::Text,
        Of::Both,
        "the way out of the network of static addresses",
    ),
    key(
        "dns",
        Kind::List,
        Of::Both,
        "addresses of name servers, with static addresses",
    ),
    key("domain", Kind::Text, Of::Both, "the domain behind the host name"),
    key(
        "finish",
        Kind::Text,
        Of::Both,
        "reboot (usual), kexec, poweroff or shell",
    ),
    key(
        "transport",
        Kind::Text,
        Of::Both,
        "auto (usual), multicast, bittorrent or http",
    ),
    key(
        "relay",
        Kind::Flag,
        Of::Both,
        "true: it brings versions to its site, for peers to get them there",
    ),
    key(
        "wipe",
        Kind::Flag,
        Of::Both,
        "true: disks with data of others may be erased",
    ),
    key(
        "console",
        Kind::Text,
        Of::Both,
        "console of both kernels, as in ttyS0,115200",
    ),
    key(
        "kernel_args",
        Kind::Text,
        Of::Both,
        "arguments of both kernels: the mini-kernel's and the installed one's",
    ),
    key(
        "machine_id",
        Kind::Text,
        Of::Both,
        "new (usual), keep, or 32 hexadecimal digits",
    ),
    key("ssh_host_keys", Kind::Text, Of::Both, "new (usual) or keep"),
    key(
        "rescue_keys",
        Kind::List,
        Of::Both,
        "ssh keys that may enter the mini-kernel",
    ),
    key(
        "variables",
        Kind::Table,
        Of::Both,
        "for scripts, which see SI_VAR_NAME",
    ),
];

/// The key with a name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// All keys with what they are for, as the help of commands ends.
pub(crate) fn help() -> String {
    let mut text = String::from("Keys:\n");
    for key in KEYS {
        let of = match key.of {
            Of::Node => " (nodes only)",
            Of::Group => " (groups only)",
            Of::Both => "",
        };
        text.push_str(&format!("  {:<14} {}{of}\n", key.name, key.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::Entry;
    use super::*;

    /// The list and the type cannot drift apart: serde knows the fields that it takes.
    #[test]
    fn every_field_has_a_key_and_every_key_a_field() {
        let error = toml::from_str::<Entry>("nonsense = 1").unwrap_err();
        let told = error.message();
        let (_, fields) = told.split_once("expected one of ").unwrap();
        let fields: Vec<_> = fields.split(", ").map(|field| field.trim_matches('`')).collect();
        let keys: Vec<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(fields, keys);
    }
}
