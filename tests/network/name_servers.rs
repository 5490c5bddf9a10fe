//! Whom the machine asks for names.

use coracle_tests::{Profile, until};
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::time::Duration;

/// Longer than an answer takes that was not asked for a moment ago.
const LIMIT: Duration = Duration::from_secs(120);
const NAME: &str = "somewhere.example.org";

/// The host has one name server, then another, in a mount namespace that only the cluster is in.
pub(super) fn are_those_of_the_host(cluster: Profile<'_>) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can give a program name servers of its own");
        return;
    }
    let first = serve(Ipv4Addr::new(127, 77, 0, 1), Ipv4Addr::new(192, 0, 2, 1));
    let second = serve(Ipv4Addr::new(127, 77, 0, 2), Ipv4Addr::new(192, 0, 2, 2));
    let file = cluster.coracle.work().join("resolv.conf");
    #[expect(
        clippy::disallowed_methods,
        reason = "written over, not replaced: what is mounted is the file"
    )]
    let names = |server: Ipv4Addr| fs::write(&file, format!("nameserver {server}\n")).unwrap();
    names(first);
    let start = format!(
        "mount --bind {} /etc/resolv.conf && exec \"$0\" start -p {}",
        file.display(),
        cluster.name
    );
    cluster
        .coracle
        .program("unshare")
        .args(["--mount", "sh", "-c", &start])
        .args([coracle_tests::binary()])
        .ok();
    let found = || {
        let asked = cluster.ssh(&format!("getent ahostsv4 {NAME}")).done();
        asked
            .stdout
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    until("the first name server is asked", LIMIT, || {
        found() == "192.0.2.1"
    });
    names(second);
    until("the second name server is asked", LIMIT, || {
        found() == "192.0.2.2"
    });
    cluster.coracle.delete(cluster.name);
}

/// A name server that has the same answer for every name, as long as the test runs.
fn serve(at: Ipv4Addr, answer: Ipv4Addr) -> Ipv4Addr {
    /// Bytes of a message before its question (RFC 1035, 4.1.1).
    const HEADER: usize = 12;
    let socket = UdpSocket::bind((at, 53)).unwrap();
    std::thread::spawn(move || {
        let mut message = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut message) {
            // The question's name ends with an empty label; type and class follow.
            let name = message[HEADER..length].iter().position(|byte| *byte == 0);
            let Some(end) = name.map(|end| HEADER + end + 5) else {
                continue;
            };
            let mut reply = message[..end].to_vec();
            let asks_for_v4 = reply[end - 4..end - 2] == [0, 1];
            reply[2..4].copy_from_slice(&[0x81, 0x80]);
            reply[4..12].copy_from_slice(&[0, 1, 0, u8::from(asks_for_v4), 0, 0, 0, 0]);
            if asks_for_v4 {
                reply.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                reply.extend(answer.octets());
            }
            let _ = socket.send_to(&reply, from);
        }
    });
    at
}
