//! What the built-in add-ons render to, object by object. To take up an intended change:
//! `CORACLE_UPDATE_GOLDEN=1 cargo test -p coracle-addons --test golden`, and read the difference.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure ends the test")]

use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::{env, fs};

use coracle_addons::{Catalogue, Values, render};

fn check(name: &str) {
    let catalogue = Catalogue::builtin().unwrap();
    let values = Values::new(
        IpAddr::from([10, 96, 0, 10]),
        "cluster.local",
        "coracle",
        IpAddr::from([10, 0, 2, 2]),
    );
    let objects = render(catalogue.get(name).unwrap(), &values).unwrap();
    let documents: Vec<_> = objects
        .iter()
        .map(|object| serde_yaml::to_string(object).unwrap())
        .collect();
    let rendered = documents.join("---\n");
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/{name}.yaml"));
    if env::var_os("CORACLE_UPDATE_GOLDEN").is_some() {
        fs::File::create(&file)
            .unwrap()
            .write_all(rendered.as_bytes())
            .unwrap();
    }
    let golden = fs::read_to_string(&file).unwrap().replace("\r\n", "\n");
    let differs = rendered
        .lines()
        .zip(golden.lines())
        .position(|(now, then)| now != then);
    if let Some(line) = differs {
        panic!(
            "{} line {}: it says {:?}, but {name} renders to {:?}",
            file.display(),
            line + 1,
            golden.lines().nth(line).unwrap(),
            rendered.lines().nth(line).unwrap()
        );
    }
    assert_eq!(
        rendered.lines().count(),
        golden.lines().count(),
        "{}",
        file.display()
    );
}

#[test]
fn dns() {
    check("dns");
}

#[test]
fn storage() {
    check("storage");
}

/// What no golden file can say: the pieces name each other.
#[test]
fn the_service_selects_the_pods_of_dns_at_the_cluster_s_address() {
    let catalogue = Catalogue::builtin().unwrap();
    let values = Values::new(
        IpAddr::from([172, 30, 0, 10]),
        "example.test",
        "coracle",
        IpAddr::from([10, 0, 2, 2]),
    );
    let objects = render(catalogue.get("dns").unwrap(), &values).unwrap();
    let find = |kind: &str| {
        objects
            .iter()
            .find(|object| object.types.as_ref().unwrap().kind == kind)
            .unwrap()
    };
    let (service, deployment) = (find("Service"), find("Deployment"));
    assert_eq!(service.data["spec"]["clusterIP"], "172.30.0.10");
    assert_eq!(
        service.data["spec"]["selector"],
        deployment.data["spec"]["template"]["metadata"]["labels"]
    );
    let corefile = find("ConfigMap").data["data"]["Corefile"].as_str().unwrap();
    assert!(
        corefile.contains("kubernetes example.test in-addr.arpa ip6.arpa {"),
        "{corefile}"
    );
    assert!(!corefile.contains("cluster.local"), "{corefile}");
    // The host's names are not in the cluster's domain.
    let names = "\n        10.0.2.2 host.coracle.internal host.docker.internal\n";
    assert!(corefile.contains(names), "{corefile}");
}
