//! `sigsnoop`: signals of every origin, what becomes of them, and every filter.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, to_jsonl};
use crate::common::{NOBODY, Scratch};
use crate::disk::retry;
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

/// Sends the process `argv[1]` and itself signals with codes of its choice, and has the kernel send it some.
const CHOSEN: &str = r#"
#include <fcntl.h>
#include <mqueue.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static void queue(int kind, int to, int signal, int code)
{
	siginfo_t info;
	int fd;

	memset(&info, 0, sizeof(info));
	info.si_signo = signal;
	info.si_code = code;
	info.si_pid = 1; /* another one's */
	if (kind == 0)
		syscall(SYS_rt_sigqueueinfo, to, signal, &info);
	if (kind == 1)
		syscall(SYS_rt_tgsigqueueinfo, to, to, signal, &info);
	if (kind == 2) {
		fd = syscall(434 /* pidfd_open */, to, 0);
		syscall(424 /* pidfd_send_signal */, fd, signal, &info, 0);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	static const int codes[] = { -1, -2, -3, -4, -5, -60 };
	struct itimerspec soon = { .it_value.tv_nsec = 1000000 };
	struct mq_attr one = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	struct sigevent event;
	sigset_t all, wait;
	timer_t timer;
	char name[32];
	mqd_t queued;
	int i, kind, to = atoi(argv[1]);

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, 0);
	for (kind = 0; kind < 3; kind++)
		for (i = 0; i < 6; i++)
			queue(kind, to, SIGUSR1, codes[i]);
	/* Only for itself: as if the kernel did it, and as if by kill() */
	queue(0, getpid(), SIGUSR2, SI_KERNEL);
	queue(0, getpid(), SIGUSR2, SI_USER);

	memset(&event, 0, sizeof(event));
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = 41;
	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &soon, 0);
	sigemptyset(&wait);
	sigaddset(&wait, 41);
	sigwaitinfo(&wait, 0);

	ualarm(1000, 0); /* while it sleeps, and while it runs */
	sigemptyset(&wait);
	sigaddset(&wait, SIGALRM);
	sigwaitinfo(&wait, 0);
	ualarm(1000, 0);
	do
		sigpending(&wait);
	while (!sigismember(&wait, SIGALRM));

	snprintf(name, sizeof(name), "/ebpf-run-test-%d", getpid());
	event.sigev_signo = 42;
	queued = mq_open(name, O_RDWR | O_CREAT, 0600, &one);
	mq_notify(queued, &event);
	mq_send(queued, "x", 1, 0);
	mq_unlink(name);
	return queued == (mqd_t)-1;
}
"#;

#[test]
fn who_chooses_a_code_is_the_sender_all_the_same() {
    if root() {
        retry(codes_of_choice);
    }
}

/// What is missing of the signals that interrupts make, which the host can hide; all else has to be right.
fn codes_of_choice() -> Result<(), String> {
    let scratch = Scratch::new();
    let (program, comm) = compiled(&scratch, CHOSEN);
    let (shell, _) = copy_of(&scratch, "sh");
    let mut child = target(&shell);
    let held = crate::load::Held::new(&shell, &program, [child.id().to_string()]);
    let pid = held.pid();
    let probes = json!([
        {"program": "sigsnoop", "name": "to", "filters": {"target": child.id(), "signal": "sigusr1"}},
        {"program": "sigsnoop", "name": "by", "filters": {"process_comm": comm, "signal": "sigusr1"}},
        {"program": "sigsnoop", "name": "queued", "filters": {"pid": pid, "signal": "sigusr1", "origin": ["sigqueue", "mesgq"]}},
        {"program": "sigsnoop", "name": "own", "filters": {"target": pid}},
        {"program": "sigsnoop", "name": "owned", "filters": {"target": pid, "pid": pid}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let queues = held.go() == Some(0);
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    let records = records(&capture.stop().expect(0).stdout);
    let codes = [-1, -2, -3, -4, -5, -60];
    for probe in ["to", "by", "queued"] {
        let mine = of_probe(&records, probe);
        let seen: Vec<i64> = mine.iter().map(|record| record["si_code"].as_i64().expect("a number")).collect();
        assert_eq!(seen, [codes, codes, codes].concat(), "{probe}");
        for record in mine {
            let origin = if record["si_code"] == -3 { "mesgq" } else { "sigqueue" };
            let seen = ["pid", "tid", "uid", "comm", "process_comm", "origin"].map(|name| &record[name]);
            assert_eq!(seen, [&json!(pid), &json!(pid), &json!(0), &json!(comm), &json!(comm), &json!(origin)]);
            assert_eq!(record["target_process_comm"], record["target_comm"]);
        }
    }
    // What it was sent: signal, origin, code and whether there is a sender
    let own = |probe: &str| -> Vec<(String, String, i64, bool)> {
        let mine = of_probe(&records, probe).into_iter().filter(|record| record["target_comm"] == comm);
        let text = |record: &Json, name: &str| record[name].as_str().expect("text").to_owned();
        let one = |record: &Json| {
            assert!([json!(pid), json!(0)].contains(&record["pid"]), "{record}");
            assert_eq!(record["pid"] == 0, record["comm"] == "", "{record}");
            let code = record["si_code"].as_i64().expect("a number");
            (text(record, "signal"), text(record, "origin"), code, record["pid"] != 0)
        };
        mine.map(one).collect()
    };
    let mut expected = vec![
        ("sigusr2", "kernel", 0x80, true),
        ("sigusr2", "kill", 0, true),
        ("sigrt41", "timer", -2, false),
        ("sigalrm", "kernel", 0x80, false),
        ("sigalrm", "kernel", 0x80, false),
    ];
    if queues {
        expected.push(("sigrt42", "mesgq", -3, true));
    }
    let expected: Vec<(String, String, i64, bool)> =
        expected.into_iter().map(|(signal, origin, code, by)| (signal.into(), origin.into(), code, by)).collect();
    let (seen, sent): (Vec<_>, Vec<_>) = (own("own"), expected.iter().filter(|(.., by)| *by).cloned().collect());
    assert_eq!(own("owned"), sent);
    assert_eq!(seen.iter().filter(|(.., by)| *by).cloned().collect::<Vec<_>>(), sent);
    let mut rest = expected.iter();
    assert!(seen.iter().all(|signal| rest.any(|known| known == signal)), "{seen:?} in {expected:?}");
    if seen == expected { Ok(()) } else { Err(format!("{seen:?} of {expected:?}")) }
}

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
