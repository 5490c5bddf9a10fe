//! What the host's side tells about a running cluster.

use coracle_tests::{Coracle, installed, replace_in};
use std::net::TcpStream;

pub(super) fn told(coracle: &Coracle) {
    let status = coracle.run("status -o json").ok();
    let json = status.json();
    for (key, value) in [
        ("Name", "coracle"),
        ("Host", "Running"),
        ("Kubelet", "Running"),
        ("APIServer", "Running"),
        ("Kubeconfig", "Configured"),
    ] {
        assert_eq!(json[key], value, "{status}");
    }
    assert_eq!(coracle.run("status -o yaml").ok().yaml(), json);
    coracle
        .run("status")
        .ok()
        .says("type: Control Plane")
        .says("apiserver: Running");
    assert_eq!(
        coracle
            .coracle(["status", "--format", "{{.Host}}"])
            .ok()
            .text(),
        "Running"
    );

    let ip = coracle.run("ip").ok().text().to_owned();
    let address: std::net::IpAddr = ip.parse().expect("a bare address");
    assert!(address.is_loopback(), "{address}");
    TcpStream::connect((address, 6443)).expect("the API listens there");
    let server = coracle.kubectl("config view --minify -o jsonpath={.clusters[0].cluster.server}");
    assert_eq!(server, format!("https://{ip}:6443"));

    let rows = coracle.run("list -o json").ok().json();
    let row = &rows[0];
    assert_eq!(row["Name"], "coracle", "{rows}");
    assert_eq!(
        (&row["Driver"], &row["IP"], &row["Status"]),
        (
            &coracle.abilities().driver.into(),
            &ip.as_str().into(),
            &"Running".into()
        ),
        "{rows}"
    );
    assert!(
        row["Version"].as_str().unwrap().starts_with("v1.37."),
        "{rows}"
    );
    assert_eq!(row["Active"], true, "{rows}");
    assert_eq!(coracle.run("profile list -o yaml").ok().yaml(), rows);
    coracle.run("ls").ok().says("PROFILE").says("Running");

    let version = coracle.run("version -o json").ok();
    let cluster = &version.json()["cluster"];
    assert!(
        cluster["kubernetes"]
            .as_str()
            .unwrap()
            .starts_with("v1.37."),
        "{version}"
    );
    assert_eq!(
        cluster["kernel"].as_str().unwrap(),
        coracle.inside("uname -r"),
        "{version}"
    );
    assert!(
        cluster["image"].as_str().unwrap().starts_with("sha256:"),
        "{version}"
    );
    coracle.run("doctor").ok();
    coracle.run("profile coracle").ok();
}

pub(super) fn update_context(coracle: &Coracle) {
    // By hand: kubectl would write the whole file anew, without its comments.
    let file = coracle.work().join("real/config");
    let server = format!("https://{}:6443", coracle.run("ip").ok().text());
    replace_in(&file, &server, "https://127.0.0.1:1");
    coracle
        .run("status")
        .done()
        .code_is(4)
        .says("kubeconfig: Misconfigured");
    coracle.run("update-context").ok();
    coracle.run("status").ok();
    // Another kubeconfig, named by the environment, gets the context too.
    let other = coracle.work().join("other.yaml");
    let run = |arguments: &str| coracle.run(arguments).env("KUBECONFIG", &other);
    run("status").done().code_is(4).says("kubeconfig: Missing");
    run("update-context --keep-context").ok();
    run("status").ok();
    let kubectl = coracle
        .program(coracle.own_kubectl())
        .env("KUBECONFIG", &other);
    kubectl
        .clone()
        .args(["--context", "coracle", "get", "nodes"])
        .ok();
    kubectl
        .args(["config", "current-context"])
        .done()
        .code_is(1);
    std::fs::remove_file(&other).unwrap();
    // The journey goes on with its own.
    coracle.run("update-context").ok();
    coracle.run("status").ok();
}

pub(super) fn other_kubectls(coracle: &Coracle) {
    let link = coracle.work().join("bin/kubectl");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(coracle.binary(), &link).unwrap();
    coracle
        .program(&link)
        .args(["get", "--raw", "/readyz"])
        .ok()
        .says("ok");
    let version = coracle
        .program(&link)
        .args(["version", "-o", "json"])
        .ok()
        .json();
    assert_eq!(
        version["clientVersion"]["gitVersion"], version["serverVersion"]["gitVersion"],
        "{version}"
    );
    // Its exit status and its errors are its own.
    let missing = coracle
        .kubectl_run(["get", "pod", "nosuch"])
        .done()
        .code_is(1);
    assert!(
        missing.stderr.contains("NotFound") && missing.stdout.is_empty(),
        "{missing}"
    );
    match installed("kubectl") {
        Some(host) => {
            coracle
                .program(host)
                .args(["get", "nodes"])
                .ok()
                .says("Ready");
        }
        None => eprintln!("skipped: this host has no kubectl of its own"),
    }
}
