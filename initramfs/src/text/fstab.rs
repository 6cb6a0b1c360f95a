//! /etc/fstab, and where md finds its arrays.

use simulcast_image::layout::plan::{Plan, PlannedFs};
use simulcast_image::layout::{FsKind, Table};
use simulcast_system::storage::md_uuid;

/// Kinds in an fstab that lie on no disk of this machine, so that their lines stay.
const ELSEWHERE: [&str; 12] = [
    "tmpfs", "proc", "sysfs", "devpts", "nfs", "nfs4", "cifs", "ceph", "lustre", "9p", "debugfs", "cgroup2",
];

/// The fstab of a node: what the plan mounts, and of the image's own fstab what lies on no disk.
pub(crate) fn fstab(plan: &Plan, image: &str) -> String {
    let mut text = String::from(
        "# Written when this node was installed. Network and pseudo file systems are those of the image.\n",
    );
    for fs in &plan.filesystems {
        text += &line(plan, fs);
    }
    let ours = |point: &str| {
        plan.filesystems
            .iter()
            .any(|fs| fs.mount.as_deref() == Some(point))
    };
    for kept in image.lines() {
        let words: Vec<&str> = kept.split_whitespace().collect();
        if let [source, point, kind, ..] = words[..]
            && !source.starts_with('#')
            && (ELSEWHERE.contains(&kind)
                || kind.starts_with("fuse")
                || words.get(3).is_some_and(|o| o.split(',').any(|o| o == "bind")))
            && !ours(point)
        {
            text += &format!("{kept}\n");
        }
    }
    text
}

fn line(plan: &Plan, fs: &PlannedFs) -> String {
    let source = source(plan, fs);
    if fs.kind == FsKind::Swap {
        return format!(
            "{source} none swap {} 0 0\n",
            fs.options.as_deref().unwrap_or("sw")
        );
    }
    let Some(point) = &fs.mount else {
        return String::new();
    };
    let usual = match fs.kind {
        FsKind::Ext4 if point == "/" => "errors=remount-ro",
        FsKind::Vfat => "umask=0077",
        _ => "defaults",
    };
    let mut options = fs.options.clone().unwrap_or_else(|| usual.to_owned());
    if let Some(subvolume) = &fs.subvolume {
        options = format!("{options},subvol={subvolume}");
    }
    let check = match (fs.kind, point.as_str()) {
        (FsKind::Xfs | FsKind::Btrfs, _) => 0,
        (_, "/") => 1,
        _ => 2,
    };
    format!("{source} {point} {} {options} 0 {check}\n", fs.kind.name())
}

/// What tells the file system from all others. Of one that was kept nobody knows the UUID, but that of its partition.
fn source(plan: &Plan, fs: &PlannedFs) -> String {
    if !fs.uuid.is_empty() {
        return format!("UUID={}", fs.uuid);
    }
    let mut partitions = plan
        .disks
        .iter()
        .filter(|disk| disk.table == Table::Gpt)
        .flat_map(|disk| &disk.partitions);
    let found = partitions.find(|partition| partition.path == fs.path);
    found.map_or_else(
        || fs.path.clone(),
        |partition| format!("PARTUUID={}", partition.id),
    )
}

/// mdadm.conf of a node; none when it has no array.
pub(crate) fn mdadm_conf(plan: &Plan, node: &str) -> Option<String> {
    if plan.arrays.is_empty() {
        return None;
    }
    let mut text =
        String::from("# Written when this node was installed.\nHOMEHOST <system>\nMAILADDR root\n");
    for array in &plan.arrays {
        let metadata = match array.metadata {
            simulcast_image::layout::Metadata::End => "1.0",
            simulcast_image::layout::Metadata::Beginning => "1.2",
        };
        let (label, id) = (&array.label, md_uuid(&array.id));
        text += &format!("ARRAY /dev/md/{label} metadata={metadata} UUID={id} name={node}:{label}\n");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::raid_plan;

    #[test]
    fn disks_are_those_of_the_plan_and_the_rest_that_of_the_image() {
        let image = "# golden\nUUID=1-1 / ext4 defaults 0 1\n/dev/sda2 none swap sw 0 0\n\
                     nas:/home /home nfs4 rw,_netdev 0 0\ntmpfs /tmp tmpfs nosuid 0 0\n/srv/a /srv/b none bind 0 0\nnas:/boot /boot nfs ro 0 0\n";
        let plan = raid_plan();
        let uuid = |on: &str| {
            &plan
                .filesystems
                .iter()
                .find(|fs| fs.on.to_string() == on)
                .unwrap()
                .uuid
        };
        assert_eq!(
            fstab(&plan, image).lines().skip(1).collect::<Vec<_>>(),
            [
                &*format!("UUID={} / ext4 errors=remount-ro 0 1", uuid("vg0.root")),
                &*format!("UUID={} /boot ext4 defaults 0 2", uuid("boot")),
                &*format!("UUID={} none swap sw 0 0", uuid("vg0.swap")),
                "nas:/home /home nfs4 rw,_netdev 0 0",
                "tmpfs /tmp tmpfs nosuid 0 0",
                "/srv/a /srv/b none bind 0 0",
            ]
        );
    }

    #[test]
    fn what_was_kept_is_found_by_its_partition() {
        let mut plan = raid_plan();
        plan.filesystems.truncate(1);
        plan.filesystems[0].uuid.clear();
        plan.filesystems[0].path = "/dev/vda2".into();
        let id = &plan.disks[0].partitions[1].id;
        assert!(fstab(&plan, "").contains(&format!("\nPARTUUID={id} / ext4 ")));
    }

    #[test]
    fn arrays_are_named_for_the_node() {
        let plan = raid_plan();
        let text = mdadm_conf(&plan, "node01").unwrap();
        let id = md_uuid(&plan.arrays[0].id);
        assert!(
            text.contains(&format!(
                "\nARRAY /dev/md/boot metadata=1.0 UUID={id} name=node01:boot\n"
            )),
            "{text}"
        );
    }
}
