//! placeholder until later
/// Bytes that any process but the server may keep resident at most.
pub(crate) const CLIENT_LIMIT: u64 = 256 << 20;
