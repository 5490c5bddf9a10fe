//! The proxy of the environment.

use crate::servers::Server;
use crate::was_given;
use base64::Engine as _;
use coracle_tests::{Done, Profile};

/// A registry that no name server knows: only a proxy is ever asked for it.
const REGISTRY: &str = "registry.invalid";
/// What must be passed on and never be printed.
const PASSWORD: &str = "hidden-from-all";

fn url(proxy: &Server) -> String {
    format!("http://me:{PASSWORD}@localhost:{}", proxy.port)
}

/// A start with the proxy in the environment, under a name in each case.
pub(super) fn start(cluster: Profile<'_>, flags: &str, proxy: &Server) -> Done {
    let start = cluster
        .command(&format!("start {flags}"))
        .env("HTTP_PROXY", url(proxy))
        .env("https_proxy", url(proxy))
        .env("NO_PROXY", "intern.example")
        .done()
        .ok();
    let line = format!(
        "the machine uses the proxy http://10.0.2.2:{} (this host)",
        proxy.port
    );
    let said = start.stderr.matches(&line).count();
    assert_eq!(said, 1, "{start}");
    let whole = format!("{}{}", start.stdout, start.stderr);
    assert!(!whole.contains(PASSWORD), "{start}");
    start
}

/// A pull, which fails; gives what it said.
fn pull(cluster: Profile<'_>) -> Done {
    let pull = cluster
        .ssh(&format!("sudo crictl pull {REGISTRY}/some/image:1"))
        .done();
    assert!(pull.code().is_some_and(|code| code != 0), "{pull}");
    pull
}

/// containerd asked the proxy, with its password.
#[track_caller]
fn asks_the_proxy(cluster: Profile<'_>, proxy: &Server) {
    asks(proxy, || pull(cluster));
}

/// A pull asks the proxy, with its password.
#[track_caller]
fn asks(proxy: &Server, pull: impl FnOnce() -> Done) {
    let before = proxy.requests().len();
    let pull = pull();
    let requests = proxy.requests().split_off(before);
    let wanted = format!("CONNECT {REGISTRY}:443 ");
    let asked = requests.iter().find(|head| head.starts_with(&wanted));
    let asked = asked.unwrap_or_else(|| panic!("{requests:?} after {pull}"));
    let credentials = format!("me:{PASSWORD}");
    let credentials = base64::engine::general_purpose::STANDARD.encode(credentials);
    assert!(asked.contains(&format!("Basic {credentials}")), "{asked}");
}

pub(super) fn comes_and_goes(cluster: Profile<'_>) {
    let (first, second) = (Server::proxy(), Server::proxy());
    let boot = cluster.boot_id();
    cluster.command("stop").ok();
    start(cluster, "", &first);
    asks_the_proxy(cluster, &first);
    let environment = "sudo cat /proc/$(pgrep -xo containerd)/environ | tr '\\0' '\\n'";
    let variables = cluster.inside(environment);
    for wanted in [
        "10.0.2.0/24",
        "10.96.0.0/12",
        "10.244.0.0/16",
        ".svc",
        "intern.example",
    ] {
        for name in ["NO_PROXY=", "no_proxy="] {
            let mut lines = variables.lines();
            let line = lines.find(|line| line.starts_with(name)).unwrap();
            let mut values = line[name.len()..].split(',');
            assert!(values.any(|one| one == wanted), "{wanted} in {line}");
        }
    }

    // The same again: nobody is restarted for it.
    let containerd = cluster.inside("pgrep -xo containerd");
    cluster.command("stop").ok();
    start(cluster, "", &first);
    assert_eq!(cluster.inside("pgrep -xo containerd"), containerd);
    cluster.command("stop").ok();
    start(cluster, "", &second);
    let before = first.requests().len();
    asks_the_proxy(cluster, &second);
    assert_eq!(first.requests().len(), before, "the first one is not asked");

    cluster.command("stop").ok();
    cluster.command("start").ok();
    let before = second.requests().len();
    pull(cluster);
    assert_eq!(second.requests().len(), before, "no proxy is asked");
    assert!(!cluster.inside(environment).contains("_PROXY"));
    assert_eq!(cluster.boot_id(), boot, "it never booted");
    for component in ["agent", "containerd"] {
        let log = cluster
            .command(&format!("logs --component {component}"))
            .ok();
        assert!(!log.stdout.contains(PASSWORD), "{component}'s log has it");
    }
    // Pods went on meanwhile.
    cluster.kubectl("wait node --all --for=condition=Ready --timeout=300s");
}

pub(super) fn is_followed(cluster: Profile<'_>) {
    let (first, second) = (Server::proxy(), Server::proxy());
    let boot = cluster.boot_id();
    start(cluster, "", &first);
    asks_the_proxy(cluster, &first);
    start(cluster, "", &second);
    asks_the_proxy(cluster, &second);

    // Its host agent has not seen the second one's variables.
    cluster.command("stop --sleep").ok();
    cluster.kubectl("get nodes");
    asks_the_proxy(cluster, &second);
    let kept = cluster.command("start --unattended").ok();
    assert!(kept.stderr.contains("nothing was changed"), "{kept}");

    let without = cluster.command("start").ok();
    let said = "the machine uses no proxy any more";
    assert!(without.stderr.contains(said), "{without}");
    let before = second.requests().len();
    pull(cluster);
    assert_eq!(second.requests().len(), before, "no proxy is asked");
    assert_eq!(cluster.boot_id(), boot, "it never booted");
}

pub(super) fn is_used_by_a_clone(cluster: Profile<'_>) {
    let proxy = Server::proxy();
    start(cluster, "", &proxy);
    asks_the_proxy(cluster, &proxy);
    assert!(was_given(cluster));
    // dockerd, which nobody has started yet, has it too.
    let image = format!("{REGISTRY}/some/image:1");
    asks(&proxy, || {
        let pull = cluster.command(&format!("image pull {image}"));
        pull.done().fails(90, "CORACLE_RUNTIME")
    });
    cluster.coracle.delete(cluster.name);
}
