//! `tcplife`: connections that end in every way, whose they were, what they carried, and every filter.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl};
use crate::common::{Scratch, run};
use crate::load::{compiled, named, unique_name};
use crate::net::{family, listener, loopbacks, own_network, wait_until_all_are_closed};
use crate::root;
use crate::variants::{Variant, by_each_variant};

/// How a connection ends. In each the client sends 20001 bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    /// The client is done first; the server answers with 77 bytes after that.
    ClientFirst,
    /// The server sends 77 bytes and is done first.
    ServerFirst,
    /// The server closes with data unread, which resets the connection.
    Unread,
}
const ENDS: [End; 3] = [End::ClientFirst, End::ServerFirst, End::Unread];
const REQUEST: usize = 20_001; // fits into every receive buffer
const ANSWER: usize = 77;

fn serve(listener: &TcpListener, end: End) {
    let (mut stream, _) = listener.accept().expect("somebody comes");
    let mut request = vec![0; REQUEST];
    match end {
        End::ClientFirst => {
            stream.read_to_end(&mut request).expect("the client is done in order");
            stream.write_all(&[0; ANSWER]).expect("the client waits for it");
        }
        End::ServerFirst => {
            stream.read_exact(&mut request).expect("the client sends it");
            stream.write_all(&[0; ANSWER]).expect("the client waits for it");
            stream.shutdown(Shutdown::Write).expect("it is open");
            assert_eq!(stream.read(&mut request).expect("the client is done in order"), 0);
        }
        End::Unread => {
            // All of it has come when the client says so, and one byte is taken
            stream.read_exact(&mut request[..1]).expect("the client sends it");
            let mut rest = vec![0; REQUEST - 1];
            while stream.peek(&mut rest).expect("it is open") < REQUEST - 1 {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn call(mut stream: TcpStream, end: End, hold: Duration) {
    stream.write_all(&[0; REQUEST]).expect("the server takes it");
    thread::sleep(hold);
    if end == End::ClientFirst {
        stream.shutdown(Shutdown::Write).expect("it is open");
    }
    let mut answer = Vec::new();
    let read = stream.read_to_end(&mut answer);
    if end != End::Unread {
        assert_eq!((read.expect("the server is done in order"), answer.len()), (ANSWER, ANSWER));
    }
}

/// One connection between two threads, until both are done with it; the client's address.
fn exchange(server: &str, client: &str, listener: TcpListener, end: End, hold: Duration) -> (TcpListener, SocketAddr) {
    let at = listener.local_addr().expect("it has an address");
    let serving = named(server, move || {
        serve(&listener, end);
        listener
    });
    let calling = named(client, move || {
        let stream = TcpStream::connect(at).expect("the server listens");
        let from = stream.local_addr().expect("it has an address");
        call(stream, end, hold);
        from
    });
    let from = calling.join().expect("it does not panic");
    (serving.join().expect("it does not panic"), from)
}

/// The one record with these ports.
#[track_caller]
fn one(records: &[Json], local: SocketAddr, remote: SocketAddr) -> &Json {
    let is = |record: &&Json| record["lport"] == local.port() && record["rport"] == remote.port();
    let found: Vec<&Json> = records.iter().filter(is).collect();
    assert_eq!(found.len(), 1, "from {local} to {remote}");
    found[0]
}

#[test]
fn both_sides_of_a_connection_are_seen_with_what_they_carried() {
    by_each_variant("tcplife", both_sides_are_seen_by);
}

fn both_sides_are_seen_by(variant: Option<&Variant>) {
    own_network();
    let scratch = Scratch::new();
    let (server, client) = (unique_name(), unique_name());
    let probe = json!([{"program": "tcplife", "filters": {"comm": [server, client]}}]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probe)) else { return };
    let mut seen = Vec::new();
    for address in loopbacks() {
        for end in ENDS {
            let (there, at) = listener(address);
            let (_, from) = exchange(&server, &client, there, end, Duration::ZERO);
            seen.push((end, at, from));
        }
    }
    // One that nobody answers is no connection
    let nobody = seen[0].1;
    named(&client, move || TcpStream::connect(nobody).expect_err("nobody listens")).join().expect("it does not panic");
    wait_until_all_are_closed();
    let records = records(&capture.stop().expect(0).stdout);
    assert_eq!(records.len(), 2 * seen.len());
    for (end, at, from) in seen {
        let (inner, outer) = (one(&records, at, from), one(&records, from, at));
        for (record, comm, direction) in [(inner, &server, "in"), (outer, &client, "out")] {
            assert_eq!((&record["comm"], &record["direction"]), (&json!(comm), &json!(direction)), "{end:?}");
            assert_eq!((&record["pid"], &record["uid"]), (&json!(std::process::id()), &json!(0)));
            assert_eq!(record["family"], family(at.ip()));
            assert_eq!((&record["laddr"], &record["raddr"]), (&json!(at.ip()), &json!(at.ip())));
            let lasted = record["duration_ns"].as_u64().expect("a number");
            assert!((1..20_000_000_000).contains(&lasted), "{lasted}");
        }
        let answer = if end == End::Unread { 0 } else { ANSWER };
        let bytes = |record: &Json| (record["tx_bytes"].as_u64(), record["rx_bytes"].as_u64());
        assert_eq!(bytes(inner), (Some(answer as u64), Some(REQUEST as u64)), "{end:?}");
        assert_eq!(bytes(outer), (Some(REQUEST as u64), Some(answer as u64)), "{end:?}");
    }
}

/// Whose is a connection that nobody has accepted? To say anything but nobody's would be a guess.
#[test]
fn a_connection_that_nobody_accepts_is_nobodys() {
    if !root() {
        return;
    }
    own_network();
    let scratch = Scratch::new();
    let client = unique_name();
    let (there, at) = listener(loopbacks()[0]);
    let probes = json!([
        {"program": "tcplife", "name": "all", "filters": {"local_port": at.port()}},
        {"program": "tcplife", "name": "mine", "filters": {"local_port": at.port(), "pid": std::process::id()}},
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &[]);
    let calling = named(&client, move || {
        let mut stream = TcpStream::connect(at).expect("the kernel answers");
        stream.write_all(&[0; ANSWER]).expect("the kernel takes it");
    });
    calling.join().expect("it does not panic");
    drop(there); // ends what waits there
    wait_until_all_are_closed();
    let records = records(&capture.stop().expect(0).stdout);
    assert_eq!(records.len(), 1, "{records:?}");
    let record = &records[0];
    assert_eq!((&record["probe"], &record["pid"], &record["comm"]), (&json!("all"), &json!(0), &json!("")));
    assert_eq!((&record["direction"], &record["uid"]), (&json!("in"), &json!(0)));
    assert_eq!((&record["tx_bytes"], &record["rx_bytes"]), (&json!(0), &json!(ANSWER)));
}

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    own_network();
    let scratch = Scratch::new();
    let (server, client) = (unique_name(), unique_name());
    let listeners: Vec<_> = loopbacks().into_iter().map(listener).collect();
    let first = listeners[0].1.port();
    let v6 = listeners.len() - 1;
    let both = json!([server, client]);
    // How many of the server's, and of the client's
    let cases: Vec<(Json, usize, usize)> = vec![
        (json!({}), 1 + v6, 1 + v6),
        (json!({"comm": server}), 1 + v6, 0),
        (json!({"comm": client}), 0, 1 + v6),
        (json!({"comm": unique_name()}), 0, 0),
        (json!({"comm": both, "pid": {"not": std::process::id()}}), 0, 0),
        (json!({"comm": both, "local_port": first}), 1, 0),
        (json!({"comm": both, "remote_port": first}), 0, 1),
        (json!({"comm": both, "remote_port": {"not": first}}), 1 + v6, v6),
        (json!({"comm": both, "local_port": [1, 2]}), 0, 0),
        (json!({"comm": both, "family": "ipv4"}), 1, 1),
        (json!({"comm": both, "family": "ipv6"}), v6, v6),
        (json!({"comm": both, "direction": "in"}), 1 + v6, 0),
        (json!({"comm": both, "direction": "out"}), 0, 1 + v6),
        (json!({"comm": both, "min_duration": "50ms"}), 1 + v6, 1 + v6),
        (json!({"comm": both, "min_duration": "1h"}), 0, 0),
    ];
    let probe = |(i, (filters, ..)): (usize, &(Json, usize, usize))| json!({"program": "tcplife", "name": format!("p{i}"), "filters": filters});
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    for (there, _) in listeners {
        exchange(&server, &client, there, End::ClientFirst, Duration::from_millis(60));
    }
    wait_until_all_are_closed();
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, of_server, of_client)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        let count = |comm: &str| mine.iter().filter(|record| record["comm"] == comm).count();
        assert_eq!((count(&server), count(&client)), (*of_server, *of_client), "{filters}");
    }
}

#[test]
fn connections_that_are_open_at_the_end_are_counted() {
    if !root() {
        return;
    }
    own_network();
    let scratch = Scratch::new();
    let (there, at) = listener(loopbacks()[0]);
    let path = scratch.path("report.json");
    let probe = |name: &str, filters: Json| json!({"program": "tcplife", "name": name, "filters": filters});
    let probes = json!([
        probe("in", json!({"local_port": at.port()})),
        probe("out", json!({"remote_port": at.port()})),
        probe("mine", json!({"remote_port": at.port(), "pid": std::process::id()})),
        probe("others", json!({"remote_port": at.port(), "pid": {"not": std::process::id()}})),
        probe("accepted", json!({"local_port": at.port(), "comm": unique_name()})),
    ]);
    let capture = Capture::start(&scratch, &to_jsonl(probes), &["--report", path.to_str().expect("UTF-8")]);
    let open: Vec<TcpStream> = (0..3).map(|_| TcpStream::connect(at).expect("the kernel answers")).collect();
    let _accepted: Vec<_> = (0..3).map(|_| there.accept().expect("they have come")).collect();
    drop(TcpStream::connect(at).expect("the kernel answers")); // this one ends
    drop(there.accept().expect("it has come"));
    let ended = capture.stop().expect(0).says(&["(connections open at the end: 3)"]);
    drop(open);
    assert_eq!(records(&ended.stdout).len(), 3, "{}", ended.stdout);
    let report = report(&scratch);
    let under_way: Vec<_> = (0..5).map(|probe| report["probes"][probe]["in_flight"].clone()).collect();
    assert_eq!(under_way, [3, 3, 3, 0, 0].map(|count| json!(count)));
}

/// SERVER CLIENT: one connection of Multipath TCP between two processes of these commands, with a second subflow. Prints their
/// pids, the server's first.
const MULTIPATH: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#define MPTCP 262
static int joined(void)
{
	char names[8192], values[8192], *n, *v, *a, *b;
	FILE *file = fopen("/proc/net/netstat", "r");
	while (fgets(names, sizeof(names), file) && fgets(values, sizeof(values), file))
		if (!strncmp(names, "MPTcpExt:", 9))
			for (n = strtok_r(names, " ", &a), v = strtok_r(values, " ", &b); n && v; n = strtok_r(0, " ", &a), v = strtok_r(0, " ", &b))
				if (!strcmp(n, "MPJoinAckRx")) {
					fclose(file);
					return atoi(v);
				}
	fclose(file);
	return 0;
}
int main(int count, char **args)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(5656), .sin_addr.s_addr = inet_addr("10.56.0.1")};
	int listener = socket(AF_INET, SOCK_STREAM, MPTCP), s, tries;
	char data[1000];
	pid_t child;
	if (listener < 0 || bind(listener, (void *)&at, sizeof(at)) || listen(listener, 5))
		return 77;
	child = fork();
	if (!child) {
		prctl(PR_SET_NAME, args[1]);
		s = accept(listener, 0, 0);
		while ((count = read(s, data, sizeof(data))) > 0)
			write(s, data, count);
		return 0;
	}
	close(listener);
	prctl(PR_SET_NAME, args[2]);
	s = socket(AF_INET, SOCK_STREAM, MPTCP);
	if (connect(s, (void *)&at, sizeof(at)))
		return 1;
	for (tries = 0; tries < 500 && (tries < 5 || !joined()); tries++) {
		write(s, data, sizeof(data));
		read(s, data, sizeof(data));
		usleep(10000);
	}
	if (!joined())
		return 77;
	close(s);
	waitpid(child, 0, 0);
	printf("%d %d\n", child, getpid());
	return 0;
}
"#;

/// The kernel makes and ends subflows in threads of its own, which are no owners.
#[test]
fn subflows_of_multipath_tcp_belong_to_who_connects() {
    by_each_variant("tcplife", subflows_belong_to_who_connects_by);
}

fn subflows_belong_to_who_connects_by(variant: Option<&Variant>) {
    own_network();
    let scratch = Scratch::new();
    let (program, _) = compiled(&scratch, MULTIPATH);
    let (server, client) = (unique_name(), unique_name());
    let probes = json!([
        {"program": "tcplife", "name": "in", "filters": {"local_port": 5656}},
        {"program": "tcplife", "name": "out", "filters": {"remote_port": 5656}},
        {"program": "tcplife", "name": "mine", "filters": {"remote_port": 5656, "comm": client}},
        {"program": "tcplife", "name": "others", "filters": {"remote_port": 5656, "comm": server}},
        {"program": "tcpconnect", "name": "connect", "filters": {"port": 5656}},
    ]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probes)) else { return };
    let script = "ip addr add 10.56.0.1/32 dev lo && ip addr add 10.56.0.2/32 dev lo && \
                  ip mptcp limits set subflow 2 add_addr_accepted 2 && \
                  ip mptcp endpoint add 10.56.0.2 dev lo subflow || exit 77; exec \"$@\"";
    let mut load = Command::new("sh");
    load.args(["-c", script, "sh"]).arg(&program).args([&server, &client]);
    let load = run(&mut load);
    if load.code == Some(77) {
        eprintln!("SKIPPED: no Multipath TCP here: {}", load.stderr);
        return;
    }
    let load = load.expect(0);
    let pids: Vec<u64> = load.stdout.split_whitespace().map(|pid| pid.parse().expect("a pid")).collect();
    wait_until_all_are_closed(); // subflows are ended without the processes
    let records = records(&capture.stop().expect(0).stdout);
    let rows = |probe: &str, address: &str| -> Vec<(String, u64, String)> {
        let text = |record: &Json, field: &str| record[field].as_str().unwrap_or_default().to_owned();
        let row = |record: &&Json| {
            let from = text(record, address);
            (from, record["pid"].as_u64().expect("a number"), text(record, "comm"))
        };
        let mut rows: Vec<_> = of_probe(&records, probe).iter().map(row).collect();
        rows.sort();
        rows
    };
    let row = |from: &str, pid: u64, comm: &str| (from.to_owned(), pid, comm.to_owned());
    let nobody = row("10.56.0.2", 0, "");
    let of_client = [row("10.56.0.1", pids[1], &client), row("10.56.0.2", pids[1], &client)];
    assert_eq!(rows("out", "laddr"), of_client);
    assert_eq!(rows("mine", "laddr"), of_client);
    assert_eq!(rows("others", "laddr"), []);
    assert_eq!(rows("connect", "saddr"), [of_client[0].clone(), nobody.clone()]);
    let came_in = rows("in", "raddr");
    // Where no hook sees the accept and the kernel ends the subflow, it is nobody's (docs/explanation/limits.md); never a worker's
    assert!([row("10.56.0.1", pids[0], &server), row("10.56.0.1", 0, "")].contains(&came_in[0]), "{came_in:?}");
    // Of a later subflow it is known as long as the first one lives
    assert!([row("10.56.0.2", pids[0], &server), nobody].contains(&came_in[1]) && came_in.len() == 2, "{came_in:?}");
}
