//! What is done with a file once nothing more is written to it: to the disk, compressed, given its name, and older ones
//! removed. On a thread of its own, so that the writer goes on meanwhile.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::atomic::{AtomicFile, CreateError, FileAttributes};
use super::retention::RetentionPolicy;
use crate::config::files::Compress;
use crate::pipeline::priority;
use crate::report::FileAccount;

/// Bytes that are compressed at a time.
const CHUNK: usize = 256 << 10;

/// Files that may wait to be finished, each of them open. Past that the writer waits, and what then finds no room in the queue
/// is lost and counted.
const WAITING: usize = 64;

/// A file to be finished.
#[derive(Debug)]
pub struct FinalizeJob {
    /// The sink's name.
    pub sink: String,
    /// The file.
    pub file: AtomicFile,
    /// Bytes in it.
    pub bytes: u64,
    /// How it is compressed.
    pub compress: Option<Compress>,
    /// What a compressed file gets too.
    pub attributes: FileAttributes,
    /// Which files stay.
    pub retention: Option<RetentionPolicy>,
    /// Keeps other runs away until all files of the sink are whole.
    pub reserved: Option<AtomicFile>,
}

/// What went wrong with a file.
#[derive(Debug)]
pub struct FinalizeFailure {
    /// The sink's name.
    pub sink: String,
    /// The file.
    pub path: PathBuf,
    /// What was to be done with it.
    pub what: &'static str,
    /// Why that did not go.
    pub error: io::Error,
}

/// The thread.
#[derive(Debug)]
pub struct Finalizer {
    jobs: SyncSender<FinalizeJob>,
    thread: JoinHandle<FinalizeResult>,
}

/// What became of all files.
#[derive(Debug, Default)]
pub struct FinalizeResult {
    /// Each of them.
    pub files: Vec<FileAccount>,
    /// The first thing that went wrong.
    pub failure: Option<FinalizeFailure>,
}

impl Finalizer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If there are no more threads.
    pub fn start() -> io::Result<Self> {
        let (jobs, todo) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("ebpf-run-files".into()).spawn(move || work(&todo))?;
        Ok(Finalizer { jobs, thread })
    }

    /// Takes a file over; waits if many others wait already.
    pub fn take(&self, job: FinalizeJob) {
        // It ends only when the sender does
        let _ = self.jobs.send(job);
    }

    /// Waits until every file is finished.
    pub fn wait(self) -> FinalizeResult {
        drop(self.jobs);
        // Its death is the writer's, which is told
        self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn work(todo: &Receiver<FinalizeJob>) -> FinalizeResult {
    priority::restore_priority();
    let mut finished = FinalizeResult::default();
    for job in todo {
        let (account, failure) = finish(job);
        finished.files.push(account);
        finished.failure = finished.failure.or(failure);
    }
    finished
}

fn finish(job: FinalizeJob) -> (FileAccount, Option<FinalizeFailure>) {
    let FinalizeJob { sink, file: mut unfinished, bytes, compress, attributes, retention, reserved: _reserved } = job;
    let dir = unfinished.dir().clone();
    let (path, partial) = (unfinished.path(), unfinished.partial_path());
    let failed = |path: &PathBuf, what, error| FinalizeFailure { sink: sink.clone(), path: path.clone(), what, error };
    let mut failure;
    let account = |path: PathBuf, whole| FileAccount { sink: sink.clone(), path, bytes, whole };
    let small = compress.map(|how| compressed(&unfinished, how, attributes));
    let account = match small {
        Some(Ok(mut small)) => {
            let small_path = small.path();
            let finished = small.finish();
            let is_whole = small.is_finished();
            let removed = if is_whole { unfinished.remove() } else { Ok(()) };
            failure = finished.and(removed).err().map(|error| failed(&small_path, "finished", error));
            if is_whole { account(small_path, true) } else { account(partial, false) }
        }
        plain => {
            // What can't be compressed is whole all the same
            failure = plain.and_then(Result::err).map(|error| failed(&path, "compressed", error));
            if let Err(error) = unfinished.finish() {
                failure.get_or_insert(failed(&path, "finished", error));
            }
            if unfinished.is_finished() { account(path, true) } else { account(partial, false) }
        }
    };
    if let Some(retention) = retention.filter(|_| account.whole)
        && let Err(error) = retention.apply(&dir, account.path.file_name())
    {
        failure.get_or_insert(failed(&dir.path, "cleared of old files", error.into()));
    }
    (account, failure)
}

/// A file with the compressed bytes of `whole`.
fn compressed(whole: &AtomicFile, how: Compress, attributes: FileAttributes) -> io::Result<AtomicFile> {
    let mut name = whole.path().file_name().unwrap_or_default().to_owned();
    name.push(how.ending());
    let mut small = AtomicFile::create(whole.dir(), &name, attributes).map_err(|refused| match refused {
        CreateError::System(errno) | CreateError::Owner(errno) => io::Error::from(errno),
        CreateError::InUse => io::Error::other("another run is writing to it"),
    })?;
    let mut from = whole.file().try_clone()?;
    from.rewind()?;
    let to = BufWriter::new(small.writer()?);
    match how {
        Compress::Zstd => {
            let mut encoder = zstd::Encoder::new(to, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            encoder.include_checksum(true)?;
            copy(&mut from, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
        Compress::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(to, flate2::Compression::default());
            copy(&mut from, &mut encoder)?;
            encoder.finish()?.flush()?;
        }
    }
    small.begin();
    Ok(small)
}

fn copy(from: &mut File, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        match from.read(&mut chunk)? {
            0 => return Ok(()),
            read => to.write_all(&chunk[..read])?,
        }
    }
}
