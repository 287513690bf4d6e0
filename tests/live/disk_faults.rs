//! Disks that fail: offline, removed, too slow for the driver, with bad blocks, shorter than they say. The modules that
//! make such disks are loaded in guests of scripts/vm only.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl_of_busy};
use crate::common::{Scratch, in_guest, run};
use crate::disk::{Loop, starts_are_traced};
use crate::load::{copy_of, unique_name, wait_until};
use crate::root;

const DRIVER: &str = "/sys/bus/pseudo/drivers/scsi_debug";
const EIO: i64 = -5;
const ENODEV: i64 = -19;
const ENODATA: i64 = -61;

fn set(path: impl AsRef<Path>, value: &str) {
    let path = path.as_ref();
    fs::write(path, format!("{value}\n")).unwrap_or_else(|error| panic!("{value} to {}: {error}", path.display()));
}

/// A SCSI disk whose driver keeps it in memory. There is one at a time.
struct ScsiDisk {
    name: String,
    _alone: MutexGuard<'static, ()>,
}

impl ScsiDisk {
    fn new() -> Option<Self> {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let modprobe =
            |args: &[&str]| Command::new("modprobe").args(args).status().is_ok_and(|status| status.success());
        if !in_guest() {
            eprintln!("SKIPPED: scsi_debug is loaded in guests of scripts/vm only");
            return None;
        }
        if !modprobe(&["sd_mod"]) || !modprobe(&["scsi_debug", "delay=0", "dev_size_mb=8"]) {
            eprintln!("SKIPPED: this kernel has no module scsi_debug");
            return None;
        }
        let mut name = None;
        wait_until("scsi_debug makes a disk", || {
            let disks = fs::read_dir("/sys/block").expect("there is sysfs").flatten();
            let model = |disk: &Path| fs::read_to_string(disk.join("device/model")).unwrap_or_default();
            let found = disks.map(|disk| disk.path()).find(|disk| model(disk).starts_with("scsi_debug"));
            name = found.and_then(|disk| Some(disk.file_name()?.to_str()?.to_owned()));
            // Added to /sys before the driver has asked it for its size
            name.as_ref().is_some_and(|name| File::open(Path::new("/dev").join(name)).is_ok())
        });
        Some(ScsiDisk { name: name.expect("it was found"), _alone: alone })
    }

    fn attribute(&self, name: &str) -> PathBuf {
        Path::new("/sys/block").join(&self.name).join(name)
    }

    /// Requests that the driver has.
    fn in_flight(&self) -> u64 {
        let text = fs::read_to_string(self.attribute("inflight")).unwrap_or_default();
        text.split_whitespace().map(|number| number.parse::<u64>().expect("a number")).sum()
    }

    fn open(&self) -> File {
        File::open(Path::new("/dev").join(&self.name)).expect("it can be opened")
    }
}

impl Drop for ScsiDisk {
    fn drop(&mut self) {
        for (name, value) in [("opts", "0"), ("every_nth", "0"), ("delay", "0")] {
            let _ = fs::write(Path::new(DRIVER).join(name), value);
        }
        let _ = Command::new("modprobe").args(["--remove", "scsi_debug"]).status();
    }
}

/// Reads `bytes` from `sector` past the page cache, as the command `dd`, through a disk that is open already.
fn read(dd: &Path, mut disk: File, sector: u64, bytes: u64) -> Child {
    disk.seek(SeekFrom::Start(sector * 512)).expect("within the disk");
    let mut command = Command::new(dd);
    command.args(["of=/dev/null", "count=1", "iflag=direct", &format!("bs={bytes}")]);
    command.stdin(disk).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
}

fn succeeds(mut child: Child) -> bool {
    child.wait().expect("it ends").success()
}

/// The three programs that follow requests, about reads of `comm`; `others` has the reads of everything else.
fn probes(disk: &str, comm: &str) -> Json {
    let of = |program: &str| json!({"program": program, "filters": {"device": disk, "comm": comm, "op": "read"}});
    json!([
        of("biosnoop"),
        of("biolatency"),
        of("biostacks"),
        {"program": "biosnoop", "name": "others",
         "filters": {"device": disk, "comm": {"not": [comm]}, "op": "read"}},
    ])
}

fn start(scratch: &Scratch, disk: &str, comm: &str) -> Capture {
    let path = scratch.path("report.json");
    let config = to_jsonl_of_busy(probes(disk, comm));
    Capture::start(scratch, &config, &["--report", path.to_str().expect("UTF-8")])
}

fn number(record: &Json, column: &str) -> i64 {
    record[column].as_i64().unwrap_or_else(|| panic!("{column} of {record}"))
}

/// Ends `capture`; returns the records of `biosnoop` by sector, after a look at the other probes: each request counts
/// once in them, and none is another command's.
#[track_caller]
fn requests(scratch: &Scratch, capture: Capture) -> Vec<Json> {
    let ended = capture.stop().expect(0);
    let all = records(&ended.stdout);
    let mut mine: Vec<Json> = of_probe(&all, "biosnoop").into_iter().cloned().collect();
    mine.sort_by_key(|record| number(record, "sector"));
    for probe in ["biolatency", "biostacks"] {
        let rows = of_probe(&all, probe).into_iter().filter(|row| row["row"] == "summary");
        let count: i64 = rows.map(|row| number(row, "count")).sum();
        assert_eq!(count, mine.len() as i64, "{probe}: {all:#?}");
    }
    assert_eq!(of_probe(&all, "others"), Vec::<&Json>::new());
    for probe in report(scratch)["probes"].as_array().expect("a list") {
        let counts = ["lost", "unseen", "in_flight"].map(|key| probe[key].clone());
        assert_eq!(counts, [json!(0), json!(0), json!(0)], "{probe}");
    }
    mine
}

/// Sector, bytes and error of each.
fn seen(records: &[Json]) -> Vec<(i64, i64, i64)> {
    records.iter().map(|record| (number(record, "sector"), number(record, "bytes"), number(record, "error"))).collect()
}

#[test]
fn requests_that_the_driver_has_end_when_the_disk_goes_offline_or_away() {
    if !root() {
        return;
    }
    let Some(disk) = ScsiDisk::new() else { return };
    const JIFFIES: &str = "1000"; // 1 s or longer
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    set(Path::new(DRIVER).join("delay"), JIFFIES);
    for (file, value) in [("device/state", "offline"), ("device/delete", "1")] {
        let capture = start(&scratch, &disk.name, &comm);
        let loads = [64, 128].map(|sector| read(&dd, disk.open(), sector, 4096));
        wait_until("both reads are with the driver", || disk.in_flight() == 2);
        set(disk.attribute(file), value);
        assert_eq!(loads.map(succeeds), [true, true], "{file}");
        let requests = requests(&scratch, capture);
        assert_eq!(seen(&requests), [(64, 4096, 0), (128, 4096, 0)], "{file}");
        for request in &requests {
            assert!(number(request, "latency_ns") > 900_000_000, "{request}");
        }
        if value == "offline" {
            set(disk.attribute(file), "running");
        }
    }
}

/// The driver refuses these before they are issued. Before 6.5, and without a scheduler, their end is all that is seen.
#[test]
fn requests_to_an_offline_disk_have_their_place_and_an_error() {
    if !root() {
        return;
    }
    let Some(disk) = ScsiDisk::new() else { return };
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    for scheduler in ["mq-deadline", "none"] {
        set(disk.attribute("queue/scheduler"), scheduler);
        let opened = [64, 128].map(|sector| (disk.open(), sector));
        let capture = start(&scratch, &disk.name, &comm);
        set(disk.attribute("device/state"), "offline");
        let read = |(file, sector)| succeeds(read(&dd, file, sector, 4096));
        assert_eq!(opened.map(read), [false, false], "{scheduler}");
        let requests = requests(&scratch, capture);
        set(disk.attribute("device/state"), "running");
        let places: Vec<_> = seen(&requests).into_iter().map(|(sector, bytes, _)| (sector, bytes)).collect();
        assert_eq!(places, [(64, 4096), (128, 4096)], "{scheduler}");
        for request in &requests {
            assert!([EIO, ENODEV].contains(&number(request, "error")), "{request}");
            assert_eq!(number(request, "queued_ns"), 0, "{request}");
            assert!(number(request, "latency_ns") > 0 || !starts_are_traced(), "{request}");
        }
    }
}

#[test]
fn a_request_that_times_out_and_is_tried_again_is_one_record() {
    if !root() {
        return;
    }
    let Some(disk) = ScsiDisk::new() else { return };
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    for file in ["device/timeout", "device/eh_timeout"] {
        set(disk.attribute(file), "1");
    }
    let capture = start(&scratch, &disk.name, &comm);
    set(Path::new(DRIVER).join("opts"), "4"); // no answer to
    set(Path::new(DRIVER).join("every_nth"), "2"); // every second command
    for sector in [64, 128, 192] {
        assert!(succeeds(read(&dd, disk.open(), sector, 4096)));
    }
    let requests = requests(&scratch, capture);
    assert_eq!(seen(&requests), [(64, 4096, 0), (128, 4096, 0), (192, 4096, 0)]);
    let waited: Vec<bool> = requests.iter().map(|request| number(request, "queued_ns") > 900_000_000).collect();
    assert!(waited.contains(&true) && waited.contains(&false), "some were tried twice: {requests:#?}");
    for request in &requests {
        assert!(number(request, "latency_ns") < 900_000_000, "from the last issue: {request}");
    }
}

/// Ten sectors that can't be read: what is before them arrives, and that part of the request completes first.
#[test]
fn a_request_that_fails_in_the_middle_is_told_whole() {
    if !root() {
        return;
    }
    let Some(disk) = ScsiDisk::new() else { return };
    const BAD: i64 = 0x1234;
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    let capture = start(&scratch, &disk.name, &comm);
    set(Path::new(DRIVER).join("opts"), "2");
    assert!(!succeeds(read(&dd, disk.open(), BAD as u64 - 16, 16384)));
    assert_eq!(seen(&requests(&scratch, capture)), [(BAD - 16, 16384, ENODATA)]);
}

/// A disk of null_blk some of whose sectors are bad.
struct BadBlocks {
    config: PathBuf,
    name: String,
}

impl BadBlocks {
    fn new(bad: &str) -> Option<Self> {
        if !in_guest() {
            eprintln!("SKIPPED: null_blk is loaded in guests of scripts/vm only");
            return None;
        }
        let _ = Command::new("modprobe").args(["null_blk", "nr_devices=0"]).status();
        let folder = Path::new("/sys/kernel/config");
        if !folder.join("nullb").exists() {
            let _ = Command::new("mount").args(["-t", "configfs", "configfs"]).arg(folder).status();
        }
        let (name, config) = (unique_name(), folder.join("nullb"));
        let config = config.join(&name);
        if fs::create_dir(&config).is_err() {
            eprintln!("SKIPPED: this kernel has no module null_blk with configfs");
            return None;
        }
        for (file, value) in [("size", "16"), ("blocksize", "512"), ("badblocks", bad), ("power", "1")] {
            set(config.join(file), value);
        }
        // Older kernels name it by its number
        let index = fs::read_to_string(config.join("index")).expect("it has a number");
        let names = [name, format!("nullb{}", index.trim())];
        let name = names.into_iter().find(|name| Path::new("/sys/block").join(name).exists()).expect("a disk");
        wait_until("its device file", || Path::new("/dev").join(&name).exists());
        Some(BadBlocks { config, name })
    }
}

impl Drop for BadBlocks {
    fn drop(&mut self) {
        let _ = fs::write(self.config.join("power"), "0");
        let _ = fs::remove_dir(&self.config);
    }
}

#[test]
fn bad_blocks_are_errors_where_they_are() {
    if !root() {
        return;
    }
    let Some(disk) = BadBlocks::new("+136-143") else { return };
    let scratch = Scratch::new();
    let (dd, comm) = copy_of(&scratch, "dd");
    let open = || File::open(Path::new("/dev").join(&disk.name)).expect("it can be opened");
    let capture = start(&scratch, &disk.name, &comm);
    let good = [64, 128, 192].map(|sector| succeeds(read(&dd, open(), sector, 8192)));
    assert_eq!(good, [true, false, true]);
    assert_eq!(seen(&requests(&scratch, capture)), [(64, 8192, 0), (128, 8192, EIO), (192, 8192, 0)]);
}

/// The file of a loop device is cut: of a read over its end one part completes, the driver gets the rest again, and fails.
#[test]
fn a_request_that_completes_in_parts_is_told_whole() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let disk = Loop::new(&scratch.path("disk"), 1 << 20);
    let direct = run(Command::new("losetup").arg("--direct-io=on").arg(&disk.path));
    if direct.code != Some(0) {
        eprintln!("SKIPPED: the file system of temporary files has no direct I/O");
        return;
    }
    let (dd, comm) = copy_of(&scratch, "dd");
    let opened = File::open(&disk.path).expect("it can be opened");
    let capture = start(&scratch, &disk.name, &comm);
    File::options().write(true).open(scratch.path("disk")).and_then(|file| file.set_len(64 * 512 + 8192)).expect("cut");
    let complete = succeeds(read(&dd, opened, 64, 16384));
    let requests = requests(&scratch, capture);
    let error = if complete { 0 } else { EIO };
    assert_eq!(seen(&requests), [(64, 16384, error)]);
}
