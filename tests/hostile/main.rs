//! Another user of the machine, who does all that a user can to hang, kill, blind or misdirect captures of root.
//!
//! Windows of the shipped configs go back to back, filtered on processes of that user. After each, everything that has to
//! hold is checked. A seed decides on all that is done; timing is up to the machine. See `--help`.

mod attackers;
mod attacks;
mod elf;
mod fuse;
mod judge;
mod options;
mod place;
mod rng;
mod summary;
mod sys;
mod watch;
mod window;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use judge::{Decoys, judge};
use options::{Asked, Options};
use place::Place;
use summary::Summary;
use window::Window;

/// Of what is wrong in a window.
const MOST_SHOWN: usize = 8;
/// Its name among the tests.
const NAME: &str = "captures_withstand_another_user";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse().expect("a number");
    let child = match words.as_slice() {
        ["attackers", root, seed, window, only] => {
            Some(attackers::run(Path::new(root), number(seed), number(window), only))
        }
        ["inside", ..] => Some(window::run_inside(&arguments[1..])),
        _ => None,
    };
    match child {
        Some(Ok(())) => return ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
        None => {}
    }
    let options = match options::parse(&arguments) {
        Asked::Run(options) => options,
        Asked::Done(code) => return code,
    };
    println!("\nrunning 1 test");
    let began = Instant::now();
    let passed = match run(&options) {
        Ok(passed) => passed,
        Err(error) => {
            println!("hostile: can't go on: {error}");
            false
        }
    };
    // The words of other test programs, for those who count
    println!("test {NAME} ... {}", if passed { "ok" } else { "FAILED" });
    let (word, good) = if passed { ("ok", 1) } else { ("FAILED", 0) };
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "\ntest result: {word}. {good} passed; {} failed; 0 ignored; 0 measured; 0 filtered out; finished in {seconds:.2}s\n",
        1 - good
    );
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Whether every window was as it should be.
fn run(options: &Options) -> io::Result<bool> {
    let (place, guard) = Place::new()?;
    let configs = options::configs(options, &place)?;
    // SAFETY: no memory is involved
    sys::ok(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) })?;
    sys::own_mounts()?;
    let decoys = Decoys::watch(&place)?;
    println!("hostile: seed {}, {} s, {}", options.seed, options.time.as_secs(), options.binary.display());
    let mut summary = Summary::default();
    let began = Instant::now();
    let mut number = options.first;
    while began.elapsed() < options.time && options.windows.is_none_or(|windows| number < options.first + windows) {
        let mut window = Window::draw(options.seed, number, &configs);
        if let Some(setting) = options.setting {
            window.setting = setting;
        }
        window.duration = options.window.unwrap_or(window.duration);
        number += 1;
        let ran = window.run(&place, options.seed, &options.binary, &options.only)?;
        let (found, wrong) = judge(&window, &ran, &place, &decoys)?;
        summary.add(&window, &ran, &found, &place)?;
        println!("{}", summary::line(&window, &ran, &found));
        if !wrong.is_empty() {
            let kept = guard.keep();
            println!("\nhostile: VIOLATION in window {} of seed {}:", window.number, options.seed);
            for what in wrong.iter().take(MOST_SHOWN) {
                println!("- {what}");
            }
            if wrong.len() > MOST_SHOWN {
                println!("- and {} more", wrong.len() - MOST_SHOWN);
            }
            println!("{}", summary::record(&place)?);
            println!(
                "Its files are in {}; once more: --seed {} --first {} --windows 1",
                kept.display(),
                options.seed,
                window.number
            );
            println!("{summary}");
            return Ok(false);
        }
        window.clear(&place)?;
    }
    println!("\n{summary}");
    let blind = summary.blind();
    if let Some(blind) = &blind {
        println!("hostile: VIOLATION: {blind}");
    }
    Ok(blind.is_none())
}
