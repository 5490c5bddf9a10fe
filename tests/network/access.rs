//! Whether pods may connect to the host.

use coracle_tests::Profile;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

/// A server on the loopback address of the host, for as long as the test runs.
fn server() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nfrom the host");
        }
    });
    port
}

/// What a pod gets of it.
fn asked_by_a_pod(cluster: Profile<'_>, port: u16) -> String {
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: asks}}, spec: {{restartPolicy: Never, \
         containers: [{{name: asks, image: coracle.internal/busybox:1.37, command: [sh, -c, \
         'wget -T 20 -qO- http://host.coracle.internal:{port}/ 2>&1 || true']}}]}}}}"
    );
    cluster.apply(&pod);
    cluster.kubectl("wait pod/asks --for=jsonpath={.status.phase}=Succeeded --timeout=300s");
    let said = cluster.kubectl("logs asks");
    cluster.kubectl("delete pod asks --now");
    said
}

pub(super) fn is_asked_for(cluster: Profile<'_>) {
    let port = server();
    let refused = asked_by_a_pod(cluster, port);
    assert!(refused.contains("onnection refused"), "{refused}");
    // The machine itself may.
    let inside = cluster.inside(&format!("curl -sS http://host.coracle.internal:{port}/"));
    assert_eq!(inside, "from the host");
    cluster.command("stop").ok();
    cluster.command("start --host-access").ok();
    assert_eq!(asked_by_a_pod(cluster, port), "from the host");
    // It stays so until something else is said.
    super::stop_and_start(cluster);
    assert_eq!(asked_by_a_pod(cluster, port), "from the host");
    cluster.command("stop").ok();
    cluster.command("start --host-access=false").ok();
    let refused = asked_by_a_pod(cluster, port);
    assert!(refused.contains("onnection refused"), "{refused}");
}
