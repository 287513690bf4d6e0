//! Loads for the programs on the scheduler: threads whose work and whose waits are known, by the kernel's own books.

use std::fs;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, Pid, gettid, sched_getaffinity, sched_setaffinity};
use rustix::time::ClockId;
use serde_json::Value as Json;

use crate::load::clock;

/// A CPU for loads that are to stay on one.
pub fn one_cpu() -> usize {
    let allowed = sched_getaffinity(None).expect("it can be asked");
    (0..CpuSet::MAX_CPU).rev().find(|&cpu| allowed.is_set(cpu)).expect("there is one")
}

/// Held by a test whose load would disturb that of others on the same CPU.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Keeps a thread, by its number, or the calling one on `cpu`.
pub fn pin(tid: Option<u32>, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    let tid = tid.map(|tid| Pid::from_raw(tid as i32).expect("a thread's number"));
    sched_setaffinity(tid, &only).expect("it is there");
}

/// Of so many switches, how many a host may hide from every tracer at the most (docs/explanation/limits.md).
pub fn hidden(switches: usize) -> usize {
    2 + switches / 20
}

/// What a thread did while it worked, in nanoseconds.
#[derive(Debug, Clone, Copy)]
pub struct Spent {
    pub wall: f64,
    /// On a CPU.
    pub cpu: f64,
    /// Able to run, and waiting for a CPU, as the kernel has it in the thread's `schedstat`.
    pub waited: f64,
    /// How often it got a CPU, from there too.
    pub times: usize,
    /// When it began and ended, by the monotonic clock.
    pub window: (f64, f64),
}

impl Spent {
    /// The books and the clock at one moment: if the thread lost its CPU in between, once more.
    fn so_far() -> Self {
        let books = || {
            let stat = fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel keeps these");
            let numbers: Vec<u64> = stat.split_whitespace().map(|word| word.parse().expect("a number")).collect();
            let [_, waited, times] = numbers[..] else { panic!("{stat}") };
            (waited as f64, times as usize)
        };
        loop {
            let (waited, times) = books();
            let (now, cpu) = (clock(ClockId::Monotonic) as f64, clock(ClockId::ThreadCPUTime) as f64);
            if books().1 == times {
                return Spent { wall: now, cpu, waited, times, window: (now, now) };
            }
        }
    }

    fn since(self, before: Self) -> Self {
        Spent {
            wall: self.wall - before.wall,
            cpu: self.cpu - before.cpu,
            waited: self.waited - before.waited,
            times: self.times - before.times,
            window: (before.wall, self.wall),
        }
    }

    /// Whether a record is from this time.
    pub fn covers(&self, record: &Json) -> bool {
        let ts = record["ts"].as_f64().expect("a number");
        self.window.0 <= ts && ts <= self.window.1
    }
}

/// A thread that works once it is told to.
pub struct Worker {
    pub tid: u32,
    tell: Sender<()>,
    thread: JoinHandle<Spent>,
}

impl Worker {
    /// One called `comm` that stays on `cpu` if there is one.
    pub fn new(comm: &str, cpu: Option<usize>, work: impl FnOnce() + Send + 'static) -> Self {
        let (tell, told): (_, Receiver<()>) = channel();
        let (say, number) = channel();
        let thread = thread::Builder::new().name(comm.into()).spawn(move || {
            if let Some(cpu) = cpu {
                pin(None, cpu);
            }
            say.send(gettid().as_raw_nonzero().get() as u32).expect("it is waited for");
            told.recv().expect("it is told");
            let before = Spent::so_far();
            work();
            Spent::so_far().since(before)
        });
        let thread = thread.expect("a thread starts");
        Worker { tid: number.recv().expect("it says"), tell, thread }
    }

    pub fn go(&self) {
        self.tell.send(()).expect("it waits");
    }

    pub fn join(self) -> Spent {
        self.thread.join().expect("it does not panic")
    }
}

/// Lets them all work at a time; returns what each did.
pub fn work<const N: usize>(workers: [Worker; N]) -> [Spent; N] {
    for worker in &workers {
        worker.go();
    }
    workers.map(Worker::join)
}

/// Keeps a CPU busy. A function of its own, to be found in stacks.
#[inline(never)]
pub fn spin_in_the_test(time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        std::hint::spin_loop();
    }
}

/// The same until it has had so much of a CPU, however busy the machine is.
#[inline(never)]
pub fn burn_in_the_test(cpu: Duration) {
    let end = clock(ClockId::ThreadCPUTime) + cpu.as_nanos() as i64;
    while clock(ClockId::ThreadCPUTime) < end {
        // No calls in here: without frame pointers, only the innermost function of a stack is sure
        let mut i = 0u32;
        while i < 1_000_000 {
            i += 1;
        }
    }
}
