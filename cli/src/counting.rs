//! For how long packets are counted, said the same way on both sides of the network.

use clap::value_parser;

/// How long packets of a probe are counted.
#[derive(Debug, Clone, clap::Args)]
pub struct Counting {
    /// For how many seconds packets are counted
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u32).range(1..=1800), conflicts_with = "minutes")]
    seconds: u32,

    /// For how many minutes: after 5 it is known whether switches forget a machine
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=30))]
    minutes: Option<u32>,
}

impl Counting {
    /// The seconds, from 1 to 1,800.
    pub fn seconds(&self) -> u32 {
        self.minutes.map_or(self.seconds, |minutes| minutes * 60)
    }
}
