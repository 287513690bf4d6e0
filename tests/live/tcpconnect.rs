//! `tcpconnect`: connections that are opened, by either version of the protocol, and every filter.

use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl};
use crate::common::{Scratch, run};
use crate::load::{compiled, named, unique_name};
use crate::net::{family, listener, loopbacks, own_network};
use crate::root;
use crate::variants::{Variant, by_each_variant};

/// Connects from a thread called `comm`; the address that it was opened from, if somebody was there.
fn connect(comm: &str, to: SocketAddr) -> Option<SocketAddr> {
    let opened = named(comm, move || TcpStream::connect(to).and_then(|stream| stream.local_addr()));
    opened.join().expect("it does not panic").ok()
}

#[test]
fn every_attempt_is_seen_with_both_ends() {
    by_each_variant("tcpconnect", every_attempt_is_seen_by);
}

fn every_attempt_is_seen_by(variant: Option<&Variant>) {
    own_network();
    let scratch = Scratch::new();
    let comm = unique_name();
    let probe = json!([{"program": "tcpconnect", "filters": {"comm": comm}}]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probe)) else { return };
    let mut expected = Vec::new();
    for address in loopbacks() {
        let (there, at) = listener(address);
        let from = connect(&comm, at).expect("somebody listens");
        expected.push((at, Some(from)));
        drop(there);
        assert_eq!(connect(&comm, at), None, "nobody listens any more");
        expected.push((at, None));
    }
    let records = records(&capture.stop().expect(0).stdout);
    let own_choice = || report(&scratch)["probes"][0]["variants"]["connect"].as_str().expect("one of them").to_owned();
    let way = variant.map_or_else(own_choice, |variant| variant.name.clone());
    assert_eq!(records.len(), expected.len());
    for (record, (to, from)) in records.iter().zip(expected) {
        assert_eq!((&record["pid"], &record["uid"]), (&json!(std::process::id()), &json!(0)));
        assert_eq!(record["comm"], comm);
        assert_eq!(record["family"], family(to.ip()));
        assert_eq!(record["daddr"], to.ip().to_string());
        assert_eq!(record["saddr"], to.ip().to_string(), "the loopback device's own");
        assert_eq!(record["dport"], to.port());
        let port = record["sport"].as_u64().expect("a number");
        match from {
            _ if way == "tracepoint" => assert_eq!(port, 0, "it is not chosen yet"),
            Some(from) => assert_eq!(port, u64::from(from.port()), "by {way}"),
            None => assert_ne!(port, 0, "by {way}"),
        }
    }
}

#[test]
fn every_filter_lets_through_what_it_names() {
    if !root() {
        return;
    }
    own_network();
    let scratch = Scratch::new();
    let (a, b) = (unique_name(), unique_name());
    let listeners: Vec<_> = loopbacks().into_iter().map(listener).collect();
    let first = listeners[0].1.port();
    let v6 = listeners.len() - 1; // connections of each thread by that version
    let both = json!([a, b]);
    let pid = std::process::id();
    // How many of `a`, and of `b`
    let cases: Vec<(Json, usize, usize)> = vec![
        (json!({}), 1 + v6, 1 + v6),
        (json!({"comm": a}), 1 + v6, 0),
        (json!({"comm": unique_name()}), 0, 0),
        (json!({"comm": both, "pid": pid}), 1 + v6, 1 + v6),
        (json!({"comm": both, "pid": {"not": pid}}), 0, 0),
        (json!({"comm": both, "port": first}), 1, 1),
        (json!({"comm": both, "port": {"not": first}}), v6, v6),
        (json!({"comm": both, "port": [1, 2]}), 0, 0),
        (json!({"comm": both, "family": "ipv4"}), 1, 1),
        (json!({"comm": both, "family": "ipv6"}), v6, v6),
        (json!({"comm": b, "family": ["ipv4", "ipv6"]}), 0, 1 + v6),
    ];
    let probe = |(i, (filters, ..)): (usize, &(Json, usize, usize))| json!({"program": "tcpconnect", "name": format!("p{i}"), "filters": filters});
    let probes: Vec<Json> = cases.iter().enumerate().map(probe).collect();
    let capture = Capture::start(&scratch, &to_jsonl(json!(probes)), &[]);
    for (_, at) in &listeners {
        for comm in [&a, &b] {
            connect(comm, *at).expect("somebody listens");
        }
    }
    let records = records(&capture.stop().expect(0).stdout);
    for (i, (filters, of_a, of_b)) in cases.iter().enumerate() {
        let mine = of_probe(&records, &format!("p{i}"));
        let count = |comm: &str| mine.iter().filter(|record| record["comm"] == comm).count();
        assert_eq!((count(&a), count(&b)), (*of_a, *of_b), "{filters}");
    }
}

/// COMMAND CLOSED-PORT OPEN-PORT: attempts that fail before a SYN can be sent, others that do not, and calls that are none. In
/// a network namespace of its own, no route leads out.
const ATTEMPTS: &str = r#"
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>
static int try(int s, const char *to, int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = inet_addr(to)};
	return connect(s, (void *)&a, sizeof(a)) ? errno : 0;
}
static int bound(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int s = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	return bind(s, (void *)&a, sizeof(a)) ? -1 : s;
}
int main(int count, char **args)
{
	int shut = atoi(args[2]), open = atoi(args[3]), s, other;
	struct sockaddr_un local = {.sun_family = AF_UNIX, .sun_path = "/no/such/socket"};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(9)};
	struct pollfd ready;
	listen(bound(open), 5);
	prctl(PR_SET_NAME, args[1]);
	/* 1: refused, with a SYN */
	if (try(socket(AF_INET, SOCK_STREAM, 0), "127.0.0.1", shut) != ECONNREFUSED) return 1;
	/* 2: refused too, and told by a second call */
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (try(s, "127.0.0.1", shut) != EINPROGRESS) return 2;
	ready = (struct pollfd){s, POLLOUT};
	poll(&ready, 1, 1000);
	if (try(s, "127.0.0.1", shut) != ECONNREFUSED) return 2;
	/* 3: the same socket again, to where no route leads */
	if (try(s, "192.0.2.1", 9) != ENETUNREACH) return 3;
	/* 4: works; then a call that is no attempt */
	other = bound(0);
	struct sockaddr_in at;
	socklen_t size = sizeof(at);
	getsockname(other, (void *)&at, &size);
	if (try(other, "127.0.0.1", open)) return 4;
	if (try(other, "127.0.0.1", open) != EISCONN) return 4;
	/* 5: from the port that is in use for just this */
	s = bound(ntohs(at.sin_port));
	if (s < 0 || try(s, "127.0.0.1", open) != EADDRNOTAVAIL) return 5;
	/* 6, 7: no route; of version 6 the address is mapped, or it has no route */
	if (try(socket(AF_INET, SOCK_STREAM, 0), "198.51.100.7", 10) != ENETUNREACH) return 6;
	s = socket(AF_INET6, SOCK_STREAM, 0);
	inet_pton(AF_INET6, "2001:db8::7", &six.sin6_addr);
	six.sin6_port = htons(11);
	if (s >= 0 && (!connect(s, (void *)&six, sizeof(six)) || errno != ENETUNREACH)) return 7;
	/* None of TCP, and none at all */
	if (!try(socket(AF_INET, SOCK_DGRAM, 0), "192.0.2.1", 12)) return 8;
	if (!connect(socket(AF_UNIX, SOCK_STREAM, 0), (void *)&local, sizeof(local))) return 8;
	if (try(1000, "192.0.2.1", 13) != EBADF) return 8;
	printf("%d\n", s >= 0);
	return 0;
}
"#;

#[test]
fn attempts_that_fail_before_a_syn_have_their_error() {
    by_each_variant("tcpconnect", failed_attempts_are_seen_by);
}

fn failed_attempts_are_seen_by(variant: Option<&Variant>) {
    own_network();
    let scratch = Scratch::new();
    let (program, _) = compiled(&scratch, ATTEMPTS);
    let comm = unique_name();
    let probe = |name: &str, more: Json| {
        let mut filters = json!({"comm": comm});
        filters.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        json!({"program": "tcpconnect", "name": name, "filters": filters})
    };
    let probes = json!([
        probe("all", json!({})),
        probe("failed", json!({"failed": true})),
        probe("rest", json!({"failed": false})),
        probe("port", json!({"failed": true, "port": 10})),
        probe("six", json!({"family": "ipv6"})),
    ]);
    let Some(capture) = Capture::start_by(variant, &scratch, &to_jsonl(probes)) else { return };
    let ended = run(Command::new(&program).args([&comm, "1", "2"])).expect(0);
    let six = ended.stdout.trim() == "1";
    let records = records(&capture.stop().expect(0).stdout);
    let own_choice = || report(&scratch)["probes"][0]["variants"]["connect"].as_str().expect("one of them").to_owned();
    let way = variant.map_or_else(own_choice, |variant| variant.name.clone());
    let rows = |probe: &str| -> Vec<(String, i64)> {
        let row = |record: &&Json| {
            let to = format!("{} {}", record["daddr"].as_str().expect("text"), record["dport"]);
            (to, record["error"].as_i64().expect("a number"))
        };
        of_probe(&records, probe).iter().map(row).collect()
    };
    let in_use = if way == "tracepoint" { 0 } else { -99 }; // EADDRNOTAVAIL
    let mut all = vec![
        ("127.0.0.1 1", 0),
        ("127.0.0.1 1", 0),
        ("192.0.2.1 9", -101), // ENETUNREACH
        ("127.0.0.1 2", 0),
        ("127.0.0.1 2", in_use),
        ("198.51.100.7 10", -101),
    ];
    if six {
        all.push(("2001:db8::7 11", -101));
    }
    let all: Vec<_> = all.into_iter().map(|(to, error)| (to.to_owned(), error)).collect();
    let of = |failed: bool| -> Vec<_> { all.iter().filter(|(_, error)| (*error != 0) == failed).cloned().collect() };
    assert_eq!(rows("all"), all, "by {way}");
    assert_eq!(rows("failed"), of(true), "by {way}");
    assert_eq!(rows("rest"), of(false), "by {way}");
    assert_eq!(rows("port"), [("198.51.100.7 10".to_owned(), -101)]);
    assert_eq!(rows("six").len(), usize::from(six));
}
