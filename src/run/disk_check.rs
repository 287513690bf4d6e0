//! Checks the disks in filters: whether they exist and have requests of their own.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::plan::Plan;

/// Limit of device mapper and RAID layers that are followed down to the disks.
const LAYERS: usize = 8;

/// Warnings for disks in filters without requests. A missing disk can still appear later.
pub fn missing_disks(plan: &Plan) -> Vec<String> {
    let disks: BTreeSet<&str> = plan.probes.iter().flat_map(|probe| &probe.disks).map(String::as_str).collect();
    disks.into_iter().filter_map(|disk| warning(Path::new("/sys"), disk)).collect()
}

/// The warning for `disk`, a name or `major:minor`, on a machine with its sysfs at `sys`.
fn warning(sys: &Path, disk: &str) -> Option<String> {
    let class = if disk.contains(':') { "dev/block" } else { "class/block" };
    // sysfs replaces a slash in a name with `!`
    let Ok(found) = fs::canonicalize(sys.join(class).join(disk.replace('/', "!"))) else {
        return Some(match mapped(sys, disk) {
            Some(name) => format!("filters take the kernel's name of a disk: write `{name}` for `{disk}`"),
            None => format!("there is no disk `{disk}` (see lsblk)"),
        });
    };
    if found.join("partition").exists() {
        let whole = name_of(found.parent()?);
        return Some(format!(
            "`{disk}` is a partition, and requests are counted by disk: nothing will match; write `{whole}`"
        ));
    }
    if found.join("mq").exists() {
        return None;
    }
    let mut below = paths(sys, &name_of(&found));
    disks_below(&found, LAYERS, &mut below);
    let list = below.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let instead = if below.is_empty() { String::new() } else { format!("; its I/O is requests of {list}") };
    Some(format!("`{disk}` has no requests of its own: nothing will match{instead}"))
}

/// The name that the kernel uses.
fn name_of(folder: &Path) -> String {
    folder.file_name().unwrap_or_default().to_string_lossy().replace('!', "/")
}

/// The disk with the device mapper's name `name`.
fn mapped(sys: &Path, name: &str) -> Option<String> {
    let is_it = |folder: &PathBuf| fs::read_to_string(folder.join("dm/name")).is_ok_and(|text| text.trim() == name);
    let mut folders = fs::read_dir(sys.join("block")).ok()?.flatten().map(|entry| entry.path());
    folders.find(is_it).map(|folder| name_of(&folder))
}

/// Collects the disks with requests below `folder`, a disk of device mapper or RAID.
fn disks_below(folder: &Path, layers: usize, found: &mut BTreeSet<String>) {
    let slaves = fs::read_dir(folder.join("slaves")).into_iter().flatten().flatten();
    for slave in slaves.filter_map(|slave| fs::canonicalize(slave.path()).ok()) {
        let whole = if slave.join("partition").exists() { slave.parent().unwrap_or(&slave) } else { &slave };
        if whole.join("mq").exists() {
            found.insert(name_of(whole));
        } else if layers > 0 {
            disks_below(whole, layers - 1, found);
        }
    }
}

/// The hidden disks of a multipath NVMe disk, which have its requests: `nvme0c0n1`, `nvme0c1n1` for `nvme0n1`.
fn paths(sys: &Path, disk: &str) -> BTreeSet<String> {
    let Some((subsystem, space)) = disk.rsplit_once('n').filter(|(subsystem, _)| subsystem.starts_with("nvme")) else {
        return BTreeSet::new();
    };
    let (start, end) = (format!("{subsystem}c"), format!("n{space}"));
    let entries = fs::read_dir(sys.join("block")).into_iter().flatten().flatten();
    let names = entries.map(|entry| name_of(&entry.path()));
    names.filter(|name| name.starts_with(&start) && name.ends_with(&end)).collect()
}

#[cfg(test)]
mod tests;
