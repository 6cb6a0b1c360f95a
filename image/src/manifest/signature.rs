//! Ed25519 signatures (RFC 8032) of manifests.
//!
//! A manifest file is its signature (64 bytes) followed by the manifest's bytes. What is signed is the manifest's
//! identity behind a context string, so that the key cannot be made to sign for another purpose.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, Verifier};
use simulcast_protocol::id::ManifestId;

use super::{DecodeError, Manifest};

const CONTEXT: &[u8] = b"simulcast manifest\0";
/// Bytes of a signature (RFC 8032).
pub const SIGNATURE_BYTES: usize = 64;

/// A manifest with the exact bytes that were signed; its identity is their hash.
#[derive(Debug, Clone)]
pub struct SignedManifest {
    /// The identity of the version.
    pub id: ManifestId,
    /// The decoded manifest.
    pub manifest: Manifest,
    bytes: Vec<u8>,
    key: VerifyingKey,
}

/// Signs manifests; the image server has one.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// Checks signatures; every receiver that pins a server has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerifyingKey(ed25519_dalek::VerifyingKey);

/// A signed manifest is refused.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It has fewer bytes than a signature.
    #[error("the manifest is cut short: not even its signature is whole")]
    Short,
    /// The signature is another key's, or the manifest was altered.
    #[error(
        "the manifest's signature does not fit the server's key {0}: it was altered, or another server made it"
    )]
    Wrong(String),
    /// The signature is right but the manifest is not.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A key is not 32 bytes in hexadecimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is 64 hexadecimal digits")]
pub struct KeyError;

impl SigningKey {
    /// The key with this secret.
    pub fn from_bytes(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// The key that checks what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key())
    }

    /// Signs the BLAKE3 of `bytes` behind `context`, which says what the signature is good for.
    pub(crate) fn sign_bytes(&self, context: &[u8], bytes: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.0
            .sign(&[context, blake3::hash(bytes).as_bytes()].concat())
            .to_bytes()
    }

    /// Encodes and signs a manifest.
    pub fn sign(&self, manifest: Manifest) -> SignedManifest {
        let encoded = manifest.encode();
        let id = ManifestId::of(&encoded);
        let mut bytes = self.0.sign(&message(&id)).to_bytes().to_vec();
        bytes.extend(encoded);
        let key = self.verifying_key();
        SignedManifest {
            id,
            manifest,
            bytes,
            key,
        }
    }
}

impl SignedManifest {
    /// The signature and the manifest, as stored and sent.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key that its signature fits, and that others of the same server's fit.
    pub fn key(&self) -> &VerifyingKey {
        &self.key
    }

    /// The manifest's bytes behind a signature that was checked before, as when it was received; `None` when they are cut.
    pub fn unsigned(bytes: &[u8]) -> Option<&[u8]> {
        bytes.get(SIGNATURE_BYTES..)
    }

    /// Checks the signature against `key` and decodes the manifest.
    ///
    /// # Errors
    /// [`SignatureError`]: nothing of the manifest is decoded before its signature is right.
    pub fn open(bytes: Vec<u8>, key: &VerifyingKey) -> Result<Self, SignatureError> {
        let (signature, encoded) = bytes
            .split_at_checked(SIGNATURE_BYTES)
            .ok_or(SignatureError::Short)?;
        let signature = ed25519_dalek::Signature::from_slice(signature).map_err(|_| SignatureError::Short)?;
        let id = ManifestId::of(encoded);
        key.0
            .verify(&message(&id), &signature)
            .map_err(|_| SignatureError::Wrong(key.to_string()))?;
        let manifest = Manifest::decode(encoded)?;
        let key = *key;
        Ok(Self {
            id,
            manifest,
            bytes,
            key,
        })
    }
}

impl VerifyingKey {
    /// Whether [`SigningKey::sign_bytes`] of this key made `signature` for `bytes`.
    pub(crate) fn fits(&self, context: &[u8], bytes: &[u8], signature: &[u8]) -> bool {
        let message = [context, blake3::hash(bytes).as_bytes()].concat();
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.0.verify(&message, &signature).is_ok())
    }
}

fn message(id: &ManifestId) -> Vec<u8> {
    [CONTEXT, id.as_bytes()].concat()
}

impl FromStr for VerifyingKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        // A key has the form of an identity: 64 hexadecimal digits.
        let bytes = text.trim().parse::<ManifestId>().map_err(|_| KeyError)?;
        ed25519_dalek::VerifyingKey::from_bytes(bytes.as_bytes())
            .map(Self)
            .map_err(|_| KeyError)
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0
            .as_bytes()
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SigningKey").field(&self.verifying_key()).finish()
    }
}
