//! The host's names.

use coracle_tests::{GREETING, Profile, greet};

const NAMES: [&str; 2] = ["host.coracle.internal", "host.docker.internal"];

pub(super) fn lead_to_the_host(cluster: Profile<'_>) {
    for name in NAMES {
        let line = cluster.inside(&format!("getent ahostsv4 {name}"));
        assert!(line.starts_with("10.0.2.2 "), "{line}");
    }
    let port = greet();
    let answer = cluster.inside(&format!("curl -sS http://{}:{port}/", NAMES[0]));
    assert_eq!(answer, GREETING);

    // Each of the answers is told, also that there is no address of IPv6.
    let script = format!(
        "for name in {}; do nslookup $name; echo end; done; true",
        NAMES.join(" ")
    );
    let said = cluster.in_a_pod(&script);
    let answers: Vec<&str> = said.split("end").take(NAMES.len()).collect();
    let are_the_host = answers.iter().all(|answer| answer.contains("10.0.2.2"));
    assert!(are_the_host && answers.len() == NAMES.len(), "{said}");
}
