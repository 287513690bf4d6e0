//! `cachestat` against a file of known size: written, read from the disk, read again.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{Advice, fadvise};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl_of_busy};
use crate::common::{Scratch, run};
use crate::disk::{Loop, retry};
use crate::load::{as_command, compiled, unique_name};
use crate::variants::{Variant, by_each_variant};

/// The file's size in pages of 4 KiB.
const PAGES: u64 = 1024;
/// What a thread maps of its own program while it works, and the file system's own doings.
const MORE: u64 = 64;

/// A file system on a disk of its own, gone after the test.
struct Mounted {
    path: PathBuf,
    _disk: Loop,
}

impl Mounted {
    fn new(scratch: &Scratch) -> Self {
        let disk = Loop::new(&scratch.path("disk"), 64 << 20);
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.path)).expect(0);
        let path = scratch.path("files");
        fs::create_dir(&path).expect("a folder");
        run(Command::new("mount").arg(&disk.path).arg(&path)).expect(0);
        Mounted { path, _disk: disk }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.path).status();
    }
}

fn write(path: &Path) {
    let mut file = File::create(path).expect("a file");
    let piece = vec![7; 64 << 10];
    (0..PAGES * 4096 / piece.len() as u64).for_each(|_| file.write_all(&piece).expect("a write"));
    file.sync_all().expect("it gets to the disk");
}

/// In pieces of `bytes`; what comes at once can be more than the kernel looks up at once.
fn read(path: &Path, bytes: usize) {
    let mut file = File::open(path).expect("a file");
    let mut piece = vec![0; bytes];
    while file.read(&mut piece).expect("a read") > 0 {}
}

#[test]
fn hits_misses_and_written_pages_are_told_apart() {
    let symbols = fs::read_to_string("/proc/kallsyms").expect("the kernel's symbols");
    let folios = symbols.lines().any(|line| line.contains(" folio_mark_accessed"));
    by_each_variant("cachestat", |variant| {
        // Where there are folios, only what has not been rewritten for them comes by the way of pages
        if !(folios && variant.is_some_and(|variant| variant.name.starts_with("page_"))) {
            hits_misses_and_written_pages_are_told_by(variant);
        }
    });
}

fn hits_misses_and_written_pages_are_told_by(variant: Option<&Variant>) {
    let scratch = Scratch::new();
    let files = Mounted::new(&scratch);
    let names = ["writer", "cold", "warm", "pieces"].map(|_| unique_name());
    let [writer, cold, warm, pieces] = &names;
    // Once before anybody looks: what the test's own code maps when it first runs would be counted too
    let rehearsal = files.path.join("rehearsal");
    as_command(&unique_name(), move || {
        write(&rehearsal);
        read(&rehearsal, 1 << 20);
        read(&rehearsal, 4096);
    });
    retry(|| {
        // They are threads of one process, which have one row together
        let each = |name: &String| json!({"program": "cachestat", "name": name, "filters": {"comm": name, "by_process": true}});
        let mut probes: Vec<Json> = names.iter().map(each).collect();
        probes.extend([
            json!({"program": "cachestat", "name": "together", "filters": {"comm": names}}),
            json!({"program": "cachestat", "name": "nobody", "filters": {"comm": unique_name()}}),
            json!({"program": "cachestat", "name": "everybody"}),
        ]);
        let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl_of_busy(json!(probes))) else {
            return Ok(());
        };
        let path = files.path.join("file");
        let of = |work: fn(&Path)| {
            let path = path.clone();
            move || work(&path)
        };
        as_command(writer, of(write));
        let file = File::open(&path).expect("it is there");
        fadvise(&file, 0, None, Advice::DontNeed).expect("it leaves the cache");
        drop(file);
        as_command(cold, of(|path| read(path, 1 << 20)));
        as_command(warm, of(|path| read(path, 1 << 20)));
        as_command(pieces, of(|path| read(path, 4096)));
        let records = records(&capture.stop().expect(0).stdout);
        let counters =
            |row: &Json| ["accessed", "misses", "dirtied"].map(|column| row[column].as_u64().expect("a number"));
        let total = |probe: &str| -> [u64; 3] {
            let rows = of_probe(&records, probe);
            assert!(rows.len() <= 1, "{rows:?}");
            rows.into_iter().map(counters).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
        };
        for (who, wanted) in
            [(writer, [0, 0, PAGES]), (cold, [PAGES, PAGES, 0]), (warm, [PAGES, 0, 0]), (pieces, [PAGES, 0, 0])]
        {
            let found = total(who);
            assert!((0..3).all(|i| found[i] <= wanted[i] + MORE), "{found:?}, not {wanted:?}: {records:#?}");
            if (0..3).any(|i| found[i] < wanted[i]) {
                return Err(format!("{found:?}, not {wanted:?}"));
            }
        }
        let each = names.iter().map(|name| total(name)).fold([0; 3], |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]]);
        assert_eq!(of_probe(&records, "nobody").len(), 0);
        let (together, everybody) = (total("together"), total("everybody"));
        match together == each && (0..3).all(|i| everybody[i] >= each[i]) {
            true => Ok(()),
            false => Err(format!("each {each:?}, together {together:?}, everybody {everybody:?}")),
        }
    });
}

/// PAGES FILE [WAY COMMAND]...: reads that many pages up to the end of the file, then one less, and so on down to one, in each
/// way under that command. A first pass, under the program's own name, brings file and program in.
const SHRINKING_READS: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
static struct io_uring_params params;
static struct io_uring_sqe *entries;
static char *queue, *done;
static int ring;
static int uring(void)
{
	ring = syscall(SYS_io_uring_setup, 1, &params);
	if (ring < 0)
		return 0;
	queue = mmap(0, params.sq_off.array + params.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQ_RING);
	done = mmap(0, params.cq_off.cqes + params.cq_entries * 16, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_CQ_RING);
	entries = mmap(0, params.sq_entries * 64, PROT_READ | PROT_WRITE, MAP_SHARED, ring, IORING_OFF_SQES);
	return 1;
}
static long uring_read(int file, void *to, unsigned bytes, long at)
{
	unsigned *tail = (void *)(queue + params.sq_off.tail), *head = (void *)(done + params.cq_off.head);
	struct io_uring_cqe *results = (void *)(done + params.cq_off.cqes);
	long result;
	memset(entries, 0, sizeof(*entries));
	entries->opcode = IORING_OP_READ;
	entries->fd = file;
	entries->addr = (unsigned long)to;
	entries->len = bytes;
	entries->off = at;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0) != 1)
		return -1;
	result = results[*head & *(unsigned *)(done + params.cq_off.ring_mask)].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}
int main(int count, char **args)
{
	long pages = atol(args[1]);
	char *buffer = malloc(pages * 4096);
	int file = open(args[2], O_RDONLY), nowhere = open("/dev/null", O_WRONLY), ends[2], pass, way;
	memset(buffer, 1, pages * 4096);
	pipe(ends);
	for (pass = 0; pass < 2; pass++)
		for (way = 3; way < count; way += 2) {
			char *how = args[way];
			if (!strcmp(how, "io_uring") && !ring && !uring())
				return 77;
			if (pass)
				prctl(PR_SET_NAME, args[way + 1]);
			for (long page = 0; page < pages; page++) {
				long bytes = (pages - page) * 4096, got = 0;
				struct iovec halves[2] = {{buffer, bytes / 2}, {buffer + bytes / 2, bytes - bytes / 2}};
				off_t at = page * 4096;
				if (!strcmp(how, "read")) {
					lseek(file, at, SEEK_SET);
					got = read(file, buffer, bytes);
				} else if (!strcmp(how, "pread")) {
					got = pread(file, buffer, bytes, at);
				} else if (!strcmp(how, "preadv")) {
					got = preadv(file, halves, 2, at);
				} else if (!strcmp(how, "sendfile")) {
					got = sendfile(nowhere, file, &at, bytes);
				} else if (!strcmp(how, "splice")) {
					got = splice(file, &at, ends[1], 0, bytes, 0);
					if (splice(ends[0], 0, nowhere, 0, got, 0) != got)
						return 1;
				} else if (!strcmp(how, "io_uring")) {
					got = uring_read(file, buffer, bytes, at);
				}
				if (got != bytes)
					return 1;
			}
			prctl(PR_SET_NAME, "between");
		}
	return 0;
}
"#;

/// What begins later and ends at the same page is another read, not the one before going on.
#[test]
fn reads_that_end_at_one_page_count_each() {
    by_each_variant("cachestat", reads_that_end_at_one_page_are_counted_by);
}

fn reads_that_end_at_one_page_are_counted_by(variant: Option<&Variant>) {
    if variant.is_some_and(|variant| variant.name != "tracepoints") {
        return; // the others do not see reads, but pages
    }
    let scratch = Scratch::new();
    let files = Mounted::new(&scratch); // not in memory, where the kernel reads by another way
    let (program, _) = compiled(&scratch, SHRINKING_READS);
    let ways = ["read", "pread", "preadv", "sendfile", "splice", "io_uring"];
    // Up to a batch of the kernel's is one look into the cache; 16 is what a pipe takes
    for pages in [10, 16] {
        let file = files.path.join("file");
        fs::write(&file, vec![7; pages * 4096]).expect("a file");
        let names = ways.map(|_| unique_name());
        retry(|| {
            let probe = json!([{"program": "cachestat", "filters": {"comm": names, "by_process": true}}]);
            let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl_of_busy(probe)) else { return Ok(()) };
            let tracepoints = variant.is_some() || reads_are_traced();
            let args = ways.iter().zip(&names).flat_map(|(way, name)| [(*way).to_owned(), name.clone()]);
            let args = [pages.to_string(), file.display().to_string()].into_iter().chain(args);
            match run(Command::new(&program).args(args)).code {
                Some(0) => {}
                Some(77) => {
                    eprintln!("SKIPPED: io_uring can't be had here");
                    return Ok(());
                }
                other => panic!("the load ended with {other:?}"),
            }
            let records = records(&capture.stop().expect(0).stdout);
            if !tracepoints {
                return Ok(());
            }
            let truth = (pages * (pages + 1) / 2) as u64;
            for (way, name) in ways.iter().zip(&names) {
                let rows = records.iter().filter(|row| row["comm"] == name.as_str());
                let found: u64 = rows.map(|row| row["accessed"].as_u64().expect("a number")).sum();
                // The thread may map a page or two of its own program meanwhile
                assert!(found <= truth + 16, "{way}: {found} pages, not {truth}");
                if found < truth {
                    return Err(format!("{way}: {found} of {truth} pages"));
                }
            }
            Ok(())
        });
    }
}

/// Whether this kernel has the tracepoints that see reads (6.12).
fn reads_are_traced() -> bool {
    let types = fs::read("/sys/kernel/btf/vmlinux").expect("a kernel with BTF");
    let name = b"btf_trace_mm_filemap_get_pages\0";
    types.windows(name.len()).any(|window| window == name)
}
