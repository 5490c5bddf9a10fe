//! Certificates of the user's own.

use crate::servers::Server;
use crate::stop_and_start;
use coracle_tests::{Authority, Profile, write};
use std::fs;

const NAME: &str = "host.coracle.internal";

/// Whether a program in the machine believes the server.
fn curl_believes(cluster: Profile<'_>, server: &Server) -> bool {
    let url = format!("https://{NAME}:{}/", server.port);
    let asked = cluster.ssh(&format!("curl -sS {url}")).done();
    let believes = asked.code() == Some(0);
    assert!(
        believes || asked.stderr.contains("certificate"),
        "it fails for another reason: {asked}"
    );
    assert!(!believes || asked.text() == "hello", "{asked}");
    believes
}

/// Whether containerd does: it asks for an image then.
fn containerd_believes(cluster: Profile<'_>, server: &Server) -> bool {
    let before = server.requests().len();
    let pull = format!("sudo crictl pull {NAME}:{}/some/image:1", server.port);
    let pull = cluster.ssh(&pull).done();
    assert!(pull.code() != Some(0), "{pull}");
    let requests = server.requests().split_off(before);
    requests
        .iter()
        .any(|head| head.contains(" /v2/some/image/"))
}

#[track_caller]
fn is_believed(cluster: Profile<'_>, server: &Server, wanted: bool) {
    assert_eq!(curl_believes(cluster, server), wanted, "curl");
    assert_eq!(containerd_believes(cluster, server), wanted, "containerd");
}

pub(super) fn comes_and_goes(cluster: Profile<'_>) {
    let authority = Authority::new("own");
    let server = Server::secure(&authority, NAME);
    let certs = cluster.coracle.home().join("certs");
    is_believed(cluster, &server, false);
    write(certs.join("own.crt"), &authority.pem);
    write(certs.join("other.pem"), Authority::new("other").pem);
    let boot = cluster.boot_id();
    stop_and_start(cluster);
    assert_eq!(cluster.boot_id(), boot, "the machine is the same");
    is_believed(cluster, &server, true);

    // Also by a new cluster, from its start.
    let clone = Profile {
        name: "trusting",
        ..cluster
    };
    clone.command("start").ok();
    is_believed(clone, &server, true);
    cluster.coracle.delete(clone.name);

    // Also after a boot of its own.
    cluster.command("stop --shutdown").ok();
    cluster.command("start").ok();
    is_believed(cluster, &server, true);

    write(certs.join("broken.crt"), "no certificate");
    cluster.command("stop").ok();
    cluster
        .command("start")
        .done()
        .fails(18, "CORACLE_CERTIFICATE_INVALID")
        .says("broken.crt");
    for file in ["broken.crt", "own.crt"] {
        fs::remove_file(certs.join(file)).unwrap();
    }
    cluster.command("start").ok();
    is_believed(cluster, &server, false);
    fs::remove_dir_all(certs).unwrap();
    stop_and_start(cluster);
    let bundle = cluster.inside("readlink /etc/ssl/certs/ca-certificates.crt");
    assert!(
        bundle.starts_with("/usr/share/"),
        "the image's own: {bundle}"
    );
}
