//! `sigsnoop`: signals of every origin, what becomes of them, and every filter.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{NOBODY, Scratch};
use crate::load::{compiled, copy_of, named, unique_name};
use crate::root;

/// A process that waits, deaf to SIGUSR1 and with something to do at SIGTERM.
fn target(shell: &Path) -> Child {
    let mut command = Command::new(shell);
    command.args(["-c", "trap '' USR1; trap : TERM; echo ready; read _; read _"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line).expect("it says that it is there");
    assert_eq!(line, "ready\n");
    child
}

/// Sends `signals` to `child` from a thread called `comm`.
fn send(comm: &str, child: &Child, signals: &'static [Signal]) {
    let pid = Pid::from_child(child);
    let sending = named(comm, move || {
        for signal in signals {
            kill_process(pid, *signal).expect("it is there");
        }
    });
    sending.join().expect("it does not panic");
}

#[test]
fn signals_are_seen_with_both_sides_and_what_became_of_them() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let sender = unique_name();
    let (shell, comm) = copy_of(&scratch, "sh");
    let mut child = target(&shell);
    let probes = json!([
        {"program": "sigsnoop", "name": "sent", "filters": {"comm": sender}},
        {"program": "sigsnoop", "name": "to", "filters": {"target": child.id(), "comm": [sender, comm]}},
        {"program": "sigsnoop", "name": "back", "filters": {"comm": comm, "signal": "sigchld"}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    send(&sender, &child, &[Signal::USR1, Signal::STOP, Signal::TERM, Signal::TERM, Signal::KILL]);
    // One that must not makes no signal
    let refused =
        Command::new(&shell).args(["-c", &format!("kill -KILL {} 2>/dev/null", child.id())]).uid(NOBODY).status();
    assert!(!refused.expect("it runs").success());
    child.wait().expect("it ends");
    let records = records(&capture.stop().expect(0).stdout);
    let expected = [
        ("sigusr1", "ignored"),
        ("sigstop", "delivered"),
        ("sigterm", "delivered"),
        ("sigterm", "already_pending"),
        ("sigkill", "delivered"),
    ];
    for probe in ["sent", "to"] {
        let mine = of_probe(&records, probe);
        let seen: Vec<(&str, &str)> =
            mine.iter().map(|r| (r["signal"].as_str().expect("text"), r["result"].as_str().expect("text"))).collect();
        assert_eq!(seen, expected, "{probe}");
        for record in mine {
            assert_eq!((&record["origin"], &record["comm"]), (&json!("kill"), &json!(sender)));
            assert_eq!((&record["pid"], &record["uid"]), (&json!(std::process::id()), &json!(0)));
            assert_ne!(record["tid"], std::process::id(), "a thread of its own sent it");
            assert_eq!((&record["target_pid"], &record["target_tid"]), (&json!(child.id()), &json!(child.id())));
            assert_eq!(record["target_comm"], comm);
        }
    }
    let back: Vec<&Json> =
        of_probe(&records, "back").into_iter().filter(|record| record["pid"] == child.id()).collect();
    assert!(!back.is_empty(), "the parent is told of the end");
    for record in back {
        assert_eq!((&record["origin"], &record["target_pid"]), (&json!("kernel"), &json!(std::process::id())));
    }
}

/// Signals that a process sends itself in every way, and one by the kernel that ends it. All but that are blocked.
const ORIGINS: &str = r#"
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int main(void)
{
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct rlimit none = { 0, 0 };
	struct sigevent event;
	sigset_t all, wait;
	timer_t timer;

	setrlimit(RLIMIT_CORE, &none);
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	raise(SIGUSR1);
	kill(getpid(), SIGUSR2);
	sigqueue(getpid(), 40, (union sigval){ 0 });
	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = 41;
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &soon, 0);
	sigemptyset(&wait);
	sigaddset(&wait, 41);
	sigwaitinfo(&wait, 0);
	*(volatile int *)8 = 0;
	return 0;
}
"#;

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, ORIGINS);
    let (shell, _) = copy_of(&scratch, "sh");
    let held = crate::load::Held::new(&shell, &program, ["x"]);
    let pid = held.pid();
    let own = ["sigusr1", "sigusr2", "sigrt40", "sigsegv"];
    let cases: Vec<(Json, Vec<&str>)> = vec![
        (json!({}), vec!["sigusr1", "sigusr2", "sigrt40", "sigrt41", "sigsegv"]),
        (json!({"target": pid}), vec!["sigusr1", "sigusr2", "sigrt40", "sigrt41", "sigsegv"]),
        (json!({"target": [1, pid], "pid": pid, "signal": {"not": "sigusr1"}}), own[1..].to_vec()),
        (json!({"target": {"not": pid}, "comm": comm}), vec![]),
        // A timer is nobody, and passes no filter on tasks
        (json!({"comm": comm}), own.to_vec()),
        (json!({"comm": unique_name()}), vec![]),
        (json!({"comm": comm, "signal": ["sigusr2", "sigrt40"]}), vec!["sigusr2", "sigrt40"]),
        (json!({"comm": comm, "signal": "sighup"}), vec![]),
        (json!({"target": pid, "origin": "tgkill"}), vec!["sigusr1"]),
        (json!({"target": pid, "origin": "kill"}), vec!["sigusr2"]),
        (json!({"target": pid, "origin": "sigqueue"}), vec!["sigrt40"]),
        (json!({"target": pid, "origin": "timer"}), vec!["sigrt41"]),
        (json!({"target": pid, "origin": "kernel"}), vec!["sigsegv"]),
        (json!({"target": pid, "origin": ["mesgq", "asyncio"]}), vec![]),
    ];
    let probe = |(i, (filters, _)): (usize, &(Json, Vec<&str>))| json!({"program": "sigsnoop", "name": format!("p{i}"), "filters": filters});
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    held.go();
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, expected)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        // What it sent its parent, or got from others, is no part of the test
        let mine = mine.iter().filter(|record| record["target_pid"] == pid && record["target_comm"] == comm);
        let seen: Vec<&str> = mine.map(|record| record["signal"].as_str().expect("text")).collect();
        assert_eq!(&seen, expected, "{filters}");
    }
}
