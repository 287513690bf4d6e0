use super::*;
use std::os::unix::fs::symlink;

/// A sysfs with these disks and partitions below `devices`, linked as the kernel does it.
fn sysfs(folders: &[&str]) -> tempfile::TempDir {
    let sys = tempfile::tempdir().expect("a directory");
    for class in ["block", "class/block", "dev/block", "devices"] {
        fs::create_dir_all(sys.path().join(class)).expect("a directory");
    }
    for folder in folders {
        fs::create_dir_all(sys.path().join("devices").join(folder)).expect("a directory");
        let disk = folder.split('/').next().expect("a name");
        let there = sys.path().join("devices").join(disk);
        for class in ["block", "class/block"] {
            let link = sys.path().join(class).join(disk);
            if !link.exists() {
                symlink(&there, link).expect("a link");
            }
        }
    }
    sys
}

#[test]
fn a_disk_without_requests_names_those_that_have_them() {
    let sys = sysfs(&[
        "sda/mq",
        "sda/sda2/partition",
        "dm-0/slaves",
        "dm-0/dm",
        "dm-1/slaves",
        "zram0",
        "nvme0n1",
        "nvme0c0n1/mq",
        "nvme0c1n1/mq",
        "nvme0c0n10/mq",
        "etherd!e0.0/mq",
    ]);
    let at = |path: &str| sys.path().join(path);
    symlink(at("devices/sda/sda2"), at("devices/dm-0/slaves/sda2")).expect("a link");
    symlink(at("devices/dm-0"), at("devices/dm-1/slaves/dm-0")).expect("a link");
    symlink(at("devices/sda/sda2"), at("class/block/sda2")).expect("a link");
    symlink(at("devices/sda"), at("dev/block/8:0")).expect("a link");
    symlink(at("devices/sda/sda2"), at("dev/block/8:2")).expect("a link");
    fs::write(at("devices/dm-0/dm/name"), "vg-root\n").expect("a file");
    let say = |disk: &str| warning(sys.path(), disk).unwrap_or_default();
    for fine in ["sda", "8:0", "etherd/e0.0", "nvme0c0n1"] {
        assert_eq!(say(fine), "", "{fine}");
    }
    for partition in ["sda2", "8:2"] {
        assert!(say(partition).contains("a partition") && say(partition).ends_with("write `sda`"));
    }
    for mapper in ["dm-0", "dm-1"] {
        assert!(say(mapper).ends_with("nothing will match; its I/O is requests of `sda`"), "{}", say(mapper));
    }
    assert!(say("nvme0n1").ends_with("requests of `nvme0c0n1`, `nvme0c1n1`"), "{}", say("nvme0n1"));
    assert!(say("zram0").ends_with("nothing will match"));
    assert!(say("vg-root").ends_with("write `dm-0` for `vg-root`"));
    assert!(say("sdz").contains("there is no disk `sdz`"));
}
