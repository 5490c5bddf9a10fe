//! The host's names.

use coracle_tests::Profile;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

const NAMES: [&str; 2] = ["host.coracle.internal", "host.docker.internal"];

pub(super) fn lead_to_the_host(cluster: Profile<'_>) {
    for name in NAMES {
        let line = cluster.inside(&format!("getent ahostsv4 {name}"));
        assert!(line.starts_with("10.0.2.2 "), "{line}");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 4096]);
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Length: 13\r\nConnection: close\r\n\r\nfrom the host";
        stream.write_all(answer.as_bytes()).unwrap();
    });
    let answer = cluster.inside(&format!("curl -sS http://{}:{port}/", NAMES[0]));
    assert_eq!(answer, "from the host");
    server.join().unwrap();

    // Each of the answers is told, also that there is no address of IPv6.
    let script = format!(
        "for name in {}; do nslookup $name; echo end; done; true",
        NAMES.join(" ")
    );
    let pod = format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: asks}}, spec: {{restartPolicy: Never, \
         containers: [{{name: asks, image: coracle.internal/busybox:1.37, \
         command: [sh, -c, '{script}']}}]}}}}"
    );
    cluster.apply(&pod);
    cluster.kubectl("wait pod/asks --for=jsonpath={.status.phase}=Succeeded --timeout=300s");
    let said = cluster.kubectl("logs asks");
    let answers: Vec<&str> = said.split("end").take(NAMES.len()).collect();
    let are_the_host = answers.iter().all(|answer| answer.contains("10.0.2.2"));
    assert!(are_the_host && answers.len() == NAMES.len(), "{said}");
    cluster.kubectl("delete pod asks --now");
}
