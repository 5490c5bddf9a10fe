//! Bind mounts of this host's folders: with docker a path means the same on both sides.

use crate::client::Docker;
use coracle_tests::{until, write};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

pub(super) fn are_the_same_on_both_sides(docker: &Docker<'_>, image: &str) {
    let coracle = docker.cluster.coracle;
    let project = coracle.user_home().join("project");
    let file = |name: &str| project.join(name);
    write(file("page"), "one\n");
    let folder = project.to_str().unwrap();
    docker.ok(&format!(
        "run -d --name dev -v {folder}:/src {image} sleep 100000"
    ));
    assert_eq!(docker.inside("dev", "cat /src/page"), "one");
    write(file("page"), "two\n");
    until("the container sees the change", SOON, || {
        docker.inside("dev", "cat /src/page") == "two"
    });
    docker.inside("dev", "echo three > /src/made");
    assert_eq!(std::fs::read_to_string(file("made")).unwrap(), "three\n");

    // The other way to say it, which may not write.
    let mount = format!("type=bind,source={folder},target=/src,readonly");
    let mount = ["run", "--rm", "--mount", &mount, image, "sh", "-c"];
    let read = docker.with(mount.into_iter().chain(["cat /src/page"])).ok();
    assert_eq!(read.text(), "two");
    let written = docker
        .with(mount.into_iter().chain(["echo no > /src/no"]))
        .done();
    assert_ne!(written.code(), Some(0), "{written}");
    assert!(!file("no").exists());

    // A path of the machine is one; what is nowhere is not made there.
    let hostname = docker.text(&format!(
        "run --rm -v /etc/hostname:/name {image} cat /name"
    ));
    assert_eq!(hostname, "coracle");
    let refused = docker.refused(&format!("run --rm -v /nowhere/at/all:/x {image} true"));
    assert!(
        refused.contains("does not exist in the machine: /nowhere/at/all"),
        "{refused}"
    );
    docker.cluster.ssh("test -e /nowhere").done().code_is(1);
    // Docker's own way: it makes what is missing of the user's.
    let made = file("new").display().to_string();
    docker.ok(&format!("run --rm -v {made}:/new {image} touch /new/file"));
    assert!(file("new/file").exists());

    // It is a mount like others, and is there over a stop.
    let home = coracle.user_home();
    let mounts = docker.cluster.command("mount").ok();
    assert_eq!(mounts.text(), format!("{0}:{0}", home.display()));
    docker.cluster.command("stop").ok();
    docker.cluster.command("start").ok();
    assert_eq!(docker.inside("dev", "cat /src/page"), "two");
    write(file("page"), "four\n");
    until("the container sees the change", SOON, || {
        docker.inside("dev", "cat /src/page") == "four"
    });
    docker.ok("rm -f dev");
}
