//! The image store that dockerd and the kubelet share.

use crate::client::Docker;
use coracle_tests::write;
use std::path::PathBuf;

/// What every test image begins with: it is in the machine.
pub(super) const BASE: &str = "coracle.internal/busybox:1.37";
/// How long a pod may take.
const POD: &str = "--timeout=300s";

/// A folder with a web server's Dockerfile and its one page. `step` is a line of that.
pub(super) fn site(docker: &Docker<'_>, page: &str, step: &str) -> PathBuf {
    let folder = docker.cluster.coracle.work().join("site");
    std::fs::create_dir_all(&folder).unwrap();
    write(
        folder.join("Dockerfile"),
        format!(
            "FROM {BASE}\n{step}COPY . /www/\n\
             CMD [\"httpd\", \"-f\", \"-p\", \"8080\", \"-h\", \"/www\"]\n"
        ),
    );
    write(folder.join(".dockerignore"), "secret\n");
    write(folder.join("secret"), "not for the image");
    write(folder.join("index.html"), page);
    folder
}

/// Builds a web server under a name. Nothing runs for it.
pub(super) fn build(docker: &Docker<'_>, name: &str, page: &str) {
    let folder = site(docker, page, "");
    let folder = folder.to_str().unwrap();
    docker.ok(&format!("build -t {name} {folder}"));
}

pub(super) fn run_pod(docker: &Docker<'_>, name: &str, image: &str) {
    let cluster = docker.cluster;
    cluster.kubectl(&format!(
        "run {name} --image={image} --image-pull-policy=Never"
    ));
    cluster.kubectl(&format!("wait pod/{name} --for=condition=Ready {POD}"));
}

fn names(docker: &Docker<'_>) -> Vec<String> {
    let listed = docker.text("images --format {{.Repository}}:{{.Tag}}");
    listed.lines().map(str::to_owned).collect()
}

pub(super) fn a_pod_runs_what_was_built(docker: &Docker<'_>) {
    let step = "ARG WHO=nobody\nRUN mkdir /www && echo $WHO > /www/who\n";
    let folder = site(docker, "first", step);
    let folder = folder.to_str().unwrap();
    docker.ok(&format!("build --build-arg WHO=me -t app:1 {folder}"));
    let cluster = docker.cluster;
    run_pod(docker, "app", "app:1");
    let page = |path: &str| cluster.kubectl(&format!("exec app -- cat /www/{path}"));
    assert_eq!(page("index.html").trim(), "first");
    assert_eq!(page("who").trim(), "me");
    let files = cluster.kubectl("exec app -- ls /www");
    assert!(!files.contains("secret"), "{files}");
    // Each image is listed by its own name alone, and pods' containers are not Docker's.
    let listed = names(docker);
    assert_eq!(listed.iter().filter(|name| *name == "app:1").count(), 1);
    assert!(
        listed.iter().all(|name| !name.contains("sha256")),
        "{listed:?}"
    );
    assert_eq!(docker.text("ps -aq"), "");
}

pub(super) fn what_pods_use_stays(docker: &Docker<'_>) {
    let cluster = docker.cluster;
    // The kubelet removes none, however full the disk is: neither by its collection nor by eviction.
    let node = cluster.kubectl("get nodes -o name").replace("node/", "");
    let kubelet = cluster.kubectl(&format!("get --raw /api/v1/nodes/{node}/proxy/configz"));
    let kubelet: serde_json::Value = serde_json::from_str(&kubelet).unwrap();
    let kubelet = &kubelet["kubeletconfig"];
    assert_eq!(kubelet["imageGCHighThresholdPercent"], 100, "{kubelet}");
    assert_eq!(kubelet["imageMaximumGCAge"], "0s", "{kubelet}");
    for signal in ["imagefs.available", "nodefs.available"] {
        assert_eq!(kubelet["evictionHard"][signal], "0%", "{kubelet}");
    }
    let refused = docker.refused("rmi app:1");
    assert!(
        refused.contains("the pod app in the namespace default uses it"),
        "{refused}"
    );
    let refused = docker.refused("rmi -f coracle.internal/pause:3.10.1");
    assert!(refused.contains("the machine uses it"), "{refused}");
    docker.ok("tag app:1 app:spare");
    // The name that the pod has stays as well as the image.
    let refused = docker.refused("rmi app:1");
    assert!(refused.contains("the pod app"), "{refused}");
    docker.ok("rmi app:spare");
    docker.ok("tag app:1 idle:1");
    build(docker, "idle:1", "nobody runs this");
    let before = names(docker);
    assert!(before.contains(&"idle:1".to_owned()), "{before:?}");
    docker.ok("system prune -a -f");
    let after = names(docker);
    assert!(!after.contains(&"idle:1".to_owned()), "{after:?}");
    assert!(after.contains(&"app:1".to_owned()), "{after:?}");
    // All that ran runs again from what is left.
    let dns = "-n kube-system rollout";
    cluster.kubectl(&format!("{dns} restart deployment coredns"));
    cluster.kubectl(&format!("{dns} status deployment coredns {POD}"));
    cluster.kubectl("delete pod app --now");
    run_pod(docker, "app", "app:1");
    // What a pod's name means now is kept as well as what it runs.
    build(docker, "app:1", "second");
    docker.ok("image prune -a -f");
    cluster.kubectl("delete pod app --now");
    run_pod(docker, "app", "app:1");
    let page = cluster.kubectl("exec app -- cat /www/index.html");
    assert_eq!(page.trim(), "second");
}

pub(super) fn what_nobody_uses_goes(docker: &Docker<'_>) {
    build(docker, "gone:1", "gone");
    let id = docker.text("images -q --no-trunc gone:1");
    docker.ok("rmi gone:1");
    assert!(!names(docker).contains(&"gone:1".to_owned()));
    docker.refused(&format!("image inspect {}", id.trim()));
    let left = docker.cluster.inside("sudo ctr -n k8s.io images ls");
    assert!(!left.contains(id.trim()), "{left}");

    build(docker, "old:1", "old");
    let old = docker.text("images -q --no-trunc old:1");
    build(docker, "old:1", "newer");
    let dangling = docker.text("images -q --no-trunc -f dangling=true");
    assert!(dangling.lines().any(|one| one == old.trim()), "{dangling}");
    docker.ok("image prune -f");
    assert_eq!(docker.text("images -q -f dangling=true"), "");
    assert!(names(docker).contains(&"old:1".to_owned()));
    // One that a container has been made of is Docker's to keep.
    docker.ok("create --name keeps old:1");
    docker.refused("rmi old:1");
    docker.ok("rm keeps");
    docker.ok("rmi old:1");
}
