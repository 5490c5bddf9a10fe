//! `coracle image`, which needs no docker on the host.

use crate::client::Docker;
use crate::store::{run_pod, site};
use coracle_tests::{Run, replace_in};
use std::collections::BTreeSet;
use std::fs;

/// Builds the site in `folder` under a name; what it says.
fn build(docker: &Docker<'_>, arguments: &str) -> Run {
    docker.cluster.command(&format!("image build {arguments}"))
}

pub(super) fn are_built_and_named_and_go(docker: &Docker<'_>) {
    let cluster = docker.cluster;
    let step = "ARG WHO=nobody\nRUN mkdir /www && echo $WHO > /www/who && echo built by $WHO\n";
    let folder = site(docker, "built without docker", step);
    let path = folder.to_str().unwrap();
    let built = build(docker, &format!("-t made:1 --build-arg WHO=me {path}")).ok();
    assert!(built.text().starts_with("sha256:"), "{built}");
    assert!(built.stderr.contains("built by me"), "{built}");
    run_pod(docker, "made", "made:1");
    let page = |file: &str| cluster.kubectl(&format!("exec made -- cat /www/{file}"));
    assert_eq!(page("index.html").trim(), "built without docker");
    assert_eq!(page("who").trim(), "me");
    let files = cluster.kubectl("exec made -- ls /www");
    assert!(!files.contains("secret"), "{files}");
    let again = build(docker, &format!("-t made:1 --build-arg WHO=me {path}")).ok();
    assert!(again.stderr.contains("(cached)"), "{again}");

    cluster.command("image tag made:1 made:2").ok();
    let in_use = cluster.command("image rm made:1").done();
    in_use
        .fails(91, "CORACLE_IMAGE_IN_USE")
        .says("the pod made");
    cluster.command("image rm made:2").ok();
    cluster
        .command("image tag nothing:1 made:3")
        .done()
        .fails(85, "CORACLE_GUEST_NOT_FOUND");
    build(docker, &format!("-t idle:1 --build-arg WHO=nobody {path}")).ok();
    cluster.command("image prune --all").ok();
    let listed = cluster.command("image ls -o json").ok();
    assert!(
        listed.stdout.contains("docker.io/library/made:1"),
        "{listed}"
    );
    for gone in ["made:2", "idle:1"] {
        assert!(!listed.stdout.contains(gone), "{gone}: {listed}");
    }

    // What is wrong is said in BuildKit's words, with the program's own before.
    replace_in(
        folder.join("Dockerfile"),
        "mkdir /www",
        "mkdir /www && echo it breaks && false",
    );
    let broken = build(docker, &format!("-t broken:1 {path}")).done();
    broken.fails(90, "CORACLE_RUNTIME").says("it breaks");
    build(docker, &format!("{path}/nothing"))
        .done()
        .fails(14, "CORACLE_USAGE");
    build(docker, &format!("-f {path}/nothing {path}"))
        .done()
        .fails(14, "CORACLE_USAGE");
    let unknown = cluster.command("image pull localhost:1/nothing:1").done();
    unknown.fails(90, "CORACLE_RUNTIME").says("localhost:1");
}

/// The second cluster has the base image, and is sent what it has not.
pub(super) fn go_to_another_cluster(docker: &Docker<'_>, other: &Docker<'_>) {
    let archive = docker.cluster.coracle.work().join("made.tar");
    let path = archive.to_str().unwrap();
    docker
        .cluster
        .command(&format!("image save made:1 -o {path}"))
        .ok();
    let loaded = other.cluster.command(&format!("image load {path}")).ok();
    assert!(
        loaded.text().contains("docker.io/library/made:1"),
        "{loaded}"
    );
    let said = loaded
        .stderr
        .lines()
        .find(|line| line.contains("the machine has"));
    assert!(said.is_some(), "the base image is there already: {loaded}");
    run_pod(other, "made", "made:1");
    let page = other.cluster.kubectl("exec made -- cat /www/index.html");
    assert_eq!(page.trim(), "built without docker");

    // The same as the folder of an OCI layout; nothing of it has to be sent then.
    let layout = docker.cluster.coracle.work().join("layout");
    tar::Archive::new(fs::File::open(&archive).unwrap())
        .unpack(&layout)
        .unwrap();
    let folder = layout.to_str().unwrap();
    let again = other.cluster.command(&format!("image load {folder}")).ok();
    assert!(again.stderr.contains("0.0 MiB are sent"), "{again}");
    let names: BTreeSet<&str> = again.stdout.lines().collect();
    assert!(names.contains("docker.io/library/made:1"), "{again}");

    // And compressed, as archives often are kept.
    other.cluster.kubectl("delete pod made --now");
    other.cluster.command("image rm made:1").ok();
    docker.cluster.coracle.program("gzip").args([path]).ok();
    let compressed = other.cluster.command(&format!("image load {path}.gz"));
    let names = compressed.ok().stdout;
    assert!(names.contains("docker.io/library/made:1"), "{names}");

    let missing = docker
        .cluster
        .command("image save nothing:1 -o nothing.tar")
        .done();
    missing.fails(85, "CORACLE_GUEST_NOT_FOUND");
    assert!(!docker.cluster.coracle.work().join("nothing.tar").exists());
}
