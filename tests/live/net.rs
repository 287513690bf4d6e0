//! TCP connections of the tests' own, over a loopback device of their own.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Moves this thread, and what it starts from now on, into a new network namespace with a loopback device: no other test or
/// process uses its ports.
pub fn own_network() {
    // Ends with the pipe that it reads: once this thread is in its namespace
    let mut holder = Command::new("unshare")
        .args(["--net", "sh", "-c", "ip link set lo up && echo up && read _"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("`unshare` starts");
    let mut line = String::new();
    let stdout = holder.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("it can be read");
    assert_eq!(line, "up\n", "no network namespace, or no `ip`");
    let namespace = File::open(format!("/proc/{}/ns/net", holder.id())).expect("it has one");
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
    drop(holder.stdin.take());
    holder.wait().expect("it ends");
}

/// Waits until every connection of this thread's network namespace is closed: the last packets are exchanged without the threads
/// that closed it.
pub fn wait_until_all_are_closed() {
    const LISTEN: &str = "0A";
    const TIME_WAIT: &str = "06"; // closed, as far as the socket goes
    let open = || -> Vec<String> {
        let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
        let lines: Vec<String> = tables
            .into_iter()
            .flatten()
            .flat_map(|table| table.lines().skip(1).map(String::from).collect::<Vec<_>>())
            .collect();
        let state = |line: &str| line.split_whitespace().nth(3).unwrap_or_default().to_owned();
        lines.into_iter().filter(|line| ![LISTEN, TIME_WAIT].contains(&state(line).as_str())).collect()
    };
    let until = Instant::now() + Duration::from_secs(30);
    while !open().is_empty() {
        assert!(Instant::now() < until, "still open: {:#?}", open());
        thread::sleep(Duration::from_millis(1));
    }
}

/// The loopback addresses that can be had here: a machine may be without IPv6.
pub fn loopbacks() -> Vec<IpAddr> {
    let both = [IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv6Addr::LOCALHOST)];
    let there: Vec<IpAddr> = both.into_iter().filter(|address| TcpListener::bind((*address, 0)).is_ok()).collect();
    assert!(there.contains(&both[0]), "the loopback device is down");
    if there.len() == 1 {
        eprintln!("SKIPPED the half with IPv6: it can't be had here");
    }
    there
}

/// A listener in [`own_network`], and where it is: on a port that no other test listens on and that no client gets, so that a
/// filter by port finds this one alone.
pub fn listener(address: IpAddr) -> (TcpListener, SocketAddr) {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = std::process::id().wrapping_mul(100).wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
    let port = 1024 + u16::try_from(number % 31_000).expect("it is below 31000"); // clients get ports from 32768 on
    let listener = TcpListener::bind((address, port)).expect("nothing else is in this namespace");
    let at = listener.local_addr().expect("it has an address");
    (listener, at)
}

pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}
