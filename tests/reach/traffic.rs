//! What goes through the ports: datagrams, halves of connections, crowds, and what outlives a kill.

use super::shop::{LIMIT, Shop, get};
use coracle_tests::{kill_pid, until};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// A host agent that was killed is to be back within two seconds; this catches one that hangs.
const BACK_LIMIT: Duration = Duration::from_secs(20);

/// Asks the cluster's DNS for a Service, from the host.
pub(crate) fn names_are_resolved(shop: &Shop<'_>) {
    a_name_is_resolved(SocketAddr::new(shop.address, 30053));
}

/// Asks a DNS server of the cluster.
pub(crate) fn a_name_is_resolved(server: SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    let mut query = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
    for label in ["kubernetes", "default", "svc", "cluster", "local"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(b"\x00\x00\x01\x00\x01");
    until("the DNS server answers", LIMIT, || {
        let mut answer = [0; 512];
        let _ = socket.send_to(&query, server);
        match socket.recv_from(&mut answer) {
            Ok((length, _)) => {
                let answer = &answer[..length];
                answer.starts_with(&query[..2]) && answer.ends_with(&[10, 96, 0, 1])
            }
            Err(_) => false,
        }
    });
}

/// A client that has said all still hears the answer.
pub(crate) fn half_closed_streams_go_on(shop: &Shop<'_>) {
    let mut stream = TcpStream::connect(shop.web()).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /hello HTTP/1.0\r\n\r\n").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("hello from"), "{answer}");
}

/// All are open at the same time before the first one asks. The DNS server's own web server has a queue
/// for a crowd, which busybox has not.
pub(crate) fn a_crowd_is_served(shop: &Shop<'_>, crowd: usize) {
    let server = SocketAddr::new(shop.address, 30181);
    let begun = Instant::now();
    let mut streams: Vec<TcpStream> = (0..crowd)
        .map(|_| TcpStream::connect(server).unwrap())
        .collect();
    for stream in &mut streams {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"GET /ready HTTP/1.0\r\n\r\n").unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .unwrap_or_else(|error| panic!("number {number}: {error}"));
        assert!(answer.ends_with("OK"), "number {number}: {answer}");
    }
    eprintln!("{crowd} were answered after {:?}", begun.elapsed());
}

/// Killed while requests come: its ports are open again, with the same Services behind them.
pub(crate) fn outlives_its_host_agent(shop: &Shop<'_>) {
    let boot = shop.boot_id();
    for round in 0..3 {
        let agent = shop.host_agent().expect("it has a host agent");
        assert!(get(shop.web()).is_some());
        kill_pid(agent);
        let killed = Instant::now();
        until("the ports are open again", BACK_LIMIT, || {
            get(shop.web()).is_some()
        });
        eprintln!("round {round}: served again after {:?}", killed.elapsed());
        // The API too, with nobody's help.
        shop.kubectl("get --raw /readyz");
    }
    assert_eq!(shop.boot_id(), boot, "it booted");
}
