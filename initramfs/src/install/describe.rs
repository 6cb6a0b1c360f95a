//! A plan in words.

use simulcast_image::layout::Bytes;
use simulcast_image::layout::plan::Plan;

/// A plan for people, one line for each thing that is made.
pub(crate) fn describe(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for disk in &plan.disks {
        lines.push(format!(
            "disk.{} is {} ({})",
            disk.label,
            disk.path,
            Bytes(disk.bytes)
        ));
        for partition in &disk.partitions {
            let kept = if partition.keep.is_some() { ", kept" } else { "" };
            let kind = serde_json::to_string(&partition.kind).unwrap_or_default();
            let kind = kind.trim_matches('"');
            let (size, start) = (Bytes(partition.bytes), Bytes(partition.start));
            lines.push(format!(
                "  {} {}: {kind}, {size} from {start}{kept}",
                partition.path, partition.name
            ));
        }
    }
    for array in &plan.arrays {
        lines.push(format!(
            "raid.{} is {}: level {} of {}",
            array.label,
            array.path,
            array.level,
            array.members.join(", ")
        ));
    }
    for group in &plan.groups {
        lines.push(format!("group.{} of {}", group.label, group.members.join(", ")));
        for volume in &group.volumes {
            lines.push(format!("  {} {}: {}", volume.path, volume.label, volume.size));
        }
    }
    for fs in &plan.filesystems {
        let point = fs
            .mount
            .as_deref()
            .map(|point| format!(" at {point}"))
            .unwrap_or_default();
        let kept = if fs.keep { ", kept" } else { "" };
        lines.push(format!("{} on {}{point}{kept}", fs.kind.name(), fs.path));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use crate::testing::raid_plan;

    #[test]
    fn a_plan_reads_top_to_bottom() {
        let text = super::describe(&raid_plan());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[..4],
            [
                "disk.first is /dev/vda (10GiB)",
                "  /dev/vda1 bios: bios-boot, 1MiB from 1MiB",
                "  /dev/vda2 boot: raid, 512MiB from 2MiB",
                "  /dev/vda3 data: raid, 9725MiB from 514MiB",
            ]
        );
        assert!(lines.contains(&"raid.data is /dev/md1: level 1 of /dev/vda3, /dev/vdb3"));
        assert!(lines.contains(&"ext4 on /dev/mapper/vg0-root at /"));
    }
}
