//! Messages of the control channel (HTTP, private) that transports need.

pub use crate::multicast::offer::{OfferError, SessionOffer};
