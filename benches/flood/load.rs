//! The two roles of this binary: the load that makes the flood, and the bare reader that counts it.

use std::cell::Cell;
use std::ffi::CString;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::kernel::{EventBuffer, Host, KernelInfo, Loaded};
use ebpf_run::plan::{Overrides, plan};
use rustix::event::epoll;
use rustix::fs::{CWD, Mode, OFlags, openat};

/// The path that is opened, which does not exist. Its beginning identifies records of the flood.
const PATH: &str = "/no/such/directory/and/file";

/// Whether a line of text is a record of the flood.
pub fn is_record(line: &[u8]) -> bool {
    line.windows(11).any(|part| part == &PATH.as_bytes()[..11])
}

/// Opens a path that does not exist, `pace` times a second or at full speed, and prints the calls per second. The thread has
/// a name of its own, so the opens at the start of the process are not part of the flood.
pub fn generate(calls: u32, pace: u32) {
    let path = CString::new(PATH).expect("no NUL");
    let flood = move || {
        let start = Instant::now();
        for i in 0..calls {
            if pace > 0 {
                let due = start + Duration::from_nanos(u64::from(i) * 1_000_000_000 / u64::from(pace));
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
            }
            let _ = openat(CWD, &path, OFlags::RDONLY, Mode::empty());
        }
        f64::from(calls) / start.elapsed().as_secs_f64()
    };
    let thread = thread::Builder::new().name(crate::COMM.into()).spawn(flood).expect("a thread starts");
    println!("{:.0}", thread.join().expect("no panic"));
}

/// Reads the buffer of the first probe until standard input ends, and counts.
pub fn bare(config: &Path) {
    let source = Source::read(config).expect("the config is right");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("the config is right");
    let (host, probe) = (Host::read(), &plan.probes[0]);
    let mut loaded = Loaded::load(probe, &host, &KernelInfo::default()).expect("it loads");
    let count = Cell::new(0u64);
    let mut buffer = EventBuffer::new(&loaded, &probe.buffer, |_| count.set(count.get() + 1)).expect("a buffer");
    loaded.attach(&host).expect("it attaches");
    eprintln!("attached");
    let set = epoll::create(epoll::CreateFlags::CLOEXEC).expect("epoll");
    let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
    epoll::add(&set, buffer.wakeups(), epoll::EventData::new_u64(0), flags).expect("epoll");
    epoll::add(&set, rustix::stdio::stdin(), epoll::EventData::new_u64(1), epoll::EventFlags::IN).expect("epoll");
    let timeout = rustix::time::Timespec::try_from(probe.buffer.max_latency).expect("a timeout");
    let mut events = Vec::with_capacity(2);
    loop {
        events.clear();
        let _ = epoll::wait(&set, rustix::buffer::spare_capacity(&mut events), Some(&timeout));
        while buffer.consume().expect("it can be read") {}
        if events.iter().any(|event: &epoll::Event| event.data.u64() == 1) {
            break;
        }
    }
    println!("{}", count.get());
}
