//! `biosnoop` against reads and writes whose every sector is known.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::kernel::{Host, KernelInfo, Loaded};
use ebpf_run::plan::{Overrides, Plan, plan};
use rustix::time::ClockId;
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, summary, to_jsonl_of_busy};
use crate::common::{Ended, Scratch, run};
use crate::disk::{BLOCK, BLOCKS, Disk, Loop, reads_and_writes, retry, starts_are_traced};
use crate::load::{Held, SmallFolder, clock, copy_as, copy_of, unique_name, wait_until};
use crate::root;

const SECTORS_PER_BLOCK: u64 = BLOCK / 512;

/// That `actual` has just what is `expected`: too much is wrong, too little may be the host's doing.
fn complete(what: &str, actual: &BTreeSet<u64>, expected: &BTreeSet<u64>) -> Result<(), String> {
    let extra: Vec<_> = actual.difference(expected).collect();
    assert!(extra.is_empty(), "{what}: there should be no {extra:?}");
    let missing: Vec<_> = expected.difference(actual).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("{what}: {missing:?}")) }
}

/// The first sectors of the blocks that it reads (0) or writes (1).
fn blocks(part: u64) -> BTreeSet<u64> {
    (part * BLOCKS..(part + 1) * BLOCKS).map(|block| block * SECTORS_PER_BLOCK).collect()
}

fn sectors<'a>(records: impl IntoIterator<Item = &'a Json>) -> BTreeSet<u64> {
    records.into_iter().map(|record| number(record, "sector")).collect()
}

fn number(record: &Json, field: &str) -> u64 {
    record[field].as_u64().unwrap_or_else(|| panic!("{field} of {record}"))
}

/// The records with this operation.
fn with_op<'a>(records: &'a [Json], op: &str) -> Vec<&'a Json> {
    records.iter().filter(|record| record["op"] == op).collect()
}

#[test]
fn every_field_is_what_the_load_did() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    retry(|| {
        let load = reads_and_writes(Path::new("/bin/sh"), &dd, &disk);
        let pid = load.pid();
        let capture = Capture::start(
            &scratch,
            &to_jsonl_of_busy(json!([{"program": "biosnoop", "filters": {"pid": pid, "device": disk.name}}])),
            &[],
        );
        let (ktime, wall) = (clock(ClockId::Monotonic), clock(ClockId::Realtime));
        assert_eq!(load.go(), Some(0));
        let took = clock(ClockId::Monotonic) - ktime;
        let ended = capture.stop().expect(0);
        let records = records(&ended.stdout);
        for record in &records {
            assert_eq!(record["probe"], "biosnoop");
            assert_eq!(record["pid"], pid);
            assert_eq!(record["comm"], comm.as_str());
            assert_eq!(record["device"], disk.name.as_str());
            assert_eq!(record["bytes"], BLOCK);
            assert_eq!(record["error"], 0);
            let flags: Vec<&str> = record["flags"].as_str().expect("text").split('|').collect();
            assert!(flags.contains(&"sync") || record["op"] == "read", "whoever writes past the cache waits: {record}");
            // All of the request's life lies within the load's, on both clocks
            let (ts, latency, queued) =
                (number(record, "ts"), number(record, "latency_ns"), number(record, "queued_ns"));
            let start = (ts - latency - queued) as i64 - ktime;
            assert!(latency > 0 && start > 0 && ts as i64 - ktime < took, "{record}");
            let time: jiff::Timestamp = record["time"].as_str().expect("text").parse().expect("RFC 3339");
            let since = time.as_nanosecond() as i64 - wall;
            // The offset between the clocks is measured, and the wall clock may be slewed meanwhile
            let slack = Duration::from_millis(50).as_nanos() as i64;
            assert!(((ts as i64 - ktime) - since).abs() < slack, "{since} ns after the start: {record}");
        }
        let (reads, writes) = (with_op(&records, "read"), with_op(&records, "write"));
        assert_eq!(reads.len() + writes.len(), records.len(), "{records:#?}");
        let (read, written) = (sectors(reads.iter().copied()), sectors(writes.iter().copied()));
        assert_eq!((read.len(), written.len()), (reads.len(), writes.len()), "no request is there twice");
        assert_eq!(summary(&ended, "biosnoop"), [records.len() as u64, records.len() as u64, 0]);
        complete("reads", &read, &blocks(0)).and(complete("writes", &written, &blocks(1)))
    });
}

/// One probe for each way to set each filter, all over the same load.
#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let other = unique_name();
    let (all, none) = ([true, true], [false, false]);
    let (reads, writes) = ([true, false], [false, true]);
    retry(|| {
        let load = reads_and_writes(Path::new("/bin/sh"), &dd, &disk);
        let idle = reads_and_writes(Path::new("/bin/sh"), &dd, &disk); // which is never let go
        let (pid, idle) = (load.pid(), idle.pid());
        let cases = [
            (json!({}), all),
            (json!({"min_latency": "1ns", "pid": pid}), all),
            (json!({"min_latency": "1min", "pid": pid}), none),
            (json!({"device": disk.name, "pid": pid}), all),
            (json!({"device": ["nosuch0", disk.name], "pid": pid}), all),
            (json!({"device": "nosuch0", "pid": pid}), none),
            (json!({"device": disk.name[..4], "pid": pid}), none), // a beginning is not the name
            (json!({"op": "read", "pid": pid}), reads),
            (json!({"op": "write", "pid": pid}), writes),
            (json!({"op": ["flush", "write", "read"], "pid": pid}), all),
            (json!({"op": ["flush", "discard"], "pid": pid}), none),
            (json!({"pid": pid}), all),
            (json!({"pid": [idle, pid]}), all),
            (json!({"pid": idle}), none),
            (json!({"comm": comm}), all),
            (json!({"comm": [other, comm]}), all),
            (json!({"comm": other}), none),
            (json!({"comm": comm, "device": disk.name, "op": "read", "pid": pid}), reads), // all of them must match
        ];
        let probe = |(i, (filters, _)): (usize, &(Json, _))| json!({"program": "biosnoop", "name": format!("p{i}"), "filters": filters, "buffer": {"size": "256KiB"}});
        let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
        let config = to_jsonl_of_busy(json!(probes)); // the probe without a filter sees the whole machine
        let capture = Capture::start(&scratch, &config, &[]);
        assert_eq!(load.go(), Some(0));
        let ended = capture.stop().expect(0).says(&["warning: there is no disk `nosuch0`"]);
        let records = records(&ended.stdout);
        let mut result = Ok(());
        for (i, (filters, wanted)) in cases.iter().enumerate() {
            let mut records = of_probe(&records, &format!("p{i}"));
            // The load may have to read its own files from another disk
            records.retain(|record| record["device"] == disk.name.as_str() && (i > 0 || record["pid"] == pid));
            for (part, op) in ["read", "write"].into_iter().enumerate() {
                let actual = sectors(records.iter().copied().filter(|record| record["op"] == op));
                let expected = if wanted[part] { blocks(part as u64) } else { BTreeSet::new() };
                result = result.and(complete(&format!("{op}s of {filters}"), &actual, &expected));
            }
        }
        result
    });
}

/// A threshold among the latencies that a load really has, which a first run finds out.
#[test]
fn min_latency_divides_the_requests() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let (dd, comm) = copy_of(&scratch, "dd");
    let capture = |probes| {
        let load = reads_and_writes(Path::new("/bin/sh"), &dd, &disk);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probes), &[]);
        assert_eq!(load.go(), Some(0));
        records(&capture.stop().expect(0).stdout)
    };
    let latencies = |records: &[&Json]| -> Vec<u64> {
        let mut all: Vec<u64> = records.iter().map(|record| number(record, "latency_ns")).collect();
        all.sort_unstable();
        all
    };
    retry(|| {
        let filters = json!({"comm": comm, "device": disk.name});
        let every = capture(json!([{"program": "biosnoop", "filters": filters}]));
        let every = latencies(&every.iter().collect::<Vec<_>>());
        let Some(&middle) = every.get(every.len() / 2) else { return Err("everything".into()) };
        let mut slow = filters.clone();
        slow["min_latency"] = json!(format!("{middle}ns"));
        let records = capture(json!([
            {"program": "biosnoop", "name": "all", "filters": filters},
            {"program": "biosnoop", "name": "slow", "filters": slow},
        ]));
        let (all, slow) = (of_probe(&records, "all"), of_probe(&records, "slow"));
        let too_fast: Vec<_> = slow.iter().filter(|record| number(record, "latency_ns") < middle).collect();
        assert!(too_fast.is_empty(), "faster than {middle} ns: {too_fast:?}");
        // Two probes do not look at the clock at the same moment: only what is near the threshold may differ
        let expected = all.iter().filter(|record| number(record, "latency_ns") > middle + middle / 2);
        let (passed, expected) = (sectors(slow.iter().copied()), sectors(expected.copied()));
        match expected.is_subset(&passed) && slow.len() < all.len() && !slow.is_empty() {
            true => Ok(()),
            false => Err(format!("{middle} ns: {:?} of {:?}", latencies(&slow), latencies(&all))),
        }
    });
}

/// A file on a real disk: the file system says on which sectors it lies.
#[test]
fn a_file_is_read_and_written_where_it_lies() {
    if !root() {
        return;
    }
    let folders = [Path::new(env!("CARGO_TARGET_TMPDIR")), Path::new("/var/tmp")];
    let found = folders.into_iter().find_map(|folder| Some((Disk::under(folder)?, Scratch::within(folder))));
    let Some((disk, scratch)) = found else {
        eprintln!("SKIPPED: neither the target folder nor /var/tmp lies on a plain disk");
        return;
    };
    let file = scratch.path("file");
    fs::write(&file, vec![b'x'; 1 << 20]).expect("a file");
    fs::File::open(&file).and_then(|file| file.sync_all()).expect("it is on the disk");
    let expected = disk.sectors(&file);
    assert_eq!(expected.len(), (1 << 20) / 512, "the file system says where all of it is");
    let (dd, comm) = copy_of(&scratch, "dd");
    let path = file.display();
    retry(|| {
        let probe = json!([{"program": "biosnoop", "filters": {"comm": comm, "device": disk.name}}]);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probe), &[]);
        let dd = |args: &[&str]| run(Command::new(&dd).args(args)).expect(0);
        dd(&["if=/dev/zero", &format!("of={path}"), "bs=64k", "count=16", "oflag=direct", "conv=notrunc"]);
        dd(&[&format!("if={path}"), "of=/dev/null", "bs=64k", "iflag=direct"]);
        // Through the page cache this time: written at the end, and the disk's own cache is flushed
        dd(&["if=/dev/zero", &format!("of={path}"), "bs=64k", "count=16", "conv=notrunc,fdatasync"]);
        let ended = capture.stop().expect(0);
        let records = records(&ended.stdout);
        let covered = |records: &[&Json]| -> Vec<u64> {
            let range = |record: &Json| (number(record, "sector"), number(record, "bytes") / 512);
            let ranges = records.iter().map(|record| range(record));
            ranges.flat_map(|(first, count)| first..first + count).filter(|sector| expected.contains(sector)).collect()
        };
        let (read, written) = (covered(&with_op(&records, "read")), covered(&with_op(&records, "write")));
        assert!(read.len() <= expected.len(), "read once: {records:#?}");
        assert!(written.len() <= 2 * expected.len(), "written twice: {records:#?}");
        let flushes = with_op(&records, "flush");
        for flush in &flushes {
            assert_eq!((number(flush, "bytes"), number(flush, "sector")), (0, 0));
            assert!(number(flush, "latency_ns") > 0);
        }
        let cache = fs::read_to_string(format!("/sys/block/{}/queue/write_cache", disk.name)).unwrap_or_default();
        let all = [(read, expected.len()), (written, 2 * expected.len())];
        match all.iter().all(|(sectors, len)| sectors.len() == *len)
            && flushes.is_empty() != (cache.starts_with("write back") && starts_are_traced())
        {
            true => Ok(()),
            false => Err(format!("{:?} sectors, {} flushes", all.map(|(sectors, _)| sectors.len()), flushes.len())),
        }
    });
}

/// What is no read and no write, and a request that fails.
#[test]
fn flushes_discards_and_errors_are_told() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let small = SmallFolder::mount(&scratch, "256k"); // far less than the disk says that it has
    let disk = Loop::new(&small.path("disk"), 8 << 20);
    let comm = unique_name();
    let dd = copy_as(&scratch, "dd", &comm);
    let blkdiscard = copy_as(&scratch, "blkdiscard", &unique_name());
    let discarder = blkdiscard.file_name().expect("a name").to_str().expect("UTF-8").to_owned();
    let path = disk.path.display().to_string();
    retry(|| {
        let probe = json!([{"program": "biosnoop", "filters": {"comm": [comm, discarder], "device": disk.name}}]);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probe), &[]);
        let of = format!("of={path}");
        let dd = |args: &[&str]| -> Ended { run(Command::new(&dd).arg(&of).args(args)) };
        dd(&["if=/dev/zero", "bs=64k", "count=1", "conv=notrunc,fsync"]).expect(0);
        run(Command::new(&blkdiscard).args(["--length", "65536", &path])).expect(0);
        dd(&["if=/dev/zero", "bs=1M", "count=8", "oflag=direct", "conv=notrunc"]).expect(1).says(&["error"]);
        let records = records(&capture.stop().expect(0).stdout);
        for flush in with_op(&records, "flush") {
            assert_eq!((number(flush, "bytes"), number(flush, "sector")), (0, 0), "{flush}");
            assert_eq!((flush["comm"].as_str(), number(flush, "queued_ns")), (Some(comm.as_str()), 0), "{flush}");
        }
        for discard in with_op(&records, "discard") {
            assert_eq!((number(discard, "bytes"), number(discard, "sector")), (65536, 0), "{discard}");
            assert_eq!(discard["comm"], discarder.as_str(), "{discard}");
        }
        let failed: Vec<&Json> = records.iter().filter(|record| record["error"] != 0).collect();
        for record in &failed {
            assert_eq!(record["op"], "write", "{record}");
            let error = record["error"].as_i64().expect("a number");
            assert!([-5, -28].contains(&error), "EIO or ENOSPC, by the kernel's release: {record}");
        }
        let counts = [with_op(&records, "flush").len(), with_op(&records, "discard").len(), failed.len().min(1)];
        // Before 6.5 a flush is first seen in a kernel worker, so none of them is the command's (docs/explanation/limits.md)
        let expected = [usize::from(starts_are_traced()), 1, 1];
        if counts == expected { Ok(()) } else { Err(format!("{counts:?} of flushes, discards, errors")) }
    });
}

/// Each read of a virtio disk's serial number is a request that its driver makes: it is on no sector, and not accounted.
#[test]
fn requests_of_the_driver_are_events() {
    if !root() {
        return;
    }
    let disks = fs::read_dir("/sys/block").expect("there is sysfs").flatten();
    let Some(disk) =
        disks.map(|disk| disk.path()).find(|disk| disk.join("serial").exists() && disk.join("mq").exists())
    else {
        eprintln!("SKIPPED: no virtio disk");
        return;
    };
    const READS: usize = 20;
    let scratch = Scratch::new();
    let (cat, comm) = copy_of(&scratch, "cat");
    let name = disk.file_name().expect("a name").to_str().expect("UTF-8");
    retry(|| {
        let probe = |name: &str, filters: Json| json!({"program": "biosnoop", "name": name, "filters": filters});
        let driver = json!({"comm": comm, "op": "driver", "device": name});
        let capture = Capture::start(
            &scratch,
            &to_jsonl_of_busy(json!([
                probe("driver", driver.clone()),
                probe("rest", json!({"comm": comm, "op": {"not": "driver"}, "device": name})),
                {"program": "biolatency", "name": "counted", "filters": driver},
                {"program": "biostacks", "name": "stacks", "filters": driver},
            ])),
            &[],
        );
        for _ in 0..READS {
            run(Command::new(&cat).arg(disk.join("serial"))).expect(0);
        }
        let records = records(&capture.stop().expect(0).stdout);
        let driver = of_probe(&records, "driver");
        for record in &driver {
            assert_eq!(
                (&record["op"], &record["device"], &record["sector"]),
                (&json!("driver"), &json!(name), &json!(0))
            );
            assert_eq!(record["error"], 0);
            assert!((1..5_000_000_000).contains(&number(record, "latency_ns")), "{record}");
        }
        let counted = |probe: &str| -> u64 {
            let rows = of_probe(&records, probe).into_iter().filter(|row| row["row"] == "summary");
            rows.map(|row| number(row, "count")).sum()
        };
        let found = [driver.len() as u64, counted("counted"), counted("stacks")];
        assert!(found.iter().all(|found| *found <= READS as u64), "{found:?}");
        match found == [READS as u64; 3] {
            true => Ok(()),
            false => Err(format!("{found:?} of {READS} requests")),
        }
    });
}

/// A disk whose requests do not end: its file lies on a file system that is frozen.
#[test]
fn a_request_under_way_at_the_end_is_counted() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let lower = Loop::new(&scratch.path("lower"), 32 << 20);
    run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&lower.path)).expect(0);
    let folder = scratch.path("files");
    fs::create_dir(&folder).expect("a folder");
    run(Command::new("mount").arg(&lower.path).arg(&folder)).expect(0);
    let unmount = Undo(Command::new("umount"), folder.clone());
    {
        let disk = Loop::new(&folder.join("disk"), 1 << 20);
        let (plan, mut followed) = biosnoop_of(&disk);
        followed.attach(&Host::read()).expect("it attaches");
        let maps = &plan.probes[0].program.maps;
        let (dd, comm) = copy_of(&scratch, "dd");
        let args = [
            "if=/dev/zero",
            &format!("of={}", disk.path.display()),
            "bs=4096",
            "count=1",
            "oflag=direct",
            "conv=notrunc",
        ]
        .map(str::to_owned);
        let load = Held::new(Path::new("/bin/sh"), &dd, args);
        let filters = json!({"comm": comm, "device": disk.name});
        let path = scratch.path("report.json");
        let probes = json!([
            {"program": "biosnoop", "filters": filters},
            {"program": "biolatency", "filters": filters},
            {"program": "biosnoop", "name": "other", "filters": {"comm": unique_name(), "device": disk.name}},
        ]);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probes), &["--report", path.to_str().expect("UTF-8")]);
        run(Command::new("fsfreeze").arg("--freeze").arg(&folder)).expect(0);
        let mut thaw = Command::new("fsfreeze");
        thaw.arg("--unfreeze");
        let thaw = Undo(thaw, folder.clone());
        let writes = std::thread::spawn(move || load.go());
        let in_flight = || {
            let text = fs::read_to_string(format!("/sys/block/{}/inflight", disk.name)).expect("sysfs");
            text.split_whitespace().nth(1).expect("two numbers").parse::<u32>().expect("a number")
        };
        wait_until("no request is under way", || in_flight() > 0);
        let ended = capture.stop().expect(0).says(&["(requests under way at the end: 1)"]);
        // What a map that is full does with requests that are never seen to end
        assert_eq!(followed.under_way(maps).expect("they can be read"), [Some(1)]);
        let now = clock(ClockId::Monotonic) as u64;
        assert_eq!(followed.drop_older(&maps[0], 1).expect("they can be read"), 0);
        assert_eq!(followed.drop_older(&maps[0], now).expect("they can be read"), 1);
        assert_eq!(followed.under_way(maps).expect("they can be read"), [Some(0)]);
        drop(thaw);
        assert_eq!(writes.join().expect("it does not panic"), Some(0));
        assert!(records(&ended.stdout).is_empty(), "{}", ended.stdout);
        let report = report(&scratch);
        let under_way = [0, 1, 2].map(|probe| report["probes"][probe]["in_flight"].clone());
        assert_eq!(under_way, [json!(1), json!(1), json!(0)]);
        assert_eq!((&report["probes"][0]["lost"], &report["probes"][0]["unseen"]), (&json!(0), &json!(0)));
    }
    drop(unmount);
}

/// `biosnoop` in the kernel, about one disk.
fn biosnoop_of(disk: &Loop) -> (Plan, Loaded) {
    let config = to_jsonl_of_busy(json!([{"program": "biosnoop", "filters": {"device": disk.name}}]));
    let source = Source::parse("x.yaml".into(), "x".into(), config.to_string()).expect("it is a config");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).unwrap_or_else(|error| panic!("{error}"));
    let loaded = Loaded::load(&plan.probes[0], &Host::read(), &KernelInfo::default()).expect("it loads");
    (plan, loaded)
}

/// Runs a command with a path at the end.
struct Undo(Command, std::path::PathBuf);

impl Drop for Undo {
    fn drop(&mut self) {
        let _ = self.0.arg(&self.1).status();
    }
}

/// What the disk itself counts as read and written is what has a record, and what no hook saw the end of.
#[test]
fn records_and_unseen_ends_are_what_the_disk_counts() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 16 << 20);
    let dd = copy_as(&scratch, "dd", &unique_name());
    let counts = || -> u64 {
        let text = fs::read_to_string(format!("/sys/block/{}/stat", disk.name)).expect("sysfs");
        let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().expect("a number")).collect();
        numbers[0] + numbers[4] // reads and writes that were completed
    };
    let path = scratch.path("report.json");
    retry(|| {
        let probe = json!([{"program": "biosnoop", "filters": {"device": disk.name, "op": ["read", "write"]}}]);
        let capture = Capture::start(&scratch, &to_jsonl_of_busy(probe), &["--report", path.to_str().expect("UTF-8")]);
        let before = counts();
        let disk = disk.path.display();
        run(Command::new(&dd).args([&format!("if={disk}"), "of=/dev/null", "bs=4096", "iflag=direct"])).expect(0);
        let of = format!("of={disk}");
        run(Command::new(&dd).args(["if=/dev/zero", &of, "bs=4096", "count=4096", "oflag=direct", "conv=notrunc"]))
            .expect(0);
        let completed = counts() - before;
        let records = records(&capture.stop().expect(0).stdout);
        let report = report(&scratch);
        let number = |key: &str| report["probes"][0][key].as_u64().expect("a number");
        let found = records.len() as u64 + number("unseen") + number("in_flight");
        assert!(completed >= 2 * 4096 && found <= completed, "{found} of {completed}");
        match found == completed {
            true => Ok(()),
            false => Err(format!("{} records and {} unseen of {completed}", records.len(), number("unseen"))),
        }
    });
}
