//! Finishes files after their last write: flushes, compresses and renames them, and removes expired ones. Runs in a
//! separate thread, so that the writer can continue.

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

/// Limit of files that wait to be finished; each is open. Beyond it the writer waits, and records that then find the
/// queue full are lost and counted.
const WAITING: usize = 64;

/// A file to be finished.
#[derive(Debug)]
pub struct FinalizeJob {
    /// The sink's name.
    pub sink: String,
    /// The file.
    pub file: AtomicFile,
    /// Its size, bytes.
    pub bytes: u64,
    /// How it is compressed.
    pub compress: Option<Compress>,
    /// Attributes of the compressed file.
    pub attributes: FileAttributes,
    /// The rules for removing old files.
    pub retention: Option<RetentionPolicy>,
    /// Locks the name against other runs until all files of the sink are complete.
    pub reserved: Option<AtomicFile>,
}

/// A failed step of a file.
#[derive(Debug)]
pub struct FinalizeFailure {
    /// The sink's name.
    pub sink: String,
    /// The file.
    pub path: PathBuf,
    /// The step that failed, as a participle: "compressed".
    pub what: &'static str,
    /// The error.
    pub error: io::Error,
}

/// The thread that finishes files.
#[derive(Debug)]
pub struct Finalizer {
    jobs: SyncSender<FinalizeJob>,
    thread: JoinHandle<FinalizeResult>,
}

/// The results for all files.
#[derive(Debug, Default)]
pub struct FinalizeResult {
    /// The account of each file.
    pub files: Vec<FileAccount>,
    /// The first failure.
    pub failure: Option<FinalizeFailure>,
}

impl Finalizer {
    /// Starts the thread.
    ///
    /// # Errors
    /// If no thread is available.
    pub fn start() -> io::Result<Self> {
        let (jobs, todo) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("ebpf-run-files".into()).spawn(move || work(&todo))?;
        Ok(Finalizer { jobs, thread })
    }

    /// Queues a file; waits if the queue is full.
    pub fn take(&self, job: FinalizeJob) {
        // It ends only when the sender is dropped
        let _ = self.jobs.send(job);
    }

    /// Waits until every file is finished.
    pub fn wait(self) -> FinalizeResult {
        drop(self.jobs);
        // Its panic is reported as that of the writer
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
    let account = |path: PathBuf, complete| FileAccount { sink: sink.clone(), path, bytes, complete };
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
            // A file that can't be compressed is complete nevertheless
            failure = plain.and_then(Result::err).map(|error| failed(&path, "compressed", error));
            if let Err(error) = unfinished.finish() {
                failure.get_or_insert(failed(&path, "finished", error));
            }
            if unfinished.is_finished() { account(path, true) } else { account(partial, false) }
        }
    };
    if let Some(retention) = retention.filter(|_| account.complete)
        && let Err(error) = retention.apply(&dir, account.path.file_name())
    {
        failure.get_or_insert(failed(&dir.path, "cleared of old files", error.into()));
    }
    (account, failure)
}

/// Writes the compressed bytes of `whole` to a new file.
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
