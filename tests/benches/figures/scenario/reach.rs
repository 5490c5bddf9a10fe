//! What goes through a NodePort, beside the same through the forward of QEMU's that is behind it.

use super::Extent;
use crate::measure::start::start;
use crate::record::{Record, median};
use coracle_tests::{Coracle, Profile, until, until_some};
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const NAME: &str = "reached";
/// A web server with a file of [`SIZE`]; and the DNS server's own, whose queue has room for a crowd.
const MANIFESTS: &str = include_str!("reach.yaml");
const WEB: u16 = 30080;
const READY: u16 = 30181;
/// Bytes of the file.
const SIZE: usize = 32 << 20;
const TRANSFERS: usize = 7;
/// Small requests each way.
const REQUESTS: usize = 200;
/// Connections at once.
const CROWD: usize = 1000;
/// Beyond what anything here takes.
const LIMIT: Duration = Duration::from_secs(300);
/// How long something that is no web server may keep silent.
const PROBE: Duration = Duration::from_secs(2);

pub(crate) fn measure(coracle: &Coracle, record: &mut Record, extent: Extent) {
    start(coracle, NAME, "");
    let cluster = Profile {
        coracle,
        name: NAME,
    };
    let address = cluster.command("ip").ok();
    let address: IpAddr = address.text().parse().expect("an address");
    cluster.apply(MANIFESTS);
    cluster.kubectl("rollout status deployment/web --timeout=300s");
    let (web, ready) = (
        SocketAddr::new(address, WEB),
        SocketAddr::new(address, READY),
    );
    for (server, path) in [(web, "/small"), (ready, "/ready")] {
        until("it answers", LIMIT, || is_served(server, path));
    }
    let forwards = forwards(coracle.hypervisor(NAME).pid);
    let behind = |path| {
        let found = || forwards.iter().copied().find(|one| is_served(*one, path));
        until_some("QEMU's own forward", LIMIT, found)
    };
    let (bare_web, bare_ready) = (behind("/small"), behind("/ready"));

    for _ in 0..extent.repeats(TRANSFERS) {
        record.sample("transfer.bare", transfer(bare_web));
        record.sample("transfer", transfer(web));
    }
    record.derive(
        "transfer.ratio",
        ["transfer.bare", "transfer"],
        |bare, ours| bare / ours,
    );

    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    for _ in 0..REQUESTS {
        bare.push(first_byte(bare_ready));
        ours.push(first_byte(ready));
    }
    let middle = |times: &[f64]| median(times).expect("there are some");
    let one = middle(&ours);
    record.sample("first-byte", one * 1000.0);
    record.sample("first-byte.over", (one - middle(&bare)) * 1000.0);

    let begun = Instant::now();
    for _ in 0..CROWD {
        first_byte(ready);
    }
    let sequence = begun.elapsed().as_secs_f64();
    let (mut answers, failed) = burst(ready);
    record.sample("burst.failed", failed as f64);
    answers.sort_by(f64::total_cmp);
    if let Some(p99) = answers.get(answers.len() * 99 / 100) {
        record.sample("burst.p99", *p99);
        record.sample("burst.to-one", p99 / one);
        record.sample("burst.to-sequence", p99 / sequence);
    }
}

/// MB a second of the large file.
fn transfer(server: SocketAddr) -> f64 {
    let begun = Instant::now();
    let mut stream = ask(server, "/large", LIMIT).expect("it is served");
    let mut answer = Vec::with_capacity(SIZE + 4096);
    stream.read_to_end(&mut answer).expect("it is served");
    assert!(answer.len() > SIZE, "all of it came: {}", answer.len());
    answer.len() as f64 / 1e6 / begun.elapsed().as_secs_f64()
}

/// Seconds from a new connection to the first byte of its answer.
fn first_byte(server: SocketAddr) -> f64 {
    let begun = Instant::now();
    let mut stream = ask(server, "/ready", LIMIT).expect("it is served");
    stream.read_exact(&mut [0]).expect("it is served");
    begun.elapsed().as_secs_f64()
}

/// Seconds from each one's connect to its first byte, all connected at once; and how many had no answer.
fn burst(server: SocketAddr) -> (Vec<f64>, usize) {
    let clients: Vec<_> = (0..CROWD)
        .map(|_| {
            std::thread::spawn(move || {
                let begun = Instant::now();
                let mut stream = ask(server, "/ready", LIMIT)?;
                stream.read_exact(&mut [0])?;
                io::Result::Ok(begun.elapsed().as_secs_f64())
            })
        })
        .collect();
    let answers: Vec<f64> = clients
        .into_iter()
        .filter_map(|client| client.join().expect("it does not panic").ok())
        .collect();
    let failed = CROWD - answers.len();
    (answers, failed)
}

/// Sends a request; whoever answers may be silent for so long.
fn ask(server: SocketAddr, path: &str, limit: Duration) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&server, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
    Ok(stream)
}

/// Whether a web server is there that has this path.
fn is_served(server: SocketAddr, path: &str) -> bool {
    let answer = || -> io::Result<String> {
        let mut answer = String::new();
        ask(server, path, PROBE)?.read_to_string(&mut answer)?;
        Ok(answer)
    };
    answer().is_ok_and(|answer| {
        let status = answer.lines().next().unwrap_or_default();
        status.starts_with("HTTP/1.") && status.contains(" 200 ")
    })
}

/// Where a process listens for TCP (proc(5), net/tcp and fd).
fn forwards(pid: u32) -> Vec<SocketAddr> {
    /// `TCP_LISTEN` of the kernel's net/tcp_states.h.
    const LISTENS: &str = "0A";
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs");
    let sockets: Vec<String> = descriptors
        .flatten()
        .filter_map(|one| std::fs::read_link(one.path()).ok())
        .filter_map(|link| {
            let link = link.to_str()?.strip_prefix("socket:[")?;
            Some(link.trim_end_matches(']').to_owned())
        })
        .collect();
    let table = std::fs::read_to_string(format!("/proc/{pid}/net/tcp")).expect("it runs");
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = *fields.get(3)? == LISTENS && sockets.iter().any(|one| one == fields[9]);
            let (ip, port) = fields.get(1)?.split_once(':')?;
            let ip = u32::from_str_radix(ip, 16).ok()?.to_ne_bytes();
            let port = u16::from_str_radix(port, 16).ok()?;
            listens.then_some(SocketAddr::from((ip, port)))
        })
        .collect()
}
