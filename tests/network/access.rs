//! Whether pods may connect to the host.

use coracle_tests::{GREETING, Profile, greet};

/// What a pod gets of the server at this port of the host.
fn asked_by_a_pod(cluster: Profile<'_>, port: u16) -> String {
    cluster.in_a_pod(&format!(
        "wget -T 20 -qO- http://host.coracle.internal:{port}/ 2>&1 || true"
    ))
}

pub(super) fn is_asked_for(cluster: Profile<'_>) {
    let port = greet();
    let refused = asked_by_a_pod(cluster, port);
    assert!(refused.contains("onnection refused"), "{refused}");
    // The machine itself may.
    let inside = cluster.inside(&format!("curl -sS http://host.coracle.internal:{port}/"));
    assert_eq!(inside, GREETING);
    cluster.command("stop").ok();
    cluster.command("start --host-access").ok();
    assert_eq!(asked_by_a_pod(cluster, port), GREETING);
    // It stays so until something else is said.
    super::stop_and_start(cluster);
    assert_eq!(asked_by_a_pod(cluster, port), GREETING);
    cluster.command("stop").ok();
    cluster.command("start --host-access=false").ok();
    let refused = asked_by_a_pod(cluster, port);
    assert!(refused.contains("onnection refused"), "{refused}");
}
