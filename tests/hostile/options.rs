//! The command line, which also has to do for what cargo gives to test programs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use crate::NAME;
use crate::place::Place;
use crate::window::Setting;

const HELP: &str = "\
Plays another user against captures of root (a test; run it as root)

    cargo test --test hostile                                a minute of seed 1
    cargo test --test hostile -- --time 600 --seed 7         ten minutes

      --time SECONDS     how long (default: 60)
      --seed NUMBER      decides on windows and attacks (default: 1); `random`
      --first NUMBER     begin with this window of the seed
      --windows NUMBER   no more windows than this
      --window SECONDS   the length of each window (default: 1 to 2.5, by the seed)
      --binary FILE      the runner (default: the one that cargo built; or the variable BIN)
      --config NAME      only this config of probes.d
      --attack NAME      only this attack
      --setting NAME     only this place of the output
";

#[derive(Debug)]
pub struct Options {
    pub time: Duration,
    pub seed: u64,
    pub first: u64,
    pub windows: Option<u64>,
    pub window: Option<Duration>,
    pub binary: PathBuf,
    pub only: String,
    pub setting: Option<Setting>,
    config: Option<String>,
}

pub enum Asked {
    Run(Options),
    /// Nothing is to be run.
    Done(ExitCode),
}

pub fn parse(arguments: &[String]) -> Asked {
    let binary = std::env::var_os("BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_ebpf-run").into());
    let Ok(binary) = fs::canonicalize(binary) else {
        eprintln!("hostile: the runner that BIN names is not there");
        return Asked::Done(ExitCode::from(2));
    };
    let mut options = Options {
        time: Duration::from_secs(60),
        seed: 1,
        first: 0,
        windows: None,
        window: None,
        binary,
        only: String::new(),
        setting: None,
        config: None,
    };
    let mut selected = true;
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().unwrap_or_default();
        let parsed = match argument.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Asked::Done(ExitCode::SUCCESS);
            }
            "--list" => {
                println!("{NAME}: test");
                return Asked::Done(ExitCode::SUCCESS);
            }
            "--time" => value().parse().map(|seconds| options.time = Duration::from_secs_f64(seconds)).is_ok(),
            "--seed" => match value().as_str() {
                "random" => {
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                    now.map(|now| options.seed = now.as_secs()).is_ok()
                }
                text => text.parse().map(|seed| options.seed = seed).is_ok(),
            },
            "--first" => value().parse().map(|first| options.first = first).is_ok(),
            "--window" => {
                value().parse().map(|seconds| options.window = Some(Duration::from_secs_f64(seconds))).is_ok()
            }
            "--windows" => value().parse().map(|windows| options.windows = Some(windows)).is_ok(),
            "--binary" => fs::canonicalize(value()).map(|binary| options.binary = binary).is_ok(),
            "--config" => {
                options.config = Some(value());
                true
            }
            "--attack" => {
                options.only = value();
                crate::attacks::ALL.iter().any(|attack| attack.name == options.only)
            }
            "--setting" => {
                let name = value();
                options.setting = Setting::ALL.into_iter().find(|setting| setting.name() == name);
                options.setting.is_some()
            }
            "--skip" => {
                selected &= !NAME.contains(&value());
                true
            }
            "--test-threads" | "--format" | "--color" => !value().is_empty(),
            "--nocapture" | "--no-capture" | "--exact" | "--quiet" | "-q" | "--show-output" | "--include-ignored" => {
                true
            }
            flag if flag.starts_with('-') => false,
            filter => {
                selected &= NAME.contains(filter);
                true
            }
        };
        if !parsed {
            eprintln!("hostile: `{argument}` is unknown, or its value is wrong or missing; see --help");
            return Asked::Done(ExitCode::from(2));
        }
    }
    let missing = missing();
    if selected && let Some(missing) = &missing {
        let required = std::env::var_os("EBPF_RUN_REQUIRE_ROOT").is_some() && missing.contains("root");
        assert!(!required, "EBPF_RUN_REQUIRE_ROOT is set, and this is not root");
        eprintln!("SKIPPED {NAME}: {missing}");
    }
    if !selected || missing.is_some() {
        println!("\nrunning 0 tests");
        println!("\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 1 filtered out; finished in 0.00s\n");
        return Asked::Done(ExitCode::SUCCESS);
    }
    Asked::Run(options)
}

/// Why this machine can't run it.
fn missing() -> Option<&'static str> {
    if !rustix::process::geteuid().is_root() {
        return Some("loading eBPF programs and playing another user needs root");
    }
    (!cfg!(target_arch = "x86_64")).then_some("its attackers have code for x86-64 only")
}

/// Copies the shipped configs to where they can be included; their names.
pub fn configs(options: &Options, place: &Place) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("probes.d"))? {
        let path = entry?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".yaml")) else { continue };
        fs::copy(&path, place.path(&format!("configs/{name}.yaml")))?;
        if options.config.as_ref().is_none_or(|only| only == name) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    if names.is_empty() { Err(io::Error::other("no such config in probes.d")) } else { Ok(names) }
}
