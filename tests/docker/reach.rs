//! The ways to the engine and to what it runs: certificates, ssh, contexts, ports.

use crate::client::Docker;
use coracle_tests::{Profile, Run, until, write};
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

pub(super) fn starts_when_it_is_asked(docker: &Docker<'_>) {
    let running = docker.cluster.ssh("pgrep -x dockerd").done();
    assert_eq!(running.code(), Some(1), "nobody has asked yet: {running}");
    let version = docker.ok("version --format {{.Server.Os}}/{{.Server.Arch}}");
    let arch = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    assert_eq!(version.text(), format!("linux/{arch}"));
    let minor = |version: &str| version.strip_prefix("1.")?.parse::<u32>().ok();
    let newest = docker.text("version --format {{.Server.APIVersion}}");
    let newest = minor(&newest).unwrap();
    let known = docker.text("version --format {{.Client.DefaultAPIVersion}}");
    let known = minor(&known).unwrap();
    assert!(newest >= 51, "{newest}");
    for api in 44..=newest.min(known) {
        let api = format!("1.{api}");
        let answered = docker.command("version --format {{.Client.APIVersion}}");
        assert_eq!(answered.env("DOCKER_API_VERSION", &api).ok().text(), api);
    }
}

/// Each shell that is here takes up what `docker-env` prints for it, and lets go of it again.
pub(super) fn shells_are_led_there(docker: &Docker<'_>) {
    let coracle = coracle_tests::binary();
    let mut led = 0;
    for shell in ["sh", "bash", "zsh", "fish", "tcsh"] {
        let Some(program) = coracle_tests::installed(shell) else {
            continue;
        };
        let take = |more: &str| {
            let print = format!(
                "{} docker-env -p {} --shell {shell}{more}",
                coracle.display(),
                docker.cluster.name
            );
            match shell {
                "fish" => format!("{print} | source"),
                "tcsh" => format!("eval `{print}`"),
                _ => format!("eval \"$({print})\""),
            }
        };
        let script = format!(
            "{}\ndocker version --format {{{{.Server.Os}}}}\n{}\nenv | grep -c DOCKER_\n",
            take(""),
            take(" --unset")
        );
        let told = docker.cluster.coracle.program(program).stdin(script);
        assert_eq!(told.done().stdout, "linux\n0\n", "{shell}");
        led += 1;
    }
    assert!(led >= 2, "sh and bash are everywhere");
}

/// A port of this host's loopback address that nobody has.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// What this host is answered at an address, if it is.
pub(super) fn page(docker: &Docker<'_>, address: &str) -> Option<String> {
    let curl = docker.cluster.coracle.program("curl");
    let done = curl.args(["-sS", "--max-time", "30", address]).done();
    (done.code() == Some(0)).then(|| done.stdout.clone())
}

pub(super) fn ports_are_on_this_host(docker: &Docker<'_>) {
    let (open, local) = (free_port(), free_port());
    docker.ok(&format!(
        "run -d -p {open}:8080 -p 127.0.0.1:{local}:8080 --name web app:1"
    ));
    let ip = docker.cluster.command("ip").ok();
    for (address, port) in [
        ("localhost", open),
        ("127.0.0.1", local),
        (ip.text(), open),
        (ip.text(), local),
    ] {
        let url = format!("http://{address}:{port}/");
        until(&format!("{url} answers"), SOON, || {
            page(docker, &url).as_deref() == Some("second")
        });
    }
    // They are held while the cluster sleeps, and whoever connects wakes it.
    docker.cluster.command("stop --sleep").ok();
    let url = format!("http://127.0.0.1:{open}/");
    assert_eq!(page(docker, &url).as_deref(), Some("second"));
    docker.ok("rm -f web");
    until("the port is free again", SOON, || {
        TcpListener::bind(("127.0.0.1", open)).is_ok()
    });
}

pub(super) fn others_are_refused(docker: &Docker<'_>, other: &Docker<'_>) {
    let host = docker.variable("DOCKER_HOST");
    // Whoever trusts the server is asked who they are: nobody, and somebody of another cluster.
    let own = docker.variable("DOCKER_CERT_PATH");
    let url = format!("{}/version", host.replace("tcp://", "https://"));
    let ask = |credentials: &[&str]| {
        let curl = docker.cluster.coracle.program("curl");
        let authority = format!("{own}/ca.pem");
        let curl = curl.args(["-sS", "--max-time", "60", "--cacert", &authority]);
        curl.args(credentials).args([&url]).done()
    };
    let credentials = |folder: &str| {
        let path = |file: &str| format!("{folder}/{file}");
        [
            "--cert".into(),
            path("cert.pem"),
            "--key".into(),
            path("key.pem"),
        ]
    };
    let with = |folder: &str| ask(&credentials(folder).each_ref().map(String::as_str));
    assert!(with(own).ok().stdout.contains("ApiVersion"));
    for refused in [ask(&[]), with(other.variable("DOCKER_CERT_PATH"))] {
        assert_ne!(refused.code(), Some(0), "{refused}");
        assert!(refused.stderr.contains("alert"), "{refused}");
    }
    let plain = docker.command("version").without_env("DOCKER_TLS_VERIFY");
    let plain = plain.without_env("DOCKER_CERT_PATH").done();
    assert_ne!(plain.code(), Some(0), "{plain}");
    // What one has the other has not.
    assert_eq!(other.text("ps -q"), "");
    assert_eq!(other.text("images -q app"), "");
    // No other address of this host leads there, least of all one that others see.
    let port: u16 = host.rsplit(':').next().unwrap().parse().unwrap();
    let listed = Run::new("ip").args(["-4", "-o", "address"]).ok();
    let outer = listed.stdout.lines().filter_map(|line| {
        let (address, _) = line.split_whitespace().nth(3)?.split_once('/')?;
        Some(address.to_owned()).filter(|address| !address.starts_with("127."))
    });
    for address in outer.chain(["127.77.0.1".to_owned()]) {
        let elsewhere = TcpStream::connect((address.as_str(), port));
        let kind = elsewhere.unwrap_err().kind();
        assert_eq!(kind, ErrorKind::ConnectionRefused, "{address}");
    }
}

/// By an `ssh` command that knows the machine, as a user's `~/.ssh/config` would have it.
pub(super) fn by_ssh(docker: &Docker<'_>) {
    let cluster = docker.cluster;
    let work = cluster.coracle.work();
    let known = work.join("known_hosts");
    write(&known, cluster.command("ssh-host").ok().stdout);
    let key = cluster.command("ssh-key").ok();
    let bin = work.join("bin");
    std::fs::create_dir(&bin).unwrap();
    let real = coracle_tests::installed("ssh").unwrap();
    write(
        bin.join("ssh"),
        format!(
            "#!/bin/sh\nexec {} -F none -o IdentitiesOnly=yes -i {} -o UserKnownHostsFile={} \"$@\"\n",
            real.display(),
            key.text(),
            known.display()
        ),
    );
    std::fs::set_permissions(bin.join("ssh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let ip = cluster.command("ip").ok();
    let path = std::env::var("PATH").unwrap();
    let listed = docker
        .command("images --format {{.Repository}}")
        .without_env("DOCKER_TLS_VERIFY")
        .without_env("DOCKER_CERT_PATH")
        .env("DOCKER_HOST", format!("ssh://coracle@{}:2222", ip.text()))
        .env("PATH", format!("{}:{path}", bin.display()))
        .ok();
    assert!(listed.stdout.contains("app"), "{listed}");
    // What guards pods' images is on this way too.
    let refused = cluster.ssh("docker rmi app:1").done();
    assert!(refused.stderr.contains("the pod app"), "{refused}");
}

pub(super) fn a_context_lives_with_its_cluster(docker: &Docker<'_>) {
    let cluster = docker.cluster;
    let name = cluster.name;
    let current = || plain(cluster, "context show");
    assert_eq!(current(), "default");
    cluster.command("docker-context create").ok();
    assert_eq!(current(), "default");
    cluster
        .command("docker-context")
        .ok()
        .says("docker now acts on one");
    assert_eq!(current(), name);
    assert!(plain(cluster, "images").contains("app"));
    cluster.command("stop").ok();
    assert_eq!(current(), "default");
    assert!(!plain(cluster, "context ls -q").contains(name));
    cluster
        .command("docker-env")
        .done()
        .fails(33, "CORACLE_MACHINE_NOT_RUNNING");
    cluster.command("start").ok();
    assert_eq!(current(), name);
    assert!(plain(cluster, "images").contains("app"));
    cluster.command("docker-context rm").ok();
    assert_eq!(current(), "default");
    assert!(!plain(cluster, "context ls -q").contains(name));
    // It goes with its cluster too.
    cluster.command("docker-context").ok();
    assert_eq!(current(), name);
    cluster.command("delete").ok();
    assert_eq!(current(), "default");
    assert!(!plain(cluster, "context ls -q").contains(name));
}

/// What the docker command prints with nothing but its own settings.
fn plain(cluster: Profile<'_>, arguments: &str) -> String {
    let docker = cluster
        .coracle
        .program("docker")
        .limit(Duration::from_secs(300));
    docker
        .args(arguments.split_whitespace())
        .ok()
        .text()
        .to_owned()
}
