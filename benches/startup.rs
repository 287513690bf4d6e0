//! Time until every probe is attached: from exec, and for each step of the runner. Needs root.
//!
//! `cargo bench --bench startup`

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ebpf_run::catalog::Catalog;
use ebpf_run::config::Source;
use ebpf_run::kernel::{Host, KernelInfo, Loaded};
use ebpf_run::plan::{Overrides, plan};

const ROUNDS: usize = 21;
const CONFIGS: &[&str] = &["probes.d/io-latency.yaml", "probes.d/execsnoop.yaml"];

fn main() {
    if !rustix::process::geteuid().is_root() {
        return println!("startup: skipped, it needs root");
    }
    println!("{ROUNDS} rounds, median (least) in ms");
    println!("{:<28} {:>14} {:>14} {:>14} {:>14}", "", "parse, plan", "open, load", "attach", "exec → attached");
    for config in CONFIGS {
        let mut times: [Vec<f64>; 4] = Default::default();
        for _ in 0..ROUNDS {
            let steps = within(Path::new(config));
            for (times, step) in times.iter_mut().zip(steps.into_iter().chain([from_exec(config)])) {
                times.push(step.as_secs_f64() * 1e3);
            }
        }
        let shown = times.map(|mut times| {
            times.sort_by(f64::total_cmp);
            format!("{:.1} ({:.1})", times[ROUNDS / 2], times[0])
        });
        println!("{config:<28} {:>14} {:>14} {:>14} {:>14}", shown[0], shown[1], shown[2], shown[3]);
    }
}

/// Parse and plan, open and load, attach.
fn within(config: &Path) -> [Duration; 3] {
    let start = Instant::now();
    let source = Source::read(config).expect("the config is right");
    let plan = plan(&source, &Catalog::embedded(), &Overrides::default()).expect("the config is right");
    let planned = start.elapsed();
    let host = Host::read();
    let mut loaded: Vec<Loaded> =
        plan.probes.iter().map(|probe| Loaded::load(probe, &host, &KernelInfo::default()).expect("it loads")).collect();
    let ready = start.elapsed();
    loaded.iter_mut().for_each(|loaded| loaded.attach(&host).expect("it attaches"));
    let attached = start.elapsed();
    [planned, ready - planned, attached - ready]
}

fn from_exec(config: &str) -> Duration {
    let start = Instant::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_ebpf-run"))
        .args([config, "--duration", "1ms"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("attached") {
        line.clear();
        assert!(lines.read_line(&mut line).expect("it can be read") > 0, "it ended before it was attached");
    }
    let elapsed = start.elapsed();
    let _ = lines.read_to_string(&mut line);
    child.wait().expect("it ends");
    elapsed
}
