//! `tcpconnect`: connections that are opened, by either version of the protocol, and every filter.

use std::net::{SocketAddr, TcpStream};

use serde_json::{Value as Json, json};

use crate::capture::{Capture, of_probe, records, report, to_jsonl};
use crate::common::Scratch;
use crate::load::{named, unique_name};
use crate::net::{family, listener, loopbacks};
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
