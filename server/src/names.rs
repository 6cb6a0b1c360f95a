//! Names that shells offer: nodes, groups and images as they are now. What cannot be read offers nothing.

use std::collections::BTreeMap;

use simulcast_cli::{Names, Options};
use simulcast_image::store::Store;

use crate::inventory::{self, Inventory};
use crate::store;

/// The names that can stand for a value that help calls `value`.
pub(crate) fn names_for(value: &str) -> Option<Names> {
    match value {
        "NODE" | "NODES" => Some(nodes),
        "GROUP" => Some(groups),
        "IMAGE" | "IMAGE[@V]" => Some(images),
        _ => None,
    }
}

fn inventory(options: &Options) -> Inventory {
    inventory::load(&options.config, &BTreeMap::new()).unwrap_or_default()
}

fn nodes(options: &Options) -> Vec<String> {
    let inventory = inventory(options);
    let groups = inventory.groups().keys().map(|group| format!("@{group}"));
    inventory
        .nodes()
        .keys()
        .map(ToString::to_string)
        .chain(groups)
        .collect()
}

fn groups(options: &Options) -> Vec<String> {
    inventory(options)
        .groups()
        .keys()
        .map(ToString::to_string)
        .collect()
}

fn images(options: &Options) -> Vec<String> {
    // Pressing a key makes no store.
    let there = store::is_there(&options.state).then(|| Store::open(&options.state));
    let images = there.and_then(Result::ok).and_then(|store| store.images().ok());
    let images = images.unwrap_or_default();
    images.iter().map(|image| image.name.to_string()).collect()
}
