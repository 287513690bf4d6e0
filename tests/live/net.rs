//! TCP connections of the tests' own, over the loopback device.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

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

/// A listener on any port, and where it is.
pub fn listener(address: IpAddr) -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address, 0)).expect("a port is free");
    let at = listener.local_addr().expect("it has an address");
    (listener, at)
}

pub fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "ipv4" } else { "ipv6" }
}
