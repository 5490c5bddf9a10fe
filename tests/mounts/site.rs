//! A cluster with folders of the host, and a server in a pod that has its pages from one of them.

use coracle_tests::{Coracle, Profile, Run, make_portable, until, write};
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Beyond what anything here needs under software emulation; it only catches what hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(300);
/// A change is to be seen within a second; this catches one that is never seen.
const SEEN_LIMIT: Duration = Duration::from_secs(30);
const SERVER: &str = env!("CARGO_BIN_EXE_live-reload");

/// A cluster whose pod serves `pages`.
pub(crate) struct Site<'a> {
    cluster: Profile<'a>,
    /// A folder of the host; the machine has it at /mnt/site.
    pub(crate) pages: PathBuf,
    address: IpAddr,
}

impl<'a> Deref for Site<'a> {
    type Target = Profile<'a>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

impl<'a> Site<'a> {
    pub(crate) fn open(coracle: &'a Coracle, name: &'a str, pages: &str) -> Self {
        let pages = coracle.work().join(pages);
        let tools = coracle.work().join("tools");
        if !pages.exists() {
            write(pages.join("page"), "first\n");
        }
        if !tools.exists() {
            make_portable(Path::new(SERVER), &tools);
        }
        let cluster = Profile { coracle, name };
        coracle
            .coracle(["start", "-p", name, "--mount"])
            .args([format!("{}:/mnt/site", pages.display())])
            .args([format!("--mount={}:/opt/tools:ro", tools.display())])
            .ok();
        let address = cluster.command("ip").ok();
        let address = address.text().parse().expect("an address and nothing else");
        let site = Self {
            cluster,
            pages,
            address,
        };
        site.apply(include_str!("site.yaml"));
        site.kubectl("wait --for=condition=Ready pod/site --timeout=300s");
        site
    }

    /// Writes a page on the host, and waits until the server has it without being asked to.
    pub(crate) fn shows_a_change(&self, text: &str) {
        write(self.pages.join("page"), text);
        let written = Instant::now();
        until("the server shows the change", SEEN_LIMIT, || {
            self.get("page").as_deref() == Some(text)
        });
        eprintln!("shown after {:?}", written.elapsed());
    }

    /// What the server answers; none when it does not.
    pub(crate) fn get(&self, page: &str) -> Option<String> {
        let server = SocketAddr::new(self.address, 30088);
        let mut stream = TcpStream::connect_timeout(&server, Duration::from_secs(5)).ok()?;
        stream.set_read_timeout(Some(LIMIT)).ok()?;
        stream
            .write_all(format!("GET /{page} HTTP/1.0\r\n\r\n").as_bytes())
            .ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        head.contains("200 OK").then(|| body.to_owned())
    }

    /// What inotify has told the server.
    pub(crate) fn seen(&self) -> String {
        self.get(".seen").unwrap_or_default()
    }

    /// Runs a shell command in the pod, as its ordinary user.
    pub(crate) fn in_pod(&self, command: &str) -> Run {
        self.coracle
            .coracle(["kubectl", "-p", self.name, "--", "exec", "site", "--"])
            .args(["sh", "-c", command])
    }
}
