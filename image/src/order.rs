//! Orders: what one node is to do to become a copy of a version. The server signs them; the installer obeys no other.
//!
//! An order's bytes are a signature (Ed25519, 64 bytes) followed by JSON. What is signed is the BLAKE3 of the JSON behind
//! a context string, so that a signature of a manifest is never one of an order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use simulcast_protocol::exclusion::{EXCLUSION_LISTS, ListText};
use simulcast_protocol::id::{ContentId, ManifestId};
use simulcast_protocol::install::cmdline::Addressing;
use simulcast_protocol::install::{Mac, NodeName};
use simulcast_protocol::name::{ImageName, Version};

use crate::filter::{Exclusions, FilterError};
use crate::layout::{CheckError, Layout};
use crate::manifest::{SigningKey, VerifyingKey};

const CONTEXT: &[u8] = b"simulcast order\0";
const SIGNATURE_BYTES: usize = 64;

/// Bytes of an order that are accepted. The largest parts are a layout and the keys, which have bounds of their own.
pub const ORDER_BYTES: usize = 1 << 20;

/// Overrides, scripts, keys or variables of one order.
pub const ORDER_ITEMS: usize = 256;

/// Bytes of one override or script.
pub const EXTRA_BYTES: u64 = 1 << 30;

/// Bytes of one variable or key.
const TEXT_BYTES: usize = 16 << 10;

/// What a node is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Counts the installs of the server: one that goes on after an interruption keeps its number.
    pub number: u64,
    /// Whom it is for.
    pub node: NodeName,
    /// The image.
    pub image: ImageName,
    /// Its version.
    pub version: Version,
    /// The identity of that.
    pub manifest: ManifestId,
    /// What is made on the disks.
    pub layout: Layout,
    /// Erase disks that hold something which this system did not put there; so does the layout's own `wipe`.
    #[serde(default)]
    pub wipe: bool,
    /// The network of the installed system.
    pub network: Network,
    /// What tells it from its like.
    #[serde(default)]
    pub identity: Identity,
    /// What of the image is left out: the most specific list first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclusions: Vec<ListText>,
    /// Trees that are laid over the image, in this order.
    #[serde(default)]
    pub overrides: Vec<Extra>,
    /// Scripts that run in the mini-kernel before the disks are touched.
    #[serde(default)]
    pub pre_install: Vec<Extra>,
    /// Scripts that run in the installed system before it starts.
    #[serde(default)]
    pub post_install: Vec<Extra>,
    /// How chunks come.
    #[serde(default)]
    pub transport: Transport,
    /// Whether it brings the version to its site: others of its network prefix get it from there alone.
    #[serde(default)]
    pub relay: bool,
    /// What the machine does at the end.
    #[serde(default)]
    pub finish: Finish,
    /// Public ssh keys that may log in to the mini-kernel.
    #[serde(default)]
    pub rescue_keys: Vec<String>,
    /// What scripts see as `SI_VAR_NAME`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Added to the kernel command line of the installed system, as in `console=ttyS0`.
    #[serde(default)]
    pub kernel_args: Vec<String>,
}

/// The network of an installed system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Its host name.
    pub hostname: NodeName,
    /// Its domain; empty for none.
    #[serde(default)]
    pub domain: String,
    /// How it gets its address.
    pub address: Addressing,
    /// The card that has it.
    pub mac: Mac,
}

/// What an installed system has for itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// /etc/machine-id.
    #[serde(default)]
    pub machine_id: MachineId,
    /// The keys of its ssh server.
    #[serde(default)]
    pub ssh_host_keys: SshHostKeys,
}

/// Where /etc/machine-id comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MachineId {
    /// As in the image.
    Keep,
    /// A new one for each install.
    #[default]
    New,
    /// This one: 32 hexadecimal digits.
    Value(String),
}

/// Where the keys of the ssh server come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SshHostKeys {
    /// As in the image.
    Keep,
    /// New ones for each install; overrides may bring others.
    #[default]
    New,
}

/// A file that goes with an order: an uncompressed tar archive of overrides, or a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    /// What it is called, for people and for scripts' order.
    pub name: String,
    /// BLAKE3 of its bytes, by which it is fetched.
    pub hash: ContentId,
    /// How many bytes it has.
    pub bytes: u64,
}

/// How chunks come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Multicast as far as it goes, peers and HTTP for the rest.
    #[default]
    Auto,
    /// Multicast alone.
    Multicast,
    /// Peers alone.
    Bittorrent,
    /// HTTP alone.
    Http,
}

/// What a machine does when it is installed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Finish {
    /// It restarts, and boots from its disk.
    #[default]
    Reboot,
    /// It starts the installed kernel without going through the firmware.
    Kexec,
    /// It switches itself off.
    Poweroff,
    /// It waits with a shell.
    Shell,
}

/// An order that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OrderError {
    /// It has fewer bytes than a signature, or more than an order may have.
    #[error("an order has 64 bytes to 1 MiB, this one has {0}")]
    Size(usize),
    /// The signature is another key's, or the order was altered.
    #[error(
        "the order's signature does not fit the server's key {0}: it was altered, or another server made it"
    )]
    Signature(String),
    /// The signature is right but the text is not.
    #[error("the order is no JSON of the form that this installer knows")]
    Json(#[source] serde_json::Error),
    /// One of its exclusion lists makes no sense.
    #[error("the order's exclusion lists make no sense")]
    Exclusions(#[from] FilterError),
    /// Its layout makes no sense.
    #[error("the order's layout makes no sense")]
    Layout(#[from] CheckError),
    /// Something else in it makes no sense.
    #[error("the order's {0}")]
    Check(&'static str),
}

impl Order {
    /// Signs the order.
    ///
    /// # Errors
    /// [`OrderError`] when it could not be opened again.
    pub fn sign(&self, key: &SigningKey) -> Result<Vec<u8>, OrderError> {
        self.check()?;
        let json = serde_json::to_vec(self).map_err(OrderError::Json)?;
        let mut bytes = key.sign_bytes(CONTEXT, &json).to_vec();
        bytes.extend(json);
        if bytes.len() > ORDER_BYTES {
            return Err(OrderError::Size(bytes.len()));
        }
        Ok(bytes)
    }

    /// Checks the signature against `key`, then everything else.
    ///
    /// # Errors
    /// [`OrderError`]: nothing is decoded before the signature is right.
    pub fn open(bytes: &[u8], key: &VerifyingKey) -> Result<Self, OrderError> {
        if bytes.len() > ORDER_BYTES {
            return Err(OrderError::Size(bytes.len()));
        }
        let (signature, json) = bytes
            .split_at_checked(SIGNATURE_BYTES)
            .ok_or(OrderError::Size(bytes.len()))?;
        if !key.fits(CONTEXT, json, signature) {
            return Err(OrderError::Signature(key.to_string()));
        }
        let order: Self = serde_json::from_slice(json).map_err(OrderError::Json)?;
        order.check()?;
        Ok(order)
    }

    /// Whether it makes sense in itself.
    ///
    /// # Errors
    /// The first thing that does not.
    pub fn check(&self) -> Result<(), OrderError> {
        self.layout.check()?;
        if self.exclusions.len() > EXCLUSION_LISTS {
            return Err(OrderError::Check("exclusion lists are more than 256"));
        }
        self.exclusions()?;
        let extras = [&self.overrides, &self.pre_install, &self.post_install];
        let counts = [
            self.rescue_keys.len(),
            self.variables.len(),
            self.kernel_args.len(),
        ];
        if extras
            .iter()
            .map(|list| list.len())
            .chain(counts)
            .any(|count| count > ORDER_ITEMS)
        {
            return Err(OrderError::Check(
                "overrides, scripts, keys, variables or arguments are more than 256",
            ));
        }
        for extra in extras.into_iter().flatten() {
            let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | '@');
            if extra.name.is_empty() || extra.name.len() > 255 || !extra.name.chars().all(plain) {
                return Err(OrderError::Check("overrides or scripts have a name that is none"));
            }
            if extra.bytes > EXTRA_BYTES {
                return Err(OrderError::Check("overrides or scripts have more than 1 GiB"));
            }
        }
        if self
            .rescue_keys
            .iter()
            .any(|key| key.len() > TEXT_BYTES || key.chars().any(char::is_control))
        {
            return Err(OrderError::Check("rescue keys are not one line each"));
        }
        for (name, value) in &self.variables {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if name.is_empty()
                || name.len() > 64
                || !name.chars().all(plain)
                || value.len() > TEXT_BYTES
                || value.contains('\0')
            {
                return Err(OrderError::Check(
                    "variables are not named by letters, digits and '_', or are too long",
                ));
            }
        }
        self.check_words()
    }

    /// What an install leaves out. What the shipped list says was left out by the capture already, and what was not,
    /// on purpose, belongs to the image.
    ///
    /// # Errors
    /// The first line that is no rule.
    pub fn exclusions(&self) -> Result<Exclusions, FilterError> {
        Exclusions::of(&self.exclusions)
    }

    /// What ends up in files of the installed system.
    fn check_words(&self) -> Result<(), OrderError> {
        let argument = |text: &String| {
            text.parse::<simulcast_protocol::install::cmdline::Word>()
                .is_err()
        };
        if self.kernel_args.iter().any(argument) {
            return Err(OrderError::Check("kernel arguments are not one word each"));
        }
        let domain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if self.network.domain.len() > 253 || !self.network.domain.chars().all(domain) {
            return Err(OrderError::Check("domain is none"));
        }
        match &self.identity.machine_id {
            MachineId::Value(id)
                if id.len() != 32
                    || !id
                        .bytes()
                        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) =>
            {
                Err(OrderError::Check(
                    "machine-id is not 32 hexadecimal digits in lower case",
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> Order {
        let json = r#"{"number": 7, "node": "node01", "image": "golden01", "version": 3,
            "manifest": "0000000000000000000000000000000000000000000000000000000000000000",
            "layout": {"disk": {"system": {"partition": [{"name": "root", "size": "rest"}]}},
                       "filesystem": [{"on": "system.root", "kind": "ext4", "mount": "/"}]},
            "network": {"hostname": "node01", "address": {"static": {"address": "10.0.0.5/24", "gateway": "10.0.0.1"}},
                        "mac": "52:54:00:12:34:56"},
            "variables": {"RACK": "7"}, "kernel_args": ["console=ttyS0"]}"#;
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn a_signed_order_is_opened_again_with_its_key_alone() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let bytes = order().sign(&key).unwrap();
        assert_eq!(Order::open(&bytes, &key.verifying_key()).unwrap(), order());
        let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
        assert!(matches!(
            Order::open(&bytes, &other),
            Err(OrderError::Signature(_))
        ));
        for at in [0, 63, 64, bytes.len() - 1] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert!(matches!(
                Order::open(&altered, &key.verifying_key()),
                Err(OrderError::Signature(_))
            ));
        }
        assert!(matches!(
            Order::open(&bytes[..63], &key.verifying_key()),
            Err(OrderError::Size(63))
        ));
        let long = vec![0; ORDER_BYTES + 1];
        assert!(matches!(
            Order::open(&long, &key.verifying_key()),
            Err(OrderError::Size(_))
        ));
    }

    #[test]
    fn a_signature_for_another_purpose_is_none() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let json = serde_json::to_vec(&order()).unwrap();
        let mut bytes = key.sign_bytes(b"simulcast manifest\0", &json).to_vec();
        bytes.extend(json);
        assert!(matches!(
            Order::open(&bytes, &key.verifying_key()),
            Err(OrderError::Signature(_))
        ));
    }

    #[test]
    fn what_makes_no_sense_is_neither_signed_nor_obeyed() {
        type Change = fn(&mut Order);
        let changes: [(Change, &str); 6] = [
            (
                |order| order.layout.disk.clear(),
                "the order's layout makes no sense",
            ),
            (
                |order| order.kernel_args = vec!["a b".into()],
                "the order's kernel arguments are not one word each",
            ),
            (
                |order| order.identity.machine_id = MachineId::Value("ABC".into()),
                "the order's machine-id is not 32 hexadecimal digits in lower case",
            ),
            (
                |order| order.network.domain = "a b".into(),
                "the order's domain is none",
            ),
            (
                |order| order.rescue_keys = vec!["ssh-ed25519 A\nssh-ed25519 B".into()],
                "the order's rescue keys are not one line each",
            ),
            (
                |order| drop(order.variables.insert("A=B".into(), String::new())),
                "the order's variables are not named by letters, digits and '_', or are too long",
            ),
        ];
        for (change, message) in changes {
            let mut order = order();
            change(&mut order);
            assert_eq!(
                order
                    .sign(&SigningKey::from_bytes(&[7; 32]))
                    .unwrap_err()
                    .to_string(),
                message
            );
        }
        let mut wrong = serde_json::to_value(order()).unwrap();
        wrong["colour"] = "blue".into();
        assert!(serde_json::from_value::<Order>(wrong).is_err());
    }
}
