//! Manifests in the style of 2016 to 2019, and what becomes of them. The expected texts and notes lie beside
//! them, `NAME.now` and `NAME.notes`; `CORACLE_UPDATE_GOLDEN=1` writes them anew, to be read before they are kept.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_migrate::{Weight, is_manifest, migrate};
use k8s_openapi::api::{apps, autoscaling, batch, core, networking, policy, rbac};
use serde::Deserialize as _;
use serde::de::DeserializeOwned;
use serde_yaml::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn golden() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let files = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let is_input = |path: &PathBuf| {
        matches!(
            path.extension().and_then(|one| one.to_str()),
            Some("yaml" | "json")
        )
    };
    let mut files: Vec<PathBuf> = files.filter(is_input).collect();
    files.sort();
    assert!(files.len() >= 11, "{files:?}");
    files
}

/// All objects of a text, by another reader.
fn objects(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|value| !value.is_null())
        .flat_map(|value| match value.get("items") {
            Some(items) => items.as_sequence().unwrap().clone(),
            None => vec![value],
        })
        .collect()
}

fn is<T: DeserializeOwned>(object: &Value) {
    serde_yaml::from_value::<T>(object.clone())
        .unwrap_or_else(|error| panic!("{error}: {object:?}"));
}

/// Whether the API's own types take an object, with all that its kind has to have.
fn is_taken(object: &Value) {
    let word = |key: &str| object[key].as_str().unwrap_or_default();
    match (word("apiVersion"), word("kind")) {
        ("apps/v1", "Deployment") => is::<apps::v1::Deployment>(object),
        ("apps/v1", "StatefulSet") => is::<apps::v1::StatefulSet>(object),
        ("apps/v1", "DaemonSet") => is::<apps::v1::DaemonSet>(object),
        ("apps/v1", "ReplicaSet") => is::<apps::v1::ReplicaSet>(object),
        ("batch/v1", "CronJob") => is::<batch::v1::CronJob>(object),
        ("batch/v1", "Job") => is::<batch::v1::Job>(object),
        ("networking.k8s.io/v1", "Ingress") => is::<networking::v1::Ingress>(object),
        ("networking.k8s.io/v1", "NetworkPolicy") => is::<networking::v1::NetworkPolicy>(object),
        ("policy/v1", "PodDisruptionBudget") => is::<policy::v1::PodDisruptionBudget>(object),
        ("autoscaling/v1", "HorizontalPodAutoscaler") => {
            is::<autoscaling::v1::HorizontalPodAutoscaler>(object);
        }
        ("autoscaling/v2", "HorizontalPodAutoscaler") => {
            is::<autoscaling::v2::HorizontalPodAutoscaler>(object);
        }
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding") => {
            is::<rbac::v1::ClusterRoleBinding>(object);
        }
        ("v1", "Service") => is::<core::v1::Service>(object),
        ("v1", "ConfigMap") => is::<core::v1::ConfigMap>(object),
        other => panic!("no type is known for {other:?}"),
    }
}

#[test]
fn every_file_becomes_what_lies_beside_it() {
    for file in golden() {
        let text = fs::read_to_string(&file).unwrap();
        let migration = migrate(&text).unwrap();
        let notes: Vec<String> = migration
            .notes
            .iter()
            .map(|note| {
                let turn = match note.weight {
                    Weight::Changed => "changed",
                    Weight::Look => "look",
                };
                format!("{turn} {note}\n")
            })
            .collect();
        let (now, beside) = (file.with_extension("now"), file.with_extension("notes"));
        if std::env::var_os("CORACLE_UPDATE_GOLDEN").is_some() {
            fs::write(&now, &migration.text).unwrap();
            fs::write(&beside, notes.concat()).unwrap();
        }
        let read = |path: &Path| fs::read_to_string(path).unwrap();
        assert_eq!(migration.text, read(&now), "{}", file.display());
        assert_eq!(notes.concat(), read(&beside), "{}", file.display());
        assert_eq!(
            migration.is_changed(),
            migration.text != text,
            "{}",
            file.display()
        );
    }
}

#[test]
fn what_comes_out_is_what_the_api_takes() {
    let mut count = 0;
    for file in golden() {
        let text = fs::read_to_string(&file).unwrap();
        let migration = migrate(&text).unwrap();
        assert_eq!(objects(&text).len(), objects(&migration.text).len());
        for object in objects(&migration.text) {
            let stays = ["PodSecurityPolicy", "CustomResourceDefinition"];
            let has_no_pods = object["metadata"]["name"] == "nobody";
            if stays.iter().any(|kind| object["kind"] == *kind) || has_no_pods {
                continue;
            }
            is_taken(&object);
            count += 1;
        }
    }
    assert!(count >= 18, "only {count} objects");
}

#[test]
fn a_second_time_there_is_nothing_to_change() {
    for file in golden() {
        let text = fs::read_to_string(&file).unwrap();
        let once = migrate(&text).unwrap();
        let twice = migrate(&once.text).unwrap();
        assert_eq!(twice.text, once.text, "{}", file.display());
        assert!(!twice.is_changed(), "{:?}", twice.notes);
    }
}

#[test]
fn comments_are_kept() {
    for file in golden() {
        let text = fs::read_to_string(&file).unwrap();
        let now = migrate(&text).unwrap().text;
        let comments = |text: &str| {
            let mut comments = coracle_yaml::comments(text, &(0..text.len())).unwrap();
            comments.sort();
            comments
        };
        assert_eq!(comments(&now), comments(&text), "{}", file.display());
    }
}

#[test]
fn manifests_are_told_from_other_files() {
    assert!(is_manifest("kind: Pod\napiVersion: v1\n").unwrap());
    assert!(!is_manifest("services:\n  web:\n    image: x\n").unwrap());
    assert!(!is_manifest("").unwrap());
    is_manifest("a: [").unwrap_err();
}
