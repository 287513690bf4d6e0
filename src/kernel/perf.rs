//! Perf buffers, one for each CPU. libbpf-rs has them with a wakeup per record only; libbpf itself can set the wakeups.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

use libbpf_sys::{perf_buffer, perf_event_attr, perf_event_header};

use super::buffer::failed;
use super::perf_events::PERMISSION_HINT;
use crate::error::{Error, Kind, Result};
use crate::plan::{BufferPlan, WakeupPlan};

/// include/uapi/linux/perf_event.h
const PERF_TYPE_SOFTWARE: u32 = 1;
const PERF_COUNT_SW_BPF_OUTPUT: u64 = 10;
const PERF_SAMPLE_RAW: u64 = 1 << 10;
const PERF_RECORD_LOST: u32 = 2;
const PERF_RECORD_SAMPLE: u32 = 9;
/// A sample is a header, the length of the raw data, and the data.
const SAMPLE_LENGTH: usize = 8;
const SAMPLE_DATA: usize = 12;
/// A loss is a header, the event's id and the number of records.
const LOST_COUNT: usize = 16;
/// Raw data whose length is a multiple of 8 is padded by this many bytes, because the four bytes of the length count.
const PADDING: usize = 4;

/// Receives every record.
pub(super) type Take<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// The state of the callback.
struct Context<'a> {
    take: Take<'a>,
    lost: u64,
}

/// The consumer of a probe's perf buffers.
pub(super) struct PerfBuffer<'a> {
    raw: NonNull<perf_buffer>,
    /// Owned; a pointer, because libbpf has a copy of it.
    context: NonNull<Context<'a>>,
    peak: u64,
}

impl<'a> PerfBuffer<'a> {
    /// Opens buffers for the perf event array `map`, on every CPU that is online.
    pub fn new(map: BorrowedFd<'_>, plan: &BufferPlan, take: Take<'a>) -> Result<Self> {
        let mut attr = perf_event_attr {
            size: size_of::<perf_event_attr>() as u32,
            type_: PERF_TYPE_SOFTWARE,
            config: PERF_COUNT_SW_BPF_OUTPUT,
            sample_type: PERF_SAMPLE_RAW,
            ..Default::default()
        };
        attr.__bindgen_anon_1.sample_period = 1;
        match plan.wakeup {
            WakeupPlan::Events(events) => attr.__bindgen_anon_2.wakeup_events = events,
            WakeupPlan::Bytes(bytes) => {
                attr.set_watermark(1);
                attr.__bindgen_anon_2.wakeup_watermark = bytes;
            }
            // There is no "never": a wakeup for a full buffer is the latest possible
            WakeupPlan::Timer | WakeupPlan::Adaptive => {
                attr.set_watermark(1);
                attr.__bindgen_anon_2.wakeup_watermark = plan.effective;
            }
        }
        let pages = plan.effective as usize / rustix::param::page_size();
        let context = NonNull::from(Box::leak(Box::new(Context { take, lost: 0 })));
        // SAFETY: `map` and `attr` are valid for the call; the context outlives the buffer, see `Drop`.
        let raw = unsafe {
            libbpf_sys::perf_buffer__new_raw(
                map.as_raw_fd(),
                pages as u64,
                &mut attr,
                Some(on_record),
                context.as_ptr().cast(),
                ptr::null(),
            )
        };
        let buffer = NonNull::new(raw).map(|raw| PerfBuffer { raw, context, peak: 0 });
        buffer.ok_or_else(|| {
            let error = std::io::Error::last_os_error();
            // SAFETY: libbpf does not keep the pointer after an error.
            drop(unsafe { Box::from_raw(context.as_ptr()) });
            refused(error)
        })
    }

    /// Passes the available records to `take`, one CPU after the other.
    pub fn consume(&mut self) -> Result<()> {
        self.peak = self.peak.max(self.unread());
        // SAFETY: the buffer is valid until `Drop`.
        match unsafe { libbpf_sys::perf_buffer__consume(self.raw.as_ptr()) } {
            error if error < 0 => Err(failed(std::io::Error::from_raw_os_error(-error))),
            _ => Ok(()),
        }
    }

    /// The peak of unread bytes in a CPU's buffer, measured when it was read.
    pub fn peak(&self) -> u64 {
        self.peak
    }

    /// Unread bytes in the fullest buffer.
    fn unread(&self) -> u64 {
        let mut most = 0;
        // SAFETY: the buffer is valid until `Drop`.
        let count = unsafe { libbpf_sys::perf_buffer__buffer_cnt(self.raw.as_ptr()) };
        for index in 0..count {
            let (mut page, mut size) = (ptr::null_mut(), 0);
            // SAFETY: as above; on success `page` is the mapping's first page, a `perf_event_mmap_page`.
            let head_and_tail = unsafe {
                if libbpf_sys::perf_buffer__buffer(self.raw.as_ptr(), index as i32, &mut page, &mut size) != 0 {
                    continue;
                }
                let page: *const libbpf_sys::perf_event_mmap_page = page.cast();
                (ptr::read_volatile(&raw const (*page).data_head), ptr::read_volatile(&raw const (*page).data_tail))
            };
            most = most.max(head_and_tail.0.saturating_sub(head_and_tail.1));
        }
        most
    }

    /// Losses that the kernel has reported.
    pub fn lost(&self) -> u64 {
        // SAFETY: the context is valid until `Drop`, and only `consume`, which borrows mutably, writes to it.
        unsafe { self.context.as_ref() }.lost
    }

    /// libbpf's epoll set of all CPUs' buffers.
    pub fn wakeups(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is valid as long as the buffer.
        unsafe { BorrowedFd::borrow_raw(libbpf_sys::perf_buffer__epoll_fd(self.raw.as_ptr())) }
    }
}

impl Drop for PerfBuffer<'_> {
    fn drop(&mut self) {
        // SAFETY: both come from `new`; the buffer is freed first, because it has a pointer to the context.
        unsafe {
            libbpf_sys::perf_buffer__free(self.raw.as_ptr());
            drop(Box::from_raw(self.context.as_ptr()));
        }
    }
}

/// libbpf returns the error of perf_event_open(2).
fn refused(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Error::new(Kind::NotPermitted, format!("the kernel does not permit perf buffers: {error}"))
                .hint(PERMISSION_HINT)
        }
        _ => failed(error),
    }
}

/// Called by libbpf for every record, from within [`PerfBuffer::consume`].
unsafe extern "C" fn on_record(context: *mut c_void, _cpu: i32, event: *mut perf_event_header) -> i32 {
    // SAFETY: libbpf passes the context of `new`, and a complete record whose size is in its header.
    let (context, record) = unsafe {
        let context: &mut Context<'_> = &mut *context.cast();
        (context, std::slice::from_raw_parts(event.cast::<u8>(), (*event).size.into()))
    };
    // SAFETY: as above.
    match unsafe { (*event).type_ } {
        PERF_RECORD_SAMPLE => {
            let length = record.get(SAMPLE_LENGTH..SAMPLE_DATA).and_then(|bytes| bytes.try_into().ok());
            let length = length.map_or(0, u32::from_ne_bytes) as usize;
            let data = record.get(SAMPLE_DATA..SAMPLE_DATA + length.saturating_sub(PADDING));
            (context.take)(data.unwrap_or_default());
        }
        PERF_RECORD_LOST => {
            let count = record.get(LOST_COUNT..LOST_COUNT + 8).and_then(|bytes| bytes.try_into().ok());
            context.lost += count.map_or(0, u64::from_ne_bytes);
        }
        _ => {}
    }
    libbpf_sys::LIBBPF_PERF_EVENT_CONT
}
