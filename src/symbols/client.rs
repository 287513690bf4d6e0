//! The runner's side of the symbol helper: sends requests, enforces their time limits, and replaces a worker that does
//! not answer.

use std::io::{self, BufReader, IoSliceMut, Write as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::fd::OwnedFd;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::CapabilitySet;

use super::helper;
use super::wire::{Answer, Image, MAX_ADDRESSES, UnresolvedCause, receive_answers, send_request};

/// A worker that answers later than this after its limit hangs, or gets no CPU.
const GRACE: Duration = Duration::from_millis(600);
/// Time limit of the supervisor, which makes no call that can take long.
const PROMPT: Duration = Duration::from_secs(1);

/// The helper processes. They end when this is dropped.
#[derive(Debug)]
pub struct Client {
    supervisor: Pid,
    /// `None` once the supervisor has ended.
    control: Option<UnixStream>,
    worker: Option<UnixStream>,
    /// Workers that were replaced because they crashed or did not answer.
    pub replaced: u64,
}

impl Client {
    /// Forks the helper, with the capabilities `needed`.
    ///
    /// # Errors
    /// If no further process can be created.
    pub fn start(needed: CapabilitySet) -> io::Result<Self> {
        let (supervisor, control) = helper::fork(needed)?;
        Ok(Client { supervisor, control: Some(control), worker: None, replaced: 0 })
    }

    /// The pid of the supervisor; workers are its children.
    pub fn pid(&self) -> u32 {
        self.supervisor.as_raw_nonzero().get().unsigned_abs()
    }

    /// Returns an answer for each of `addresses`. Each [`MAX_ADDRESSES`] of them may take `allowance`; no answer is
    /// waited for after `deadline`.
    ///
    /// # Errors
    /// If the worker crashed or timed out.
    pub fn ask(
        &mut self,
        image: &Image,
        addresses: &[u64],
        allowance: Duration,
        deadline: Instant,
    ) -> Result<Vec<Answer>, UnresolvedCause> {
        let mut answers = Vec::with_capacity(addresses.len());
        for piece in addresses.chunks(MAX_ADDRESSES) {
            let given = self.ask_once(image, piece, allowance, deadline)?;
            let is_slow = given.contains(&Err(UnresolvedCause::TimedOut));
            answers.extend(given);
            if is_slow {
                break; // the next chunk would be slow too
            }
        }
        answers.resize(addresses.len(), Err(UnresolvedCause::TimedOut));
        Ok(answers)
    }

    fn ask_once(
        &mut self,
        image: &Image,
        addresses: &[u64],
        allowance: Duration,
        deadline: Instant,
    ) -> Result<Vec<Answer>, UnresolvedCause> {
        if self.worker.is_none() {
            self.worker = Some(self.new_worker(deadline).ok_or(UnresolvedCause::NoHelper)?);
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left <= GRACE {
            return Ok(vec![Err(UnresolvedCause::TimedOut); addresses.len()]);
        }
        let allowance = allowance.min(left - GRACE);
        let worker = self.worker.as_mut().expect("there is one");
        let mut stream = DeadlineStream { stream: worker, until: Instant::now() + allowance + GRACE };
        // A worker sends only answers to requests: bytes that are read ahead belong to this answer
        let answers = send_request(&mut stream, image, addresses, allowance)
            .and_then(|()| receive_answers(&mut BufReader::new(&mut stream), addresses.len()));
        answers.map_err(|error| {
            // A late answer would be taken for the answer to the next request
            self.worker = None;
            self.replaced += 1;
            if error.kind() == io::ErrorKind::TimedOut { UnresolvedCause::TimedOut } else { UnresolvedCause::NoHelper }
        })
    }

    fn new_worker(&mut self, deadline: Instant) -> Option<UnixStream> {
        let left = deadline.saturating_duration_since(Instant::now()).min(PROMPT);
        if left.is_zero() {
            return None;
        }
        let control = self.control.as_mut()?;
        let socket = control.set_read_timeout(Some(left)).and_then(|()| control.write_all(&[0]));
        let socket = socket.and_then(|()| receive_socket(control));
        match socket {
            Ok(socket) => socket,
            Err(_) => {
                self.control = None;
                None
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        (self.control, self.worker) = (None, None); // the supervisor ends with them
        if !helper::has_ended(self.supervisor, PROMPT) {
            let _ = kill_process(self.supervisor, Signal::KILL); // it was stopped
            helper::has_ended(self.supervisor, PROMPT);
        }
    }
}

/// The answer to one byte: the socket to a new worker, if there is one.
fn receive_socket(control: &UnixStream) -> io::Result<Option<UnixStream>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let received = recvmsg(control, &mut parts, &mut message, RecvFlags::CMSG_CLOEXEC)?;
    if received.bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let sockets = message.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    Ok(sockets.flatten().next().map(|socket: OwnedFd| UnixStream::from(socket)))
}

/// A socket whose reads and writes end at a deadline.
struct DeadlineStream<'a> {
    stream: &'a mut UnixStream,
    until: Instant,
}

impl DeadlineStream<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

fn timed_out(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::WouldBlock { io::ErrorKind::TimedOut.into() } else { error }
}

impl io::Read for DeadlineStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(buffer).map_err(timed_out)
    }
}

impl io::Write for DeadlineStream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
