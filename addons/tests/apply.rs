//! Applying, waiting and removing, against an API server in this process.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure ends the test")]

mod fake_api;

use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use coracle_addons::{
    Addon, AddonObserver, Catalogue, ObjectName, Readiness, Values, WaitError, apply, remove,
    wait_ready,
};
use fake_api::{Answer, FakeApi, client};
use http::Method;
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(10);
const COREDNS: &str = "/apis/apps/v1/namespaces/kube-system/deployments/coredns";
const DNS_SERVICE: &str = "/api/v1/namespaces/kube-system/services/kube-dns";

fn values() -> Values {
    Values::new(
        IpAddr::from([10, 96, 0, 10]),
        "cluster.local",
        "coracle",
        IpAddr::from([10, 0, 2, 2]),
    )
}

fn builtin(name: &str) -> Addon {
    Catalogue::builtin().unwrap().get(name).unwrap().clone()
}

/// An add-on of one manifest file; `more` is added to its addon.toml.
fn own(manifest: &str, more: &str) -> Addon {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("own");
    let write = |path: &Path, text: &str| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    };
    let head = "name = \"own\"\ndescription = \"of a test\"\nversion = \"1\"\nenabled = \"optional\"\n\
                licence = \"Apache-2.0\"\nsource = \"https://example.com\"\n";
    write(&folder.join("addon.toml"), &format!("{head}{more}"));
    write(&folder.join("manifests/a.yaml"), manifest);
    Addon::read(&folder).unwrap()
}

/// Keeps what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Notes {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().unwrap())
    }
}

impl AddonObserver for Notes {
    fn applied(&self, _: &str, object: &ObjectName, done: usize, total: usize) {
        self.note(format!("applied {done}/{total} {object}"));
    }
    fn retrying(&self, _: &str, doing: &str, reason: &str, _: Duration) {
        self.note(format!("retrying {doing}: {reason}"));
    }
    fn waiting(&self, _: &str, row: &Readiness, state: &str) {
        self.note(format!("waiting for {row}: {state}"));
    }
    fn ready(&self, _: &str, row: &Readiness) {
        self.note(format!("ready {row}"));
    }
    fn removed(&self, _: &str, object: &ObjectName) {
        self.note(format!("removed {object}"));
    }
}

#[tokio::test]
async fn objects_are_applied_server_side_in_order_without_discovery() {
    let api = FakeApi::start().await;
    let notes = Notes::default();
    apply(&api.client(), &builtin("dns"), &values(), LIMIT, &notes)
        .await
        .unwrap();
    let requests = api.requests();
    let paths: Vec<_> = requests
        .iter()
        .map(|request| request.path.as_str())
        .collect();
    let rbac = "/apis/rbac.authorization.k8s.io/v1";
    assert_eq!(
        paths,
        [
            "/api/v1/namespaces/kube-system/serviceaccounts/coredns",
            &format!("{rbac}/clusterroles/system:coredns"),
            &format!("{rbac}/clusterrolebindings/system:coredns"),
            "/api/v1/namespaces/kube-system/configmaps/coredns",
            DNS_SERVICE,
            COREDNS,
        ]
    );
    for request in &requests {
        assert_eq!(request.method, Method::PATCH);
        assert_eq!(request.content_type, "application/apply-patch+yaml");
        assert_eq!(request.query["fieldManager"], "coracle-addons");
        assert_eq!(request.query["force"], "true");
        let labels = &request.body["metadata"]["labels"];
        assert_eq!(labels["app.kubernetes.io/managed-by"], "coracle");
        assert_eq!(labels["coracle.dev/addon"], "dns");
    }
    let told = notes.take();
    assert_eq!(told.len(), 6);
    assert_eq!(told[0], "applied 1/6 ServiceAccount kube-system/coredns");
    assert_eq!(told[1], "applied 2/6 ClusterRole system:coredns");
}

#[tokio::test]
async fn an_api_server_that_just_comes_up_is_waited_for() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let notes = Notes::default();
    let addon = builtin("dns");
    let starting = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let api = FakeApi::listen(tokio::net::TcpListener::bind(address).await.unwrap());
        let account = "/api/v1/namespaces/kube-system/serviceaccounts/coredns";
        let missing = "namespaces \"kube-system\" not found";
        api.answer(
            Method::PATCH,
            account,
            Answer::Status(404, missing, "namespaces"),
            2,
        );
        let admission = "services \"kube-dns\" is forbidden: not yet ready to handle request";
        api.answer(
            Method::PATCH,
            DNS_SERVICE,
            Answer::Status(403, admission, "services"),
            1,
        );
        api.answer(Method::PATCH, COREDNS, Answer::Close, 1);
        api.answer(
            Method::PATCH,
            COREDNS,
            Answer::Status(503, "the server is starting", ""),
            1,
        );
        api
    };
    let client = client(address);
    let values = values();
    let (api, applied) = tokio::join!(starting, apply(&client, &addon, &values, LIMIT, &notes));
    assert_eq!(applied.unwrap().len(), 6);
    assert!(api.object(COREDNS).is_some());
    let told = notes.take();
    let retried = |part: &str| {
        told.iter()
            .filter(|line| line.starts_with("retrying") && line.contains(part))
            .count()
    };
    assert!(retried("Connection refused") >= 1, "{told:#?}");
    assert_eq!(
        retried("namespaces \"kube-system\" not found"),
        2,
        "{told:#?}"
    );
    assert_eq!(retried("not yet ready to handle request"), 1, "{told:#?}");
    assert_eq!(
        retried("apply Deployment kube-system/coredns"),
        2,
        "{told:#?}"
    );
}

#[tokio::test]
async fn a_refusal_is_final_and_names_the_object() {
    let api = FakeApi::start().await;
    let refusal = "Service \"kube-dns\" is invalid: spec.clusterIP: the address is taken";
    api.answer(
        Method::PATCH,
        DNS_SERVICE,
        Answer::Status(422, refusal, "services"),
        1,
    );
    let error = apply(&api.client(), &builtin("dns"), &values(), LIMIT, &())
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("add-on dns: cannot apply Service kube-system/kube-dns: {refusal} (422 Invalid)")
    );
    let asked = api.paths(&Method::PATCH);
    assert_eq!(asked.iter().filter(|path| *path == DNS_SERVICE).count(), 1);
    assert!(
        !asked.iter().any(|path| path == COREDNS),
        "what comes after is not applied"
    );
}

#[tokio::test]
async fn an_outage_ends_at_the_limit() {
    let account = "/api/v1/namespaces/kube-system/serviceaccounts/coredns";
    for answer in [
        Answer::Status(503, "no etcd", ""),
        Answer::Hang,
        Answer::Close,
    ] {
        let api = FakeApi::start().await;
        api.answer(Method::PATCH, account, answer.clone(), 100);
        let started = Instant::now();
        let limit = Duration::from_millis(600);
        let error = apply(&api.client(), &builtin("dns"), &values(), limit, &())
            .await
            .unwrap_err();
        let waited = started.elapsed();
        assert!(
            waited < Duration::from_secs(2),
            "{answer:?}: {waited:?}: {error}"
        );
        assert!(
            error
                .to_string()
                .contains("ServiceAccount kube-system/coredns"),
            "{error}"
        );
    }
}

const CUSTOM: &str = "apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: one, namespace: sea}\n---\n\
     apiVersion: example.com/v1\nkind: Boat\nmetadata: {name: two, namespace: sea}\n---\n\
     apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: boats.example.com}\n\
     spec: {group: example.com, names: {kind: Boat, plural: boats}}\n";

#[tokio::test]
async fn a_kind_that_the_add_on_defines_is_waited_for_and_asked_for_once() {
    let api = FakeApi::start().await;
    let missing = Answer::Status(404, "the server could not find the requested resource", "");
    api.serve_kind("example.com/v1", "Boat", "boats", true);
    api.answer(Method::GET, "/apis/example.com/v1", missing, 2);
    let applied = apply(&api.client(), &own(CUSTOM, ""), &values(), LIMIT, &())
        .await
        .unwrap();
    let names: Vec<_> = applied.iter().map(ToString::to_string).collect();
    assert_eq!(
        names,
        [
            "CustomResourceDefinition boats.example.com",
            "Boat sea/one",
            "Boat sea/two"
        ]
    );
    assert!(
        api.object("/apis/example.com/v1/namespaces/sea/boats/two")
            .is_some()
    );
    assert_eq!(
        api.paths(&Method::GET),
        ["/apis/example.com/v1"; 3],
        "two refusals, one answer"
    );
}

#[tokio::test]
async fn a_kind_that_nobody_defines_is_an_error_at_once() {
    let api = FakeApi::start().await;
    let manifest = "apiVersion: apps/v1beta9\nkind: Deploymnet\nmetadata: {name: one}\n";
    let started = Instant::now();
    let error = apply(&api.client(), &own(manifest, ""), &values(), LIMIT, &())
        .await
        .unwrap_err();
    assert!(started.elapsed() < Duration::from_secs(2), "{error}");
    assert!(
        error.to_string().contains("cannot apply Deploymnet one"),
        "{error}"
    );
}

fn deployment(generation: u64, observed: u64, available: u64) -> serde_json::Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "coredns", "namespace": "kube-system", "generation": generation},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"k8s-app": "kube-dns"}}},
        "status": {"observedGeneration": observed, "updatedReplicas": observed, "availableReplicas": available},
    })
}

/// Waits until the server has been asked for a watch for the `count`th time.
async fn watched(api: &FakeApi, count: usize) {
    let watches = || {
        api.requests()
            .iter()
            .filter(|request| request.query.contains_key("watch"))
            .count()
    };
    let started = Instant::now();
    while watches() < count {
        assert!(started.elapsed() < LIMIT, "no watch number {count}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn readiness_is_followed_by_a_watch() {
    let api = FakeApi::start().await;
    let (notes, addon, client) = (Notes::default(), builtin("dns"), api.client());
    let looked = || {
        let requests = api.requests();
        let looks = requests
            .iter()
            .filter(|request| request.path == COREDNS && !request.query.contains_key("watch"));
        looks.count()
    };
    let controllers = async {
        let started = Instant::now();
        while looked() == 0 {
            assert!(started.elapsed() < LIMIT, "nobody looks");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        api.put(COREDNS, deployment(1, 0, 0));
        watched(&api, 1).await;
        let before = looked();
        api.put(COREDNS, deployment(1, 1, 0));
        tokio::time::sleep(Duration::from_millis(600)).await;
        api.put(COREDNS, deployment(1, 1, 1));
        before
    };
    let (before, waited) = tokio::join!(controllers, wait_ready(&client, &addon, LIMIT, &notes));
    waited.unwrap();
    assert_eq!(
        looked(),
        before,
        "it was looked at again instead of watched"
    );
    let row = "Deployment kube-system/coredns";
    assert_eq!(
        notes.take(),
        [
            format!("waiting for {row}: it is not there"),
            format!("waiting for {row}: its controller has not seen it yet"),
            format!("waiting for {row}: 0 of 1 pods are available"),
            format!("ready {row}"),
        ]
    );
    let reads = api.paths(&Method::GET);
    assert!(reads.len() < 12, "it is watched, not polled: {reads:#?}");
}

#[tokio::test]
async fn a_broken_watch_and_an_outage_do_not_end_the_wait() {
    let api = FakeApi::start().await;
    let (addon, client) = (builtin("dns"), api.client());
    api.put(COREDNS, deployment(2, 1, 1));
    let trouble = async {
        watched(&api, 1).await;
        api.answer(
            Method::GET,
            COREDNS,
            Answer::Status(503, "the server is starting", ""),
            1,
        );
        api.answer(Method::GET, COREDNS, Answer::Close, 1);
        api.hang_up();
        watched(&api, 2).await;
        api.put(COREDNS, deployment(2, 2, 2));
    };
    let ((), waited) = tokio::join!(trouble, wait_ready(&client, &addon, LIMIT, &()));
    waited.unwrap();
}

#[tokio::test]
async fn a_time_out_tells_the_pods_and_the_last_events() {
    let api = FakeApi::start().await;
    api.put(COREDNS, deployment(1, 1, 0));
    let pods = "/api/v1/namespaces/kube-system/pods";
    let labels = json!({"k8s-app": "kube-dns"});
    api.put(
        &format!("{pods}/coredns-1"),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "coredns-1", "namespace": "kube-system", "labels": labels},
            "status": {"phase": "Pending", "containerStatuses": [{
                "name": "coredns", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}},
            }]},
        }),
    );
    api.put(
        &format!("{pods}/coredns-2"),
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "coredns-2", "namespace": "kube-system", "labels": labels},
            "status": {"phase": "Running", "containerStatuses": [{
                "name": "coredns", "image": "", "imageID": "", "ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
            }]},
        }),
    );
    api.put(&format!("{pods}/other"), json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "other", "namespace": "kube-system"},
        "status": {"phase": "Failed"},
    }));
    let events = "/api/v1/namespaces/kube-system/events";
    for (name, object, minute, message) in [
        ("a", "coredns-1", 3, "newest"),
        ("b", "coredns-5d9f", 2, "of its ReplicaSet"),
        ("c", "other", 4, "of another"),
        ("d", "coredns", 1, "oldest"),
    ] {
        api.put(&format!("{events}/{name}"), json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": name, "namespace": "kube-system"},
            "involvedObject": {"kind": "Thing", "name": object}, "reason": "Why", "message": message,
            "count": minute, "lastTimestamp": format!("2026-01-01T00:0{minute}:00Z"),
        }));
    }
    let limit = Duration::from_secs(2);
    let error = wait_ready(&api.client(), &builtin("dns"), limit, &())
        .await
        .unwrap_err();
    let WaitError::TimedOut(why) = &error else {
        panic!("{error}")
    };
    assert_eq!(
        error.to_string(),
        format!(
            "add-on dns is not ready after {:.0} s: Deployment kube-system/coredns: 0 of 1 pods are available",
            why.waited.as_secs_f32()
        )
    );
    assert!(why.row.hint.contains("logs deployment/coredns"));
    assert_eq!(
        why.pods,
        [
            "pod coredns-1: Pending, container coredns waits: ImagePullBackOff (Back-off pulling)",
            "pod coredns-2: Running, container coredns waits: CrashLoopBackOff; \
             it ended before with 1 (Error), 3 restarts",
        ]
    );
    assert_eq!(
        why.events,
        [
            "Thing coredns: Why: oldest",
            "Thing coredns-5d9f: Why: of its ReplicaSet (2 times)",
            "Thing coredns-1: Why: newest (3 times)",
        ]
    );
}

const JOB: &str = "[[readiness]]\nkind = \"Job\"\nnamespace = \"default\"\nname = \"setup\"\n\
                   condition = \"Complete\"\nhint = \"look at its pod\"\n";
const JOB_PATH: &str = "/apis/batch/v1/namespaces/default/jobs/setup";
const JOB_MANIFEST: &str = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: setup}\n";

#[tokio::test]
async fn a_job_that_failed_ends_the_wait_at_once() {
    let api = FakeApi::start().await;
    let (addon, client) = (own(JOB_MANIFEST, JOB), api.client());
    apply(&client, &addon, &values(), LIMIT, &()).await.unwrap();
    let failing = async {
        watched(&api, 1).await;
        let failed = json!({"type": "Failed", "status": "True", "reason": "BackoffLimitExceeded"});
        api.put_status(JOB_PATH, json!({"conditions": [failed]}));
    };
    let ((), waited) = tokio::join!(failing, wait_ready(&client, &addon, LIMIT, &()));
    let error = waited.unwrap_err();
    assert!(matches!(error, WaitError::Failed(_)), "{error}");
    let expected = "Job default/setup: it failed: BackoffLimitExceeded";
    assert!(error.to_string().ends_with(expected), "{error}");
}

#[tokio::test]
async fn a_status_condition_is_waited_for() {
    let api = FakeApi::start().await;
    let (addon, client) = (own(JOB_MANIFEST, JOB), api.client());
    apply(&client, &addon, &values(), LIMIT, &()).await.unwrap();
    let complete = |status: &str| json!({"conditions": [{"type": "Complete", "status": status}]});
    api.put_status(JOB_PATH, complete("False"));
    let limit = Duration::from_secs(2);
    let error = wait_ready(&client, &addon, limit, &())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("Job default/setup: it is not Complete"),
        "{error}"
    );
    api.put_status(JOB_PATH, complete("True"));
    wait_ready(&client, &addon, LIMIT, &()).await.unwrap();
}

#[tokio::test]
async fn an_api_server_that_refuses_to_tell_is_not_asked_again() {
    let api = FakeApi::start().await;
    api.answer(
        Method::GET,
        COREDNS,
        Answer::Status(401, "Unauthorized", ""),
        1,
    );
    let started = Instant::now();
    let error = wait_ready(&api.client(), &builtin("dns"), LIMIT, &())
        .await
        .unwrap_err();
    assert!(matches!(error, WaitError::Refused { .. }), "{error}");
    assert!(error.to_string().contains("Unauthorized"), "{error}");
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn an_add_on_is_removed_in_reverse_and_only_once() {
    let api = FakeApi::start().await;
    let (addon, client, notes) = (builtin("dns"), api.client(), Notes::default());
    let applied = apply(&client, &addon, &values(), LIMIT, &()).await.unwrap();
    let mut removed = remove(&client, &addon, &values(), LIMIT, &notes)
        .await
        .unwrap();
    removed.reverse();
    assert_eq!(removed, applied);
    assert!(api.object(COREDNS).is_none());
    let deletions: Vec<_> = api
        .requests()
        .into_iter()
        .filter(|request| request.method == Method::DELETE)
        .collect();
    assert_eq!(deletions[0].path, COREDNS);
    assert!(
        deletions
            .iter()
            .all(|request| request.body["propagationPolicy"] == "Foreground")
    );
    assert_eq!(notes.take().len(), 6);
    remove(&client, &addon, &values(), LIMIT, &())
        .await
        .unwrap();
}

#[tokio::test]
async fn the_cluster_s_own_namespaces_stay() {
    let api = FakeApi::start().await;
    let manifest = "apiVersion: v1\nkind: Namespace\nmetadata: {name: kube-system}\n---\n\
                    apiVersion: v1\nkind: Namespace\nmetadata: {name: boats}\n";
    let (addon, client) = (own(manifest, ""), api.client());
    apply(&client, &addon, &values(), LIMIT, &()).await.unwrap();
    remove(&client, &addon, &values(), LIMIT, &())
        .await
        .unwrap();
    assert!(api.object("/api/v1/namespaces/kube-system").is_some());
    assert!(api.object("/api/v1/namespaces/boats").is_none());
}

#[tokio::test]
async fn what_holds_an_object_is_named() {
    let api = FakeApi::start().await;
    let manifest =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, finalizers: [example.com/hold]}\n";
    let (addon, client) = (own(manifest, ""), api.client());
    apply(&client, &addon, &values(), LIMIT, &()).await.unwrap();
    let limit = Duration::from_secs(2);
    let error = remove(&client, &addon, &values(), limit, &())
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("ConfigMap default/a is still being deleted"),
        "{error}"
    );
    assert!(error.ends_with("finalizers: example.com/hold"), "{error}");
}
