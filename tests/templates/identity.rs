//! What two clones of one template have in common, and must not.

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use coracle_tests::{Coracle, Done, until};
use sha2::{Digest as _, Sha256};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

/// kubectl with exactly these credentials against a cluster.
fn kubectl(coracle: &Coracle, name: &str, credentials: &[&str], command: &str) -> Done {
    let ip = coracle.run(&format!("ip -p {name}")).ok().text().to_owned();
    let authority = coracle.machine(name).join("identity/cluster-ca.crt");
    coracle
        .program(coracle.own_kubectl())
        .args(["--kubeconfig=/dev/null", "--server"])
        .args([format!("https://{ip}:6443")])
        .args(["--certificate-authority".into(), authority])
        .args(credentials)
        .args(command.split_whitespace())
        .done()
}

fn accepted(done: &Done) -> bool {
    done.code() == Some(0)
}

/// Fails the test unless the API says that it does not know who asks.
#[track_caller]
fn refused(done: &Done) {
    assert!(
        done.code() != Some(0)
            && ["Unauthorized", "must be logged in", "provide credentials"]
                .iter()
                .any(|words| done.stderr.contains(words)),
        "should be refused for its credentials: {done}"
    );
}

fn file(path: &Path) -> String {
    path.display().to_string()
}

/// A kubeconfig's certificate, a service account's token and a certificate from the CSR API.
pub(super) fn credentials(coracle: &Coracle) {
    let own = |name: &str| {
        let folder = coracle.machine(name).join("identity");
        [
            "--client-certificate".to_owned(),
            file(&folder.join("admin.crt")),
            "--client-key".to_owned(),
            file(&folder.join("admin.key")),
        ]
    };
    let one = own("one");
    let one: Vec<&str> = one.iter().map(String::as_str).collect();
    assert!(accepted(&kubectl(coracle, "one", &one, "get nodes")));
    refused(&kubectl(coracle, "two", &one, "get nodes"));

    // Of an account that was there when the template was made.
    let token = coracle
        .run("kubectl -p one -- create token coredns -n kube-system")
        .ok();
    let token = format!("--token={}", token.text());
    let review = "auth whoami";
    assert!(accepted(&kubectl(coracle, "one", &[&token], review)));
    refused(&kubectl(coracle, "two", &[&token], review));

    let (key, request) = (
        coracle.work().join("csr.key"),
        coracle.work().join("csr.pem"),
    );
    coracle
        .program("openssl")
        .args([
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
        ])
        .args(["-subj", "/CN=somebody/O=people", "-keyout"])
        .args([&key])
        .args(["-out".as_ref(), request.as_os_str()])
        .ok();
    let request = std::fs::read(&request).unwrap();
    let object = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: somebody}}\n\
         spec: {{request: {}, signerName: kubernetes.io/kube-apiserver-client, usages: [client auth]}}\n",
        encoded(&request)
    );
    coracle
        .run("kubectl -p one -- apply -f -")
        .stdin(object)
        .ok();
    coracle
        .run("kubectl -p one -- certificate approve somebody")
        .ok();
    let mut issued = String::new();
    until("the certificate is issued", LIMIT, || {
        let asked =
            coracle.run("kubectl -p one -- get csr somebody -o jsonpath={.status.certificate}");
        issued = asked.done().text().to_owned();
        !issued.is_empty()
    });
    let certificate = coracle.work().join("csr.crt");
    coracle_tests::write(&certificate, decoded(&issued));
    let (certificate, key) = (file(&certificate), file(&key));
    let somebody = ["--client-certificate", &certificate, "--client-key", &key];
    let known = kubectl(coracle, "one", &somebody, review);
    assert!(accepted(&known), "{known}");
    refused(&kubectl(coracle, "two", &somebody, review));
}

fn encoded(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

fn decoded(text: &str) -> Vec<u8> {
    let decoded = BASE64_STANDARD.decode(text);
    decoded.unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Nothing that proves who a cluster is, or that nobody can guess, is in two of them.
pub(super) fn secrets(coracle: &Coracle) {
    let of = |name: &str, command: &str| {
        let asked = coracle.coracle(["ssh", "-p", name, "--", command]).ok();
        asked.text().to_owned()
    };
    for command in [
        "sudo cat /run/coracle/identity/ssh_host_ed25519_key",
        "sudo cat /run/coracle/identity/apiserver.crt",
        "sudo cat /run/coracle/identity/client-ca.key",
        "sudo cat /run/coracle/identity/service-account.key",
        "head -c 32 /dev/urandom | od -An -tx1",
        "cat /proc/sys/kernel/random/uuid",
    ] {
        let (one, two) = (of("one", command), of("two", command));
        assert!(!one.is_empty() && one != two, "{command}: both say {one}");
    }
    let drift = coracle.coracle(["ssh", "-p", "two", "--", "date +%s"]).ok();
    let guest: i64 = drift.text().parse().unwrap();
    let host = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let host = i64::try_from(host.as_secs()).unwrap();
    assert!(
        (host - guest).abs() <= 5,
        "the clocks are {} s apart",
        host - guest
    );
}

/// A Secret that asks for a token gets one that is signed with its own cluster's key, also right after the
/// start: it may be some time until it does.
pub(super) fn token_in_a_secret(coracle: &Coracle) {
    coracle.run("start -p three").ok();
    let secret = "apiVersion: v1\nkind: Secret\ntype: kubernetes.io/service-account-token\n\
                  metadata: {name: token, annotations: {kubernetes.io/service-account.name: default}}\n";
    coracle
        .run("kubectl -p three -- apply -f -")
        .stdin(secret)
        .ok();
    let mut encoded = String::new();
    until("the Secret has a token", LIMIT, || {
        let asked = coracle.run("kubectl -p three -- get secret token -o jsonpath={.data.token}");
        encoded = asked.done().text().to_owned();
        !encoded.is_empty()
    });
    let token = String::from_utf8(decoded(&encoded)).unwrap();
    let known = kubectl(
        coracle,
        "three",
        &[&format!("--token={token}")],
        "auth whoami",
    );
    assert!(accepted(&known), "{known}");
    // The template's key would be believed for a while too.
    let header = token.split('.').next().unwrap();
    let header = BASE64_URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let own = coracle
        .machine("three")
        .join("identity/service-account.pub");
    assert_eq!(header["kid"], key_id(&own), "{header}");
    coracle.delete("three");
}

/// How Kubernetes names a public key in the tokens that it signs: SHA-256 of its DER form, as URL-safe
/// base64.
fn key_id(pem: &Path) -> String {
    let pem = std::fs::read_to_string(pem).unwrap();
    let der: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(decoded(&der)))
}

/// Where a reader of random numbers waits.
const GATE: &str = "/run/gate";

/// Leaves a program in a machine that is still to be frozen: it has opened the kernel's random numbers
/// and stands still until somebody opens the gate, and then reads.
pub(super) fn leave_a_reader(coracle: &Coracle, name: &str) {
    let reader = format!(
        "sudo mkfifo -m 666 {GATE} && \
         {{ setsid dd if=/dev/urandom of={GATE} bs=32 count=1 > /dev/null 2>&1 < /dev/null & }}"
    );
    let left = coracle.coracle(["ssh", "-p", name, "--", &reader]);
    left.ok();
}

/// What that reader gets, in each of two machines that were one when it began to wait.
pub(super) fn left_readers_differ(coracle: &Coracle) {
    let [one, two] = ["one", "two"].map(|name| {
        let read = format!("timeout 60 od -An -tx1 {GATE}");
        let read = coracle.coracle(["ssh", "-p", name, "--", &read]).ok();
        let bytes = read.text().split_whitespace().count();
        assert_eq!(bytes, 32, "{name}: {read}");
        read.stdout
    });
    assert_ne!(one, two);
    // Other numbers alone could be chance: a copy's kernel says that it reseeded as one. The first goes on
    // under the generation in which it was frozen.
    let log = coracle.coracle(["ssh", "-p", "two", "--", "sudo dmesg"]);
    log.ok().says("crng reseeded due to virtual machine fork");
}

/// A new pod gets a token that the API believes, and finds the API under its name.
pub(super) fn pod(coracle: &Coracle) {
    coracle
        .run("kubectl -p two -- run asks --image=coracle.internal/busybox:1.37 --restart=Never -- sleep 3600")
        .ok();
    coracle
        .run("kubectl -p two -- wait pod/asks --for=condition=Ready --timeout=600s")
        .ok();
    let ask = "nslookup kubernetes.default.svc.cluster.local > /dev/null && \
               cat /var/run/secrets/kubernetes.io/serviceaccount/token";
    let token = coracle
        .coracle([
            "kubectl", "-p", "two", "--", "exec", "asks", "--", "sh", "-c", ask,
        ])
        .ok();
    let token = format!("--token={}", token.text());
    let known = kubectl(coracle, "two", &[&token], "auth whoami");
    assert!(accepted(&known), "{known}");
}
