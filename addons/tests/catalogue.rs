//! The catalogue: what is built in, what a user's folder adds, and what is said about a broken one.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a failure ends the test")]

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use coracle_addons::{
    ADDON_LABEL, Addon, Catalogue, Enabled, LookupError, MANAGED_BY_LABEL, Origin, Values, render,
};
use serde_json::json;

fn values() -> Values {
    Values::new(
        IpAddr::from([10, 96, 0, 10]),
        "cluster.local",
        "coracle",
        IpAddr::from([10, 0, 2, 2]),
    )
}

fn write(folder: &Path, file: &str, text: &str) {
    let path = folder.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::File::create(&path)
        .and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
        .unwrap();
}

fn definition(name: &str, more: &str) -> String {
    format!(
        "name = \"{name}\"\ndescription = \"of a test\"\nversion = \"1\"\nenabled = \"optional\"\n\
         licence = \"Apache-2.0\"\nsource = \"https://example.com\"\n{more}"
    )
}

const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: own\ndata:\n  dns: {{ dns_address }}\n";

#[test]
fn dns_and_storage_are_in_every_cluster() {
    let catalogue = Catalogue::builtin().unwrap();
    let names: Vec<_> = catalogue
        .default_addons()
        .map(|addon| addon.name.as_str())
        .collect();
    assert_eq!(names, ["dns", "storage"]);
    for addon in catalogue.addons() {
        assert_eq!(addon.enabled, Enabled::Always, "{}", addon.name);
        assert_eq!(addon.origin, Origin::Builtin);
        assert!(
            !addon.readiness.is_empty(),
            "{} says when it is ready",
            addon.name
        );
    }
}

/// The image builder takes its versions from the modules; the names have to agree.
#[test]
fn versions_are_those_of_the_modules_that_are_built() {
    let catalogue = Catalogue::builtin().unwrap();
    for (addon, component, module) in [
        ("dns", "coredns", "github.com/coredns/coredns"),
        (
            "storage",
            "local-path-provisioner",
            "github.com/rancher/local-path-provisioner",
        ),
    ] {
        let addon = catalogue.get(addon).unwrap();
        let file = format!(
            "{}/../iso/components/{component}/go.mod",
            env!("CARGO_MANIFEST_DIR")
        );
        let modules = fs::read_to_string(&file).unwrap();
        let built = modules
            .lines()
            .find_map(|line| {
                line.trim()
                    .strip_prefix("require ")
                    .unwrap_or(line.trim())
                    .strip_prefix(module)
            })
            .and_then(|rest| rest.split_whitespace().next())
            .unwrap_or_else(|| panic!("{file} requires {module}"));
        assert_eq!(format!("v{}", addon.version), built, "{file}");
        let reference = format!("coracle.internal/{component}:{}", addon.version);
        assert!(
            addon
                .images
                .iter()
                .any(|image| image.reference == reference),
            "{reference}"
        );
    }
}

#[test]
fn a_folder_adds_its_add_ons_and_lists_what_is_broken() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    write(
        &at("good"),
        "addon.toml",
        &definition("good", "dependencies = [\"dns\"]\n"),
    );
    write(&at("good"), "manifests/map.yaml", CONFIG_MAP);
    write(
        &at("syntax"),
        "addon.toml",
        "name = \"syntax\"\nversion = = 1\n",
    );
    write(
        &at("key"),
        "addon.toml",
        &definition("key", "colour = \"red\"\n"),
    );
    write(&at("template"), "addon.toml", &definition("template", ""));
    write(
        &at("template"),
        "manifests/map.yaml",
        "kind: A\nname: {{ dns_address }\nb: 1\n",
    );
    write(&at("empty"), "addon.toml", &definition("empty", ""));
    write(&at("bare"), "manifests/map.yaml", CONFIG_MAP);
    write(&at("renamed"), "addon.toml", &definition("other", ""));
    write(&at("dns"), "addon.toml", &definition("dns", ""));
    write(&at("notes.txt"), "x", "a folder without an add-on");
    write(
        root.path(),
        "README",
        "a file beside the folders is none of ours",
    );

    let catalogue = Catalogue::with_folder(root.path()).unwrap();
    let good = catalogue.get("good").unwrap();
    assert_eq!(good.origin, Origin::Folder(at("good")));
    let broken: BTreeMap<_, _> = catalogue
        .broken()
        .iter()
        .map(|broken| (broken.name.as_str(), broken.reason.as_str()))
        .collect();
    let expect = |name: &str, part: &str| {
        let reason = broken
            .get(name)
            .unwrap_or_else(|| panic!("{name} is broken: {broken:?}"));
        assert!(reason.contains(part), "{name}: {reason}");
    };
    assert_eq!(broken.len(), 8, "{broken:?}");
    expect("syntax", "line 2");
    expect("key", "colour");
    expect("template", "manifests/map.yaml, line 2");
    expect("empty", "no manifest");
    expect("bare", "no addon.toml");
    expect("renamed", "the name is \"other\"");
    expect("dns", "built-in add-on");
    expect("notes.txt", "no addon.toml");
    assert_eq!(catalogue.get("dns").unwrap().origin, Origin::Builtin);
    assert!(matches!(catalogue.get("key"), Err(LookupError::Broken(_))));
}

#[test]
fn a_folder_that_is_not_there_adds_nothing() {
    let root = tempfile::tempdir().unwrap();
    let catalogue = Catalogue::with_folder(&root.path().join("none")).unwrap();
    assert_eq!(
        catalogue.addons().count(),
        Catalogue::builtin().unwrap().addons().count()
    );
    let file = root.path().join("file");
    write(root.path(), "file", "not a folder");
    let error = Catalogue::with_folder(&file).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("cannot read the folder of add-ons"),
        "{error}"
    );
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let catalogue = Catalogue::builtin().unwrap();
    let error = catalogue.get("storrage").unwrap_err();
    assert_eq!(
        error,
        LookupError::Unknown {
            name: "storrage".into(),
            nearest: vec!["storage".into()]
        }
    );
    assert_eq!(
        error.to_string(),
        "there is no add-on \"storrage\"; did you mean storage?"
    );
    assert_eq!(
        catalogue.get("xyz").unwrap_err().to_string(),
        "there is no add-on \"xyz\""
    );
}

#[test]
fn what_is_needed_comes_first_and_circles_are_named() {
    let root = tempfile::tempdir().unwrap();
    for (name, needs) in [
        ("web", "[\"cache\", \"dns\"]"),
        ("cache", "[\"storage\"]"),
        ("one", "[\"two\"]"),
        ("two", "[\"one\"]"),
        ("lost", "[\"nowhere\"]"),
    ] {
        let folder = root.path().join(name);
        write(
            &folder,
            "addon.toml",
            &definition(name, &format!("dependencies = {needs}\n")),
        );
        write(&folder, "manifests/map.yaml", CONFIG_MAP);
    }
    let catalogue = Catalogue::with_folder(root.path()).unwrap();
    let order = |names: &[&str]| -> Result<Vec<String>, LookupError> {
        let addons = catalogue.in_order(names.iter().copied())?;
        Ok(addons.into_iter().map(|addon| addon.name.clone()).collect())
    };
    assert_eq!(
        order(&["web", "dns"]).unwrap(),
        ["storage", "cache", "dns", "web"]
    );
    let circle = order(&["one"]).unwrap_err().to_string();
    assert_eq!(
        circle,
        "add-ons depend on each other in a circle: one -> two -> one"
    );
    let lost = order(&["lost"]).unwrap_err().to_string();
    assert!(
        lost.starts_with("the add-on lost depends on nowhere: there is no add-on"),
        "{lost}"
    );
}

fn own(manifest: &str, more: &str) -> (tempfile::TempDir, Addon) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("own");
    write(&folder, "addon.toml", &definition("own", more));
    write(&folder, "manifests/a.yaml", manifest);
    let addon = Addon::read(&folder).unwrap();
    (root, addon)
}

#[test]
fn objects_are_labelled_and_ordered_by_kind() {
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: app, labels: {app: a}}\n---\n\
                # only a comment\n---\napiVersion: example.com/v1\nkind: Boat\nmetadata: {name: b}\n---\n\
                kind: List\napiVersion: v1\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: s}}\n\
                - {apiVersion: v1, kind: Namespace, metadata: {name: n}}\n---\n\
                apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: c}\n";
    let (_root, addon) = own(text, "");
    let objects = render(&addon, &values()).unwrap();
    let kinds: Vec<_> = objects
        .iter()
        .map(|object| object.types.as_ref().unwrap().kind.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "Namespace",
            "CustomResourceDefinition",
            "Service",
            "Deployment",
            "Boat"
        ]
    );
    for object in &objects {
        let labels = object.metadata.labels.as_ref().unwrap();
        assert_eq!(labels[MANAGED_BY_LABEL], "coracle");
        assert_eq!(labels[ADDON_LABEL], "own");
    }
    assert_eq!(objects[3].metadata.labels.as_ref().unwrap()["app"], "a");
}

#[test]
fn a_value_that_is_not_there_is_an_error_with_its_line() {
    let (_root, addon) = own(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ nowhere }}}\n",
        "",
    );
    let error = render(&addon, &values()).unwrap_err().to_string();
    assert!(error.contains("manifests/a.yaml, line 3"), "{error}");
    assert!(error.contains("undefined value"), "{error}");
}

#[test]
fn what_is_not_an_object_is_an_error_with_its_line() {
    for (text, line, part) in [
        (
            "kind: A\n---\napiVersion: v1\nmetadata: {name: x}\n",
            1,
            "apiVersion",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\n# b\nkind: B\napiVersion: v1\n",
            6,
            "metadata.name",
        ),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: B\nkind: C\n",
            5,
            "duplicate",
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n bad: b\n",
            5,
            "line 5",
        ),
        ("- a\n- b\n", 1, "not an object"),
    ] {
        let (_root, addon) = own(text, "");
        let error = render(&addon, &values()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("manifests/a.yaml, line {line} ")),
            "{text}: {error}"
        );
        assert!(error.contains(part), "{text}: {error}");
    }
}

#[test]
fn values_and_images_can_be_configured_and_nothing_else() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  size: \"{{ values.size }}\"\n  image: {{ images.app }}\n";
    let more = "images = [{name = \"app\", reference = \"example.com/app:1\", digest = \"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"}]\nvalues = {size = 3}\n";
    let (_root, addon) = own(text, more);
    let data = |values: &Values| {
        render(&addon, values).map(|mut objects| objects.remove(0).data["data"].take())
    };
    let image =
        "example.com/app:1@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    assert_eq!(
        data(&values()).unwrap(),
        json!({"size": "3", "image": image})
    );
    let mut other = values();
    other.configured.insert("size".into(), json!(4));
    other.images.insert("app".into(), "mirror/app:2".into());
    assert_eq!(
        data(&other).unwrap(),
        json!({"size": "4", "image": "mirror/app:2"})
    );
    other.configured.insert("size".into(), json!("four"));
    assert_eq!(
        data(&other).unwrap_err().to_string(),
        "the add-on own: size has to be a number"
    );
    other.configured = BTreeMap::from([("colour".into(), json!(1))]);
    assert_eq!(
        data(&other).unwrap_err().to_string(),
        "the add-on own has no value \"colour\"; it has size"
    );
    other.configured.clear();
    other.images = BTreeMap::from([("db".into(), "x".into())]);
    assert_eq!(
        data(&other).unwrap_err().to_string(),
        "the add-on own has no image \"db\"; it has app"
    );
}
