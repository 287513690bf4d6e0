//! Compiles every `bpf/*.bpf.c` (and `tests/bpf/*.bpf.c`, for the tests) into an object of its own and writes the two
//! lists that the catalogue embeds: the objects and the configs of `probes.d/`. Nothing here depends on the kernel of
//! the machine that builds.
//!
//! An object is compiled again only if its source, a header that it includes, the compiler or this script has changed;
//! as many at once as cargo has jobs.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::sync::Mutex;
use std::thread;

use libbpf_cargo::SkeletonBuilder;

/// The first clang with `btf_decl_tag`, which carries the tags of a program.
const OLDEST_CLANG: u32 = 14;

const CLANG_ARGS: [&str; 5] = ["-Ibpf/include", "-mcpu=v3", "-Wall", "-Werror", "-Wno-pass-failed"];

/// An eBPF object, and the C file that it is compiled from.
struct BpfTarget {
    name: String,
    source: PathBuf,
    object: PathBuf,
}

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-env-changed=CLANG");
    for dir in ["bpf", "tests/bpf", "probes.d"] {
        println!("cargo:rerun-if-changed={dir}"); // the directory, or a new file would go unseen
    }
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let version = check_clang(&clang);

    let programs = bpf_targets(Path::new("bpf"), &out);
    let of_tests = bpf_targets(Path::new("tests/bpf"), &out);
    compile(&clang, &version, programs.iter().chain(&of_tests));

    let mut list = String::from("pub(super) static OBJECTS: &[(&str, &[u8])] = &[\n");
    for BpfTarget { name, .. } in programs {
        writeln!(list, "    ({name:?}, include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}.bpf.o\"))),").unwrap();
    }
    list.push_str("];\npub(super) static CONFIGS: &[(&str, &str)] = &[\n");
    let here = env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    for (stem, path) in files(Path::new("probes.d"), ".yaml") {
        writeln!(list, "    ({stem:?}, include_str!({:?})),", Path::new(&here).join(path)).unwrap();
    }
    list.push_str("];\n");
    fs::write(out.join("embedded.rs"), list).expect("OUT_DIR is writable");
}

/// The files of `dir` whose names end in `suffix`, as (name without it, path), in the order of their names.
fn files(dir: &Path, suffix: &str) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let stem = path.file_name()?.to_str()?.strip_suffix(suffix)?.to_owned();
            Some((stem, path))
        })
        .collect();
    found.sort();
    found
}

fn bpf_targets(dir: &Path, out: &Path) -> Vec<BpfTarget> {
    let target = |(name, source)| BpfTarget { object: out.join(format!("{name}.bpf.o")), name, source };
    files(dir, ".bpf.c").into_iter().map(target).collect()
}

/// Compiles those of `targets` that are not up to date; ends the build if one of them does not compile.
fn compile<'a>(clang: &str, version: &str, targets: impl Iterator<Item = &'a BpfTarget> + Send) {
    let jobs = env::var("NUM_JOBS").ok().and_then(|jobs| jobs.parse().ok()).unwrap_or(1);
    let (targets, failures) = (Mutex::new(targets), Mutex::new(Vec::new()));
    let next = || targets.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                while let Some(target) = next() {
                    if let Err(error) = target.update(clang, version) {
                        let failure = format!("{} does not compile:\n{error}", target.source.display());
                        failures.lock().unwrap().push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().unwrap();
    failures.sort();
    if !failures.is_empty() {
        stop(&failures.join("\n\nerror: "));
    }
}

impl BpfTarget {
    /// Compiles the object if it is not up to date.
    fn update(&self, clang: &str, version: &str) -> Result<(), String> {
        let stamp = self.object.with_extension("stamp");
        let dependencies = self.object.with_extension("d");
        let made_from = fs::read_to_string(&stamp);
        if made_from.is_ok_and(|print| self.fingerprint(version, &dependencies).is_ok_and(|now| now == print)) {
            return Ok(());
        }
        let _ = fs::remove_file(&stamp); // a failure leaves a broken object behind
        let mut args = CLANG_ARGS.map(String::from).to_vec();
        args.extend(["-MMD".into(), "-MT".into(), "object".into(), "-MF".into(), dependencies.display().to_string()]);
        SkeletonBuilder::new()
            .source(&self.source)
            .obj(&self.object)
            .clang(clang)
            .clang_args(args)
            .build()
            .map_err(|error| format!("{error:?}"))?;
        let print = self.fingerprint(version, &dependencies).map_err(|error| error.to_string())?;
        fs::write(stamp, print).map_err(|error| error.to_string())
    }

    /// A hash of all inputs of the object: the source and the headers that `dependencies` lists, the compiler, this script with
    /// its arguments and libbpf's headers, and the names of all headers, because a new one can shadow another.
    fn fingerprint(&self, version: &str, dependencies: &Path) -> io::Result<String> {
        let mut hasher = DefaultHasher::new();
        version.hash(&mut hasher);
        fs::metadata(env::current_exe()?)?.modified()?.hash(&mut hasher);
        for dir in [Path::new("bpf/include"), Path::new("bpf"), Path::new("tests/bpf")] {
            files(dir, ".h").hash(&mut hasher);
        }
        // A rule of make. libbpf's headers are in a temporary directory: their paths are absolute and change
        let rule = fs::read_to_string(dependencies)?.replace("\\\n", " ");
        let paths = rule.strip_prefix("object:").unwrap_or_default().split_whitespace();
        for path in paths.filter(|path| Path::new(path).is_relative()) {
            path.hash(&mut hasher);
            fs::read(path)?.hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

/// The text of clang's version; ends the build if clang is missing or too old.
fn check_clang(clang: &str) -> String {
    let Ok(output) = Command::new(clang).arg("--version").output() else {
        stop(&format!(
            "`{clang}` was not found. The eBPF programs are compiled with clang {OLDEST_CLANG} or newer: install the \
             package `clang` (Debian, Ubuntu, Fedora), or name another one with the variable CLANG."
        ));
    };
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let major = text.split_once("clang version ").and_then(|(_, rest)| rest.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST_CLANG => stop(&format!(
            "`{clang}` is version {major}, and the eBPF programs need clang {OLDEST_CLANG} or newer: install a newer \
             package (Debian, Ubuntu: clang-{OLDEST_CLANG} or later) and name it with the variable CLANG."
        )),
        _ => text,
    }
}

/// A panic would hide the message in a backtrace.
fn stop(message: &str) -> ! {
    eprintln!("\nerror: {message}\n");
    exit(1);
}
