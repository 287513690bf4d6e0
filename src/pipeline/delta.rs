//! Computes rows from the contents of a map: sums over CPUs, differences between snapshots, percentiles. Pure.

use std::collections::HashMap;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::sync::Arc;

use crate::catalog::{AggregateShape, HIST_TRAILER, ImageAt, StackKind};
use crate::event::Layout;
use crate::kernel::MapEntry;
use crate::plan::{AggregatePlan, KEY_AT, ROW_BUCKET, ROW_SUMMARY, STACK_HEAD};
use crate::symbols::Image;

/// The frames of a stack, as in a row.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frames {
    /// The frames, each terminated by a NUL, innermost first.
    pub texts: Arc<[u8]>,
    /// Whether frames are missing at the end.
    pub cut: bool,
    /// The addresses, if no names are available at all: with equal texts, all stacks would be one.
    pub addresses_if_unknown: Arc<[u64]>,
}

/// A stack, as a key refers to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StackRef {
    /// Whose it is.
    pub kind: StackKind,
    /// The program image, for a stack of a process.
    pub image: Image,
    /// Its hash, or a number that stands for no stack.
    pub id: u64,
}

/// The source of the frames of stacks.
pub trait StackSource {
    /// Called with all stacks of a snapshot before their frames are requested.
    fn prepare(&mut self, stacks: &[StackRef]);
    /// The frames of a stack.
    fn frames(&mut self, stack: StackRef) -> Frames;
}

/// The result of a snapshot.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Rows: the index of the probe's stream, and the bytes.
    pub rows: Vec<(usize, Vec<u8>)>,
    /// Events in the map since the start; `None` if its counters do not count events.
    pub counted: Option<u64>,
}

/// Computes rows, and remembers the previous snapshot.
#[derive(Debug)]
pub struct DeltaAggregator {
    plan: AggregatePlan,
    layouts: Vec<Arc<Layout>>,
    before: HashMap<(Vec<u8>, usize), Vec<u64>>,
    /// Events that were removed from the map.
    taken: u64,
}

/// The values of one key (on one CPU), as words.
struct KeyValues {
    key: Vec<u8>,
    cpu: usize,
    words: Vec<u64>,
    /// The entry was removed from the map: a new one begins at zero.
    taken: bool,
    /// The stacks for the numbers in the key, once they are known.
    stacks: Vec<Frames>,
}

impl DeltaAggregator {
    /// Creates it for a probe whose streams have `layouts`.
    pub fn new(plan: &AggregatePlan, layouts: Vec<Arc<Layout>>) -> Self {
        DeltaAggregator { plan: plan.clone(), layouts, before: HashMap::new(), taken: 0 }
    }

    /// Makes rows of `entries`, read at `ts`.
    pub fn read(&mut self, entries: &[MapEntry], ts: u64, stacks: &mut dyn StackSource) -> Snapshot {
        let counted = self.counted(entries);
        let (taken, _): (Vec<MapEntry>, Vec<_>) = entries.iter().cloned().partition(|entry| entry.taken);
        self.taken += self.counted_in(&taken).unwrap_or(0);
        let mut groups = Vec::new();
        for group in entries.iter().flat_map(|entry| self.groups(entry)).collect::<Vec<_>>() {
            groups.extend(self.changed(group));
        }
        let mut groups = self.named(groups, stacks);
        self.sort(&mut groups);
        if let Some(top) = self.plan.top {
            groups.truncate(top);
        }
        let mut rows = Vec::new();
        for group in &groups {
            self.push_rows(group, ts, &mut rows);
        }
        Snapshot { rows, counted }
    }

    /// Excludes `entries`, which are from before the window, from all rows.
    pub fn set_baseline(&mut self, entries: &[MapEntry]) {
        for group in entries.iter().flat_map(|entry| self.groups(entry)).collect::<Vec<_>>() {
            self.before.insert((group.key, group.cpu), group.words);
        }
    }

    /// Events in `entries` and in earlier removed entries; `None` if the counters do not count events.
    pub fn counted(&self, entries: &[MapEntry]) -> Option<u64> {
        Some(self.taken + self.counted_in(entries)?)
    }

    /// Events in `entries`; `None` if the counters do not count events.
    pub fn counted_in(&self, entries: &[MapEntry]) -> Option<u64> {
        self.events(&[])?;
        Some(entries.iter().flat_map(|entry| self.groups(entry)).filter_map(|group| self.events(&group.words)).sum())
    }

    /// One group for all CPUs, or one for each CPU.
    fn groups(&self, entry: &MapEntry) -> Vec<KeyValues> {
        let words = |value: &Vec<u8>| -> Vec<u64> {
            value.chunks_exact(8).map(|word| u64::from_ne_bytes(word.try_into().expect("eight bytes"))).collect()
        };
        let group =
            |cpu, words| KeyValues { key: entry.key.clone(), cpu, words, taken: entry.taken, stacks: Vec::new() };
        let values = entry.values.iter().map(words);
        if self.plan.per_cpu {
            return values.enumerate().map(|(cpu, words)| group(cpu, words)).collect();
        }
        let sum = values.reduce(|mut sum, words| {
            self.add(&mut sum, &words);
            sum
        });
        sum.map(|words| group(0, words)).into_iter().collect()
    }

    /// Adds the words of a value to those of another value.
    fn add(&self, sum: &mut [u64], words: &[u64]) {
        let last = sum.len().saturating_sub(1);
        for (i, (sum, word)) in sum.iter_mut().zip(words).enumerate() {
            let largest = i == last && matches!(self.plan.spec.shape, AggregateShape::Histogram { .. });
            *sum = if largest { (*sum).max(*word) } else { sum.wrapping_add(*word) };
        }
    }

    /// Resolves the stacks of groups. Two addresses in the same function are two stacks in the kernel, but the same
    /// frames in the output: groups that can't be distinguished are merged.
    fn named(&self, groups: Vec<KeyValues>, source: &mut dyn StackSource) -> Vec<KeyValues> {
        let places: Vec<usize> =
            self.plan.spec.key.iter().filter(|key| key.stack.is_some()).map(|key| key.field.offset).collect();
        if places.is_empty() {
            return groups;
        }
        let stacks: Vec<StackRef> = groups.iter().flat_map(|group| self.stacks(group)).collect();
        source.prepare(&stacks);
        let mut named: Vec<KeyValues> = Vec::new();
        let mut known: HashMap<_, usize> = HashMap::new();
        for mut group in groups {
            group.stacks = self.stacks(&group).map(|stack| source.frames(stack)).collect();
            places.iter().for_each(|at| group.key[*at..*at + 8].fill(0));
            if let Some(ImageAt { exe, layout, .. }) = self.plan.spec.image {
                group.key[exe..exe + 4].fill(0);
                group.key[layout..layout + 8].fill(0);
            }
            match known.entry((group.key.clone(), group.cpu, group.stacks.clone())) {
                Occupied(same) => self.add(&mut named[*same.get()].words, &group.words),
                Vacant(new) => {
                    new.insert(named.len());
                    named.push(group);
                }
            }
        }
        named
    }

    /// Events in the words of a group.
    fn events(&self, words: &[u64]) -> Option<u64> {
        match &self.plan.spec.shape {
            AggregateShape::Histogram { slots, .. } => Some(words.iter().take(*slots).sum()),
            AggregateShape::Counters { fields, events } => {
                let at = fields[(*events)?].offset / 8;
                Some(words.get(at).copied().unwrap_or(0))
            }
        }
    }

    /// The change since the last snapshot, or since the start; `None` if there is none.
    fn changed(&mut self, mut group: KeyValues) -> Option<KeyValues> {
        let now = group.words.clone();
        let place = (group.key.clone(), group.cpu);
        if let Some(before) = self.before.get(&place) {
            let counts = match &self.plan.spec.shape {
                AggregateShape::Histogram { slots, .. } => slots + 1,
                AggregateShape::Counters { .. } => now.len(),
            };
            group.words.iter_mut().zip(before).take(counts).for_each(|(word, before)| {
                *word = word.wrapping_sub(*before);
            });
        }
        if group.taken {
            self.before.remove(&place);
        } else if self.plan.clear {
            self.before.insert(place, now);
        }
        let counts = match &self.plan.spec.shape {
            AggregateShape::Histogram { slots, .. } => *slots,
            AggregateShape::Counters { .. } => group.words.len(),
        };
        group.words.iter().take(counts).any(|word| *word != 0).then_some(group)
    }

    /// Counters: by the value of the first sort field, largest first. Histograms, and equal values: by the key, so that
    /// the order is stable.
    fn sort(&self, groups: &mut [KeyValues]) {
        let first = match &self.plan.spec.shape {
            AggregateShape::Counters { fields, .. } => Some(fields[self.plan.sort].offset / 8),
            AggregateShape::Histogram { .. } => None,
        };
        groups.sort_by(|a, b| {
            let largest = first.map_or(std::cmp::Ordering::Equal, |at| b.words[at].cmp(&a.words[at]));
            largest.then_with(|| (&a.key, a.cpu, &a.stacks).cmp(&(&b.key, b.cpu, &b.stacks)))
        });
    }

    fn push_rows(&self, group: &KeyValues, ts: u64, rows: &mut Vec<(usize, Vec<u8>)>) {
        let mut push = |stream: usize, kind: u32, values: &[u64]| {
            rows.push((stream, self.row(stream, kind, group, ts, values)));
        };
        match &self.plan.spec.shape {
            AggregateShape::Counters { fields, .. } => {
                let values: Vec<u64> = fields.iter().map(|field| group.words[field.offset / 8]).collect();
                push(0, 0, &values);
            }
            AggregateShape::Histogram { slots, .. } => {
                let (buckets, trailer) = group.words.split_at(*slots);
                for (slot, count) in buckets.iter().enumerate().filter(|(_, count)| **count > 0) {
                    push(0, ROW_BUCKET, &[low(slot), high(slot, *slots), *count]);
                }
                debug_assert_eq!(trailer.len(), HIST_TRAILER);
                push(1, ROW_SUMMARY, &summary(buckets, trailer[0], trailer[1]));
            }
        }
    }

    /// The stacks in a group's key.
    fn stacks(&self, group: &KeyValues) -> impl Iterator<Item = StackRef> {
        fn bytes<const N: usize>(key: &[u8], at: usize) -> [u8; N] {
            key.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
        }
        let image = self.plan.spec.image.map_or(Image::default(), |at| Image {
            pid: u32::from_ne_bytes(bytes(&group.key, at.pid)),
            exe: u32::from_ne_bytes(bytes(&group.key, at.exe)),
            layout: u64::from_ne_bytes(bytes(&group.key, at.layout)),
        });
        let stacks = self.plan.spec.key.iter().filter_map(|key| Some((key.stack?, key.field.offset)));
        stacks.map(move |(kind, at)| StackRef { kind, image, id: u64::from_ne_bytes(bytes(&group.key, at)) })
    }

    /// The bytes as the stream's layout describes them; see `plan/rows.rs`.
    fn row(&self, stream: usize, kind: u32, group: &KeyValues, ts: u64, values: &[u64]) -> Vec<u8> {
        let layout = &self.layouts[stream];
        let mut row = vec![0; layout.min_size];
        let mut put = |at: usize, bytes: &[u8]| row[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &ts.to_ne_bytes());
        put(8, &kind.to_ne_bytes());
        put(KEY_AT, &group.key);
        let cpu_at = KEY_AT + group.key.len().next_multiple_of(8);
        put(cpu_at, &(group.cpu as u32).to_ne_bytes());
        for (i, value) in values.iter().enumerate() {
            put(cpu_at + 8 + 8 * i, &value.to_ne_bytes());
        }
        let mut start = 0;
        for (i, stack) in group.stacks.iter().enumerate() {
            let head = [start as u32, stack.texts.len() as u32, stack.cut.into()];
            for (j, word) in head.iter().enumerate() {
                put(cpu_at + 8 + 8 * values.len() + STACK_HEAD * i + 4 * j, &word.to_ne_bytes());
            }
            start += stack.texts.len();
        }
        group.stacks.iter().for_each(|stack| row.extend_from_slice(&stack.texts));
        row
    }
}

/// The smallest value of a slot.
fn low(slot: usize) -> u64 {
    if slot == 0 { 0 } else { 1 << slot }
}

/// The largest value of a slot; the last slot has all larger values.
fn high(slot: usize, slots: usize) -> u64 {
    if slot + 1 == slots { u64::MAX } else { (1 << (slot + 1)) - 1 }
}

/// count, sum, p50, p90, p99, max. Percentiles assume that the values of a slot are evenly distributed.
fn summary(buckets: &[u64], sum: u64, largest: u64) -> [u64; 6] {
    let count: u64 = buckets.iter().sum();
    let last = buckets.iter().rposition(|count| *count > 0).unwrap_or(0);
    // The largest value since the start can be from before these buckets; and while a CPU updates the map during a
    // read, it can lag behind them
    let max = largest.clamp(low(last), high(last, buckets.len()));
    let percentile = |share: u64| {
        let rank = (count * share).div_ceil(100).max(1);
        let mut below = 0;
        for (slot, in_slot) in buckets.iter().enumerate() {
            if below + in_slot >= rank {
                let width = high(slot, buckets.len()).min(max.max(low(slot))) - low(slot);
                let part = u128::from(width) * u128::from(rank - below) / u128::from(*in_slot);
                return (low(slot) + part as u64).min(max);
            }
            below += in_slot;
        }
        max
    };
    [count, sum, percentile(50), percentile(90), percentile(99), max]
}

#[cfg(test)]
mod tests;
