//! A network that gives the machine an address of its choice (`network.sh` says which).

use coracle_tests::{Coracle, GREETING, Profile, Run, greet, until};
use std::time::Duration;

/// What QEMU's network gives to the one machine on it, and its router's.
const GIVEN: &str = "192.168.76.15";
const ROUTER: &str = "192.168.76.2";
/// What the cluster knows the machine by, and the host.
const OWN: &str = "10.0.2.15";
const GATEWAY: &str = "10.0.2.2";
/// Beyond any delay of a Service; it only catches what hangs.
const LIMIT: Duration = Duration::from_secs(300);

const PAGE: &str = "
apiVersion: v1
kind: Pod
metadata: {name: page, labels: {app: page}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: page
    image: coracle.internal/busybox:1.37
    command: [sh, -c, 'mkdir /tmp/www; echo \"a page\" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www']
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec:
  type: NodePort
  selector: {app: page}
  ports: [{port: 80, targetPort: 8080, nodePort: 30080}]
";

/// All that a component has read stays as it is everywhere, and leads to what this network has.
pub(super) fn are_ours_and_the_networks(coracle: &Coracle) {
    let cluster = Profile {
        coracle,
        name: "coracle",
    };
    let addresses = cluster.inside("ip -4 -o address");
    let is_at = |card: &str, address: &str| {
        let mut lines = addresses.lines();
        lines.any(|line| {
            let words: Vec<_> = line.split_whitespace().collect();
            words[1].starts_with(card) && words[3].starts_with(&format!("{address}/"))
        })
    };
    assert!(is_at("e", GIVEN), "{addresses}");
    assert!(is_at("lo", OWN), "{addresses}");
    let node =
        "get node -o jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    assert_eq!(cluster.kubectl(node), OWN);

    // The host: for the machine by its name, for pods not at all, by neither address.
    let port = greet();
    let answer = cluster.inside(&format!("curl -sS http://host.coracle.internal:{port}/"));
    assert_eq!(answer, GREETING);
    let script: String = [GATEWAY, ROUTER]
        .map(|host| format!("wget -T 20 -qO- http://{host}:{port}/ 2>&1; "))
        .concat();
    let asked = cluster.in_a_pod(&format!(
        "{script} nslookup kubernetes.default.svc.cluster.local"
    ));
    assert_eq!(asked.matches("onnection refused").count(), 2, "{asked}");
    assert!(asked.contains("10.96.0.1"), "{asked}");

    // A NodePort: for the host at the cluster's address, in the machine at each of its own.
    cluster.apply(PAGE);
    cluster.kubectl("wait pod/page --for=condition=Ready --timeout=300s");
    let address = cluster.command("ip").ok().text().to_owned();
    until("the NodePort answers the host", LIMIT, || {
        let asked = Run::new("curl").args(["-sS", &format!("http://{address}:30080/")]);
        asked.done().stdout.contains("a page")
    });
    for own in [OWN, GIVEN] {
        let page = cluster.inside(&format!("curl -sS http://{own}:30080/"));
        assert_eq!(page, "a page", "at {own}");
    }
}
