//! The buffer of a probe: which, how large, and when the kernel wakes the runner.

use std::fmt;
use std::time::Duration;

use super::{Overrides, Planner, Setting, internal};
use crate::catalog::Program;
use crate::config::code::Code;
use crate::config::model::{self, BufferType, NamedWakeup, Submit, WakeupWhen};
use crate::config::quantity::Bytes;
use crate::config::yaml::TreeStep;
use crate::config::yaml::TreeStep::Key;

/// Default size of a ring buffer, bytes.
const DEFAULT_RING: u64 = 1 << 20;
/// Default size of a CPU's perf buffer, bytes.
const DEFAULT_PERF: u64 = 256 << 10;
/// The largest buffer: the kernel takes no ring of more than 2 GiB less a little.
const MAX_BUFFER: u64 = 1 << 30;
/// A wakeup pays off from so many unread bytes on (docs/explanation/architecture.md has the figures).
const WAKEUP_BYTES: u64 = 64 << 10;
/// Default bound of the time that a record waits in a buffer.
const DEFAULT_LATENCY: Duration = Duration::from_millis(100);
/// Below this the timer itself costs too much CPU time.
const LATENCY_BOUNDS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(60));

const RB_NO_WAKEUP: u32 = 1;
const RB_FORCE_WAKEUP: u32 = 2;

/// How records travel. The numbers are those of `enum runner_transport` in `bpf/include/ebpf_run.h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// Ring buffer, records put together in place.
    Reserve = 0,
    /// Ring buffer, records copied in.
    Output = 1,
    /// Perf buffer, one a CPU.
    Perf = 2,
}

/// When the kernel wakes the runner, besides the timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WakeupPlan {
    /// The kernel's own way with a ring: when the runner has read everything before.
    Adaptive,
    /// With every so many-th event.
    Events(u32),
    /// When so many bytes are unread.
    Bytes(u32),
    /// Never.
    Timer,
}

/// A buffer and its wakeups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BufferPlan {
    /// How records travel.
    pub transport: Transport,
    /// Bytes that the config asks for: the whole ring, or each CPU's perf buffer.
    pub asked: u64,
    /// Bytes that the kernel gives: the next power of two of whole pages.
    pub effective: u32,
    /// When the kernel wakes the runner.
    pub wakeup: WakeupPlan,
    /// The runner looks by itself at least this often.
    pub max_latency: Duration,
    /// What the config did not decide.
    pub left: BufferDefaults,
}

/// What a config left to the runner.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BufferDefaults {
    /// Ring or perf buffer.
    pub kind: bool,
    /// The size.
    pub size: bool,
    /// When the kernel wakes the runner.
    pub wakeup: bool,
}

impl BufferPlan {
    /// Bytes that the buffer takes on a machine with so many possible CPUs.
    pub fn memory(&self, possible_cpus: u64) -> u64 {
        match self.transport {
            Transport::Perf => u64::from(self.effective) * possible_cpus,
            Transport::Reserve | Transport::Output => self.effective.into(),
        }
    }

    /// What the program has to know of it. `record` is the largest record with its header, in bytes.
    pub(super) fn settings(&self, program: &Program, record: u64) -> Vec<Setting> {
        let perf = self.transport == Transport::Perf;
        let (flags, bytes, events) = match self.wakeup {
            _ if perf => (0, 0, 0),
            WakeupPlan::Adaptive => (0, 0, 0),
            WakeupPlan::Events(1) => (RB_FORCE_WAKEUP, 0, 0),
            WakeupPlan::Events(events) => (0, 0, events),
            WakeupPlan::Bytes(bytes) => (0, bytes, 0),
            WakeupPlan::Timer => (RB_NO_WAKEUP, 0, 0),
        };
        // Wide enough that no record can jump over it, not even with another CPU's behind it
        let band = if bytes > 0 { (2 * record.next_multiple_of(8)).max(1 << 10) as u32 } else { 0 };
        [
            ("runner_transport", self.transport as u32),
            ("runner_wakeup_flags", flags),
            ("runner_wakeup_bytes", bytes),
            ("runner_wakeup_band", band),
            ("runner_wakeup_events", events),
        ]
        .into_iter()
        .filter_map(|(symbol, value)| internal(program, symbol, &value.to_ne_bytes()))
        .collect()
    }
}

impl fmt::Display for BufferPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = Bytes(self.effective.into());
        match self.transport {
            Transport::Reserve => write!(f, "ringbuf {size}, reserve")?,
            Transport::Output => write!(f, "ringbuf {size}, output")?,
            Transport::Perf => write!(f, "perfbuf {size} a CPU")?,
        }
        match self.wakeup {
            WakeupPlan::Adaptive => write!(f, ", wakeup adaptive"),
            WakeupPlan::Events(1) => write!(f, ", wakeup with every event"),
            WakeupPlan::Events(events) => write!(f, ", wakeup every {events} events"),
            WakeupPlan::Bytes(bytes) => write!(f, ", wakeup at {} unread", Bytes(bytes.into())),
            WakeupPlan::Timer => write!(f, ", no wakeup"),
        }?;
        write!(f, ", at most {:?}", self.max_latency)
    }
}

impl Planner<'_> {
    pub(super) fn buffer(
        &mut self,
        path: &[TreeStep<'_>; 3],
        buffer: &model::Buffer,
        program: &Program,
        overrides: &Overrides,
    ) -> BufferPlan {
        let at = |key| [path[0], path[1], path[2], Key(key)];
        let transport = self.transport(&at("submit"), buffer, program, overrides);
        let perf = transport == Transport::Perf;
        // A record has a header of eight bytes in a ring; in a perf buffer twelve, and padding
        let least = record_bytes(program) + if perf { 8 } else { 0 };
        let asked = buffer.size.map_or(if perf { DEFAULT_PERF } else { DEFAULT_RING }, |size| size.0);
        if asked < least || asked > MAX_BUFFER {
            let (least, most) = (Bytes(least.next_power_of_two()), Bytes(MAX_BUFFER));
            self.say(Code::BufferSize, &at("size"), format!("the buffer size must be between {least} and {most}"));
        }
        let page = rustix::param::page_size() as u64;
        let effective = asked.clamp(page, MAX_BUFFER).next_power_of_two();

        let mut max_latency = buffer.max_latency.map_or(DEFAULT_LATENCY, Duration::from);
        if max_latency < LATENCY_BOUNDS.0 || max_latency > LATENCY_BOUNDS.1 {
            self.say(Code::Latency, &at("max_latency"), "`max_latency` must be between 1ms and 60s");
        }
        let batch = WakeupPlan::Bytes(WAKEUP_BYTES.min(effective / 4) as u32);
        let wakeup_path = at("wakeup");
        let wakeup = match buffer.wakeup {
            model::Wakeup::Named(NamedWakeup::Auto) => batch,
            model::Wakeup::Named(NamedWakeup::EveryEvent) => WakeupPlan::Events(1),
            model::Wakeup::Named(NamedWakeup::Adaptive) => {
                if perf {
                    let words = "a perf buffer has no adaptive wakeup: use every_event, {events: N} or {bytes: SIZE}";
                    self.say(Code::Wakeup, &wakeup_path, words);
                }
                WakeupPlan::Adaptive
            }
            model::Wakeup::When(WakeupWhen { events: Some(events), .. }) => WakeupPlan::Events(events),
            model::Wakeup::When(WakeupWhen { bytes: Some(bytes), .. }) => {
                if bytes.0 == 0 || bytes.0 > effective / 2 {
                    let words =
                        format!("wakeup bytes must be between 1B and half of the buffer ({})", Bytes(effective / 2));
                    self.say(Code::Wakeup, &wakeup_path, words);
                }
                WakeupPlan::Bytes(u32::try_from(bytes.0).unwrap_or(u32::MAX))
            }
            model::Wakeup::When(WakeupWhen { interval: Some(interval), .. }) => {
                let interval = Duration::from(interval);
                if buffer.max_latency.is_some_and(|_| interval > max_latency) {
                    self.say(
                        Code::Wakeup,
                        &wakeup_path,
                        "the wakeup interval must not be longer than `max_latency`: remove one of them",
                    );
                }
                if interval < LATENCY_BOUNDS.0 || interval > LATENCY_BOUNDS.1 {
                    self.say(Code::Latency, &wakeup_path, "the wakeup interval must be between 1ms and 60s");
                }
                max_latency = interval;
                WakeupPlan::Timer
            }
            model::Wakeup::When(_) => batch, // the schema does not let an empty mapping pass
        };
        let left = BufferDefaults {
            kind: buffer.kind == BufferType::Auto,
            size: buffer.size.is_none(),
            wakeup: matches!(buffer.wakeup, model::Wakeup::Named(NamedWakeup::Auto)),
        };
        BufferPlan { transport, asked, effective: effective as u32, wakeup, max_latency, left }
    }

    fn transport(
        &mut self,
        submit_path: &[TreeStep<'_>],
        buffer: &model::Buffer,
        program: &Program,
        overrides: &Overrides,
    ) -> Transport {
        // In an NMI a reservation can fail because the interrupted task holds the ring's lock
        let nmi = program.hooks.iter().any(|hook| hook.section.starts_with("perf_event"));
        let perf = match buffer.kind {
            BufferType::Auto => buffer.submit.is_none() && (nmi || overrides.no_ring_buffer),
            BufferType::Ringbuf => false,
            BufferType::Perfbuf => true,
        };
        match (perf, buffer.submit) {
            (true, Some(_)) => {
                self.say(Code::Submit, submit_path, "`submit` is for ring buffers: remove it, or use `type: ringbuf`");
                Transport::Perf
            }
            (true, None) => Transport::Perf,
            (false, Some(Submit::Output)) => Transport::Output,
            (false, Some(Submit::Reserve) | None) => Transport::Reserve,
        }
    }
}

/// The largest record of a program with its header in a ring, bytes.
pub(super) fn record_bytes(program: &Program) -> u64 {
    program.event().map_or(0, |event| event.size as u64) + 8
}

#[cfg(test)]
mod tests;
