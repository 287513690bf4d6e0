//! Compiles every `bpf/*.bpf.c` (and `tests/bpf/*.bpf.c`, for the tests) into an object of its own and writes the two
//! lists that the catalogue embeds: the objects and the configs of `probes.d/`. Nothing here depends on the kernel of
//! the machine that builds.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use libbpf_cargo::SkeletonBuilder;

/// The first clang that knows `btf_decl_tag`, without which a program could not describe itself.
const OLDEST_CLANG: u32 = 14;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    println!("cargo:rerun-if-env-changed=CLANG");
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".into());
    check_clang(&clang);

    let programs = compile_all(&clang, Path::new("bpf"), &out);
    compile_all(&clang, Path::new("tests/bpf"), &out);

    let mut list = String::from("pub(super) static OBJECTS: &[(&str, &[u8])] = &[\n");
    for name in programs {
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
    println!("cargo:rerun-if-changed={}", dir.display()); // the folder, or a new file would go unseen
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

fn compile_all(clang: &str, dir: &Path, out: &Path) -> Vec<String> {
    let sources = files(dir, ".bpf.c");
    for (name, source) in &sources {
        let result = SkeletonBuilder::new()
            .source(source)
            .obj(out.join(format!("{name}.bpf.o")))
            .clang(clang)
            .clang_args(["-Ibpf/include", "-mcpu=v3", "-Wall", "-Werror", "-Wno-pass-failed"])
            .build();
        if let Err(error) = result {
            stop(&format!("{} does not compile:\n{error:?}", source.display()));
        }
    }
    sources.into_iter().map(|(name, _)| name).collect()
}

fn check_clang(clang: &str) {
    let Ok(output) = Command::new(clang).arg("--version").output() else {
        stop(&format!(
            "`{clang}` was not found. The eBPF programs are compiled with clang {OLDEST_CLANG} or newer: install the \
             package `clang` (Debian, Ubuntu, Fedora), or name another one with the variable CLANG."
        ));
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let major = text.split_once("clang version ").and_then(|(_, rest)| rest.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major < OLDEST_CLANG => stop(&format!(
            "`{clang}` is version {major}, and the eBPF programs need clang {OLDEST_CLANG} or newer: install a newer \
             package (Debian, Ubuntu: clang-{OLDEST_CLANG} or later) and name it with the variable CLANG."
        )),
        _ => {}
    }
}

/// A panic would bury the sentence under a backtrace.
fn stop(message: &str) -> ! {
    eprintln!("\nerror: {message}\n");
    exit(1);
}
