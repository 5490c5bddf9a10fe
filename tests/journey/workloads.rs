//! What runs on a cluster: the everyday kinds of Kubernetes, through kubectl.

use coracle_tests::{
    Coracle, ImageArchive, Terminal, archive_of_one_program, until, until_some, write,
};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

/// Beyond what a pod under software emulation needs; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(600);
const MANIFESTS: &str = include_str!("workloads.yaml");
const SECOND_IMAGE: &str = "coracle.test/second:1";

pub(super) fn apply(coracle: &Coracle) {
    coracle.apply(MANIFESTS);
}

/// What a jsonpath gives.
fn field(coracle: &Coracle, object: &str, path: &str) -> String {
    coracle
        .kubectl_run(["get", object, "-o", &format!("jsonpath={path}")])
        .ok()
        .text()
        .to_owned()
}

fn rolled_out(coracle: &Coracle, object: &str) {
    coracle.kubectl(&format!("rollout status {object} --timeout=600s"));
}

fn in_pod(coracle: &Coracle, pod: &str, command: &str) -> String {
    coracle
        .kubectl_run(["exec", pod, "--", "sh", "-c", command])
        .ok()
        .text()
        .to_owned()
}

pub(super) fn kubernetes_service(coracle: &Coracle) {
    assert_eq!(
        field(coracle, "svc/kubernetes", "{.spec.clusterIP}"),
        "10.96.0.1"
    );
}

pub(super) fn deployment(coracle: &Coracle) {
    rolled_out(coracle, "deployment/web");
    assert_eq!(
        field(coracle, "deployment/web", "{.status.readyReplicas}"),
        "3"
    );
    coracle.kubectl("wait pod/client --for=condition=Ready --timeout=600s");
}

/// kubectl refuses it, and what `convert` makes of it runs.
pub(super) fn old_manifest(coracle: &Coracle) {
    let (old, new) = (
        coracle.work().join("old.yaml"),
        coracle.work().join("new.yaml"),
    );
    write(
        &old,
        "# As in 2016.
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: old}
spec:
  template:
    metadata: {labels: {app: old}}
    spec:
      containers: [{name: old, image: 'coracle.internal/busybox:1.37', command: [sleep, '100000']}]
",
    );
    let apply = |file: &Path| coracle.kubectl_run(["apply", "-f", file.to_str().unwrap()]);
    let refused = apply(&old).done();
    assert_ne!(refused.code(), Some(0), "{refused}");
    let advice = format!(
        "`coracle convert {}` brings it to current ones",
        old.display()
    );
    assert!(refused.stderr.contains(&advice), "{refused}");
    let converted = coracle
        .run("convert")
        .args([&old])
        .args(["-o"])
        .args([&new])
        .ok();
    let told = "old.yaml:2: Deployment old: extensions/v1beta1 is apps/v1";
    assert!(converted.stderr.contains(told), "{converted}");
    apply(&new).ok();
    rolled_out(coracle, "deployment/old");
    coracle.kubectl("delete deployment old");
}

pub(super) fn service_by_name(coracle: &Coracle) {
    service_answers(coracle);
    for name in ["web", "web.default", "web.default.svc.cluster.local"] {
        let answer = in_pod(coracle, "client", &format!("wget -qO- http://{name}/name"));
        assert!(answer.starts_with("web-"), "{name}: {answer}");
    }
    // All three answer, sooner or later.
    let mut seen = std::collections::BTreeSet::new();
    until("three pods answer behind one name", LIMIT, || {
        seen.insert(in_pod(coracle, "client", "wget -qO- http://web/name"));
        seen.len() == 3
    });
    // The API is reached from a pod too, and checks who asks.
    let refused = coracle.kubectl_run([
        "exec",
        "client",
        "--",
        "wget",
        "-qO-",
        "--no-check-certificate",
        "https://kubernetes/api/v1/pods",
    ]);
    refused.done().code_is(1).says("403");
}

pub(super) fn logs(coracle: &Coracle) {
    assert!(coracle.kubectl("logs client").contains("the client is up"));
    let mut followed = coracle.kubectl_run(["logs", "-f", "client"]).start();
    in_pod(coracle, "client", "echo a-later-line > /proc/1/fd/1");
    followed.until_it_says("a-later-line");
}

pub(super) fn exec(coracle: &Coracle) {
    let mut shell = Terminal::start(&coracle.kubectl_run(["exec", "-it", "client", "--", "sh"]));
    shell.send("echo sum=$((40+2)); tty\r");
    shell.expect("sum=42", LIMIT);
    shell.expect("/dev/pts/", LIMIT);
    shell.send("exit 3\r");
    assert_eq!(shell.exit_code(LIMIT), Some(3), "{}", shell.shown());
}

pub(super) fn port_forward(coracle: &Coracle) {
    let mut forward = coracle
        .kubectl_run(["port-forward", "service/web", ":80"])
        .start();
    forward.until_it_says("Forwarding from 127.0.0.1:");
    let said = forward.stdout_so_far();
    let port = said
        .split("127.0.0.1:")
        .nth(1)
        .and_then(|rest| rest.split(' ').next())
        .expect("it names its port");
    let mut stream = TcpStream::connect(("127.0.0.1", port.parse::<u16>().unwrap())).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"GET /name HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.") && answer.contains("web-"),
        "{answer}"
    );
}

pub(super) fn jobs(coracle: &Coracle) {
    coracle.kubectl("wait job/once --for=condition=Complete --timeout=600s");
    assert_eq!(coracle.kubectl("logs job/once"), "done once");
    // It is due every minute.
    let job = until_some("the cron job made a job that succeeded", LIMIT, || {
        let jobs = coracle.kubectl_run([
            "get",
            "jobs",
            "-l",
            "from=every-minute",
            "-o",
            "jsonpath={.items[?(@.status.succeeded==1)].metadata.name}",
        ]);
        jobs.ok()
            .text()
            .split_whitespace()
            .next()
            .map(str::to_owned)
    });
    assert_eq!(coracle.kubectl(&format!("logs job/{job}")), "once a minute");
    coracle.kubectl("delete cronjob every-minute");
}

pub(super) fn configuration(coracle: &Coracle) {
    coracle.kubectl("wait pod/configured --for=jsonpath={.status.phase}=Succeeded --timeout=600s");
    let told = coracle.kubectl("logs configured");
    for line in [
        "environment blue hunter2",
        "file blue",
        "file hunter2",
        "mode 400",
    ] {
        assert!(told.contains(line), "{line:?} is missing in\n{told}");
    }
}

pub(super) fn daemon_set(coracle: &Coracle) {
    rolled_out(coracle, "daemonset/everywhere");
    assert_eq!(
        field(coracle, "daemonset/everywhere", "{.status.numberReady}"),
        "1"
    );
    assert_eq!(
        coracle.kubectl("get pods -l app=everywhere -o jsonpath={.items[0].spec.nodeName}"),
        "coracle"
    );
}

pub(super) fn access(coracle: &Coracle) {
    let can = |arguments: &str| {
        let asked = coracle.kubectl_run([
            "auth",
            "can-i",
            "--as",
            "system:serviceaccount:default:reader",
        ]);
        asked
            .args(arguments.split_whitespace())
            .done()
            .text()
            .to_owned()
    };
    assert_eq!(can("list pods"), "yes");
    assert_eq!(can("delete pods"), "no");
    assert_eq!(can("list secrets"), "no");
    assert_eq!(can("list pods -n kube-system"), "no");
    // And really, with a token of that account and nothing else.
    let token = coracle.kubectl("create token reader");
    let cluster = |path: &str| {
        let view = ["config", "view", "--minify", "--raw", "--flatten", "-o"];
        coracle
            .kubectl_run(view)
            .args([&format!("jsonpath={{.clusters[0].cluster{path}}}")])
            .ok()
            .text()
            .to_owned()
    };
    let authority = coracle.work().join("authority.crt");
    let decoded = coracle
        .program("base64")
        .args(["-d"])
        .stdin(cluster(".certificate-authority-data"))
        .ok();
    write(&authority, decoded.stdout);
    let as_reader = |arguments: &str, token: &str| {
        coracle
            .program(coracle.own_kubectl())
            .env("KUBECONFIG", "/dev/null")
            .args([
                "--server",
                &cluster(".server"),
                "--certificate-authority",
                &authority.display().to_string(),
            ])
            .args(["--token", token])
            .args(arguments.split_whitespace())
            .done()
    };
    as_reader("get pods", &token).ok().says("client");
    as_reader("get secrets", &token)
        .code_is(1)
        .says("forbidden");
    as_reader("delete pod client", &token)
        .code_is(1)
        .says("forbidden");
    as_reader("get pods", "not.a.token").code_is(1);
    coracle.kubectl("get pod client");
}

/// Gives the name of an image that the cluster did not have before.
pub(super) fn copy_and_load(coracle: &Coracle) -> String {
    let names = || {
        let images = coracle.run("image ls -o json").ok().json();
        let rows = images.as_array().unwrap().clone();
        rows.iter()
            .flat_map(|row| row["Names"].as_array().unwrap().clone())
            .map(|name| name.as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let before = names();
    for name in [
        "coracle.internal/pause:",
        "coracle.internal/coredns:",
        "coracle.internal/local-path-provisioner:",
        "coracle.internal/busybox:1.37",
    ] {
        assert!(
            before.iter().any(|one| one.starts_with(name)),
            "{name} is not among {before:?}"
        );
    }
    coracle.kubectl("cp client:/bin/busybox busybox");
    let busybox = std::fs::read(coracle.work().join("busybox")).unwrap();
    assert!(
        busybox.starts_with(b"\x7fELF") && busybox.len() > 100_000,
        "{} bytes",
        busybox.len()
    );
    coracle.kubectl("cp busybox client:/tmp/copied");
    assert_eq!(
        in_pod(
            coracle,
            "client",
            "cmp /tmp/copied /bin/busybox && echo same"
        ),
        "same"
    );

    let archive = coracle.work().join("second.tar");
    archive_of_one_program(
        &archive,
        &ImageArchive {
            name: SECOND_IMAGE,
            busybox: &busybox,
            version: "two",
        },
    );
    let loaded = coracle.coracle(["image", "load", "second.tar"]).ok();
    assert_eq!(loaded.text(), SECOND_IMAGE);
    coracle
        .run("image load -")
        .stdin(std::fs::read(&archive).unwrap())
        .ok()
        .says(SECOND_IMAGE);
    assert_eq!(names().len(), before.len() + 1, "{:?}", names());
    let garbage = coracle.run("image load -").stdin(vec![7_u8; 50_000]).done();
    garbage
        .fails(90, "CORACLE_RUNTIME")
        .says("the archive cannot be loaded");
    SECOND_IMAGE.to_owned()
}

pub(super) fn rollout(coracle: &Coracle, second: &str) {
    let image = || {
        field(
            coracle,
            "deployment/web",
            "{.spec.template.spec.containers[0].image}",
        )
    };
    let first = image();
    coracle.kubectl(&format!("set image deployment/web web={second}"));
    rolled_out(coracle, "deployment/web");
    let pod = coracle
        .kubectl("get pods -l app=web --field-selector=status.phase=Running -o name")
        .lines()
        .last()
        .unwrap()
        .to_owned();
    assert_eq!(image(), second);
    until("a pod of the second image answers", LIMIT, || {
        coracle
            .kubectl_run(["exec", &pod, "--", "cat", "/version"])
            .done()
            .text()
            == "two"
            || in_new_pod(coracle) == "two"
    });
    coracle.kubectl("rollout undo deployment/web");
    rolled_out(coracle, "deployment/web");
    assert_eq!(image(), first);
    let restarted = || field(coracle, "deployment/web", "{.metadata.generation}");
    let before = restarted();
    coracle.kubectl("rollout restart deployment/web");
    rolled_out(coracle, "deployment/web");
    assert_ne!(restarted(), before);
    service_answers(coracle);
}

/// The version that some pod of the deployment tells.
fn in_new_pod(coracle: &Coracle) -> String {
    coracle
        .kubectl_run(["exec", "deployment/web", "--", "cat", "/version"])
        .done()
        .text()
        .to_owned()
}

pub(super) fn scale(coracle: &Coracle) {
    coracle.kubectl("scale deployment/web --replicas=1");
    until("two of three pods are gone", LIMIT, || {
        coracle
            .kubectl("get pods -l app=web -o name")
            .lines()
            .count()
            == 1
    });
    coracle.kubectl("scale deployment/web --replicas=2");
    rolled_out(coracle, "deployment/web");
    assert_eq!(
        field(coracle, "deployment/web", "{.status.readyReplicas}"),
        "2"
    );
}

pub(super) fn volume(coracle: &Coracle) {
    rolled_out(coracle, "statefulset/store");
    assert_eq!(
        field(coracle, "pvc/data-store-0", "{.status.phase}"),
        "Bound"
    );
    assert_eq!(
        field(coracle, "pvc/data-store-0", "{.spec.storageClassName}"),
        "standard"
    );
    in_pod(coracle, "store-0", "echo kept > /data/file");
}

pub(super) fn volume_is_kept(coracle: &Coracle) {
    coracle.kubectl("wait pod/store-0 --for=condition=Ready --timeout=600s");
    let read = until_some("the pod of the volume can be asked", LIMIT, || {
        let read = coracle
            .kubectl_run(["exec", "store-0", "--", "cat", "/data/file"])
            .done();
        (read.code() == Some(0)).then(|| read.text().to_owned())
    });
    assert_eq!(read, "kept");
}

pub(super) fn deployment_is_back(coracle: &Coracle) {
    rolled_out(coracle, "deployment/web");
    service_answers(coracle);
}

/// A rollout has ended when the new pods are ready: the old ones may be in the Service a little longer.
fn service_answers(coracle: &Coracle) {
    until("the service answers again", LIMIT, || {
        let asked = coracle
            .kubectl_run(["exec", "client", "--", "wget", "-qO-", "http://web/name"])
            .done();
        asked.text().starts_with("web-")
    });
}
