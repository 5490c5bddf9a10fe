//! The file as a whole.

use std::collections::BTreeSet;

use serde_json::json;

use super::{NoFiles, of, refused, source};
use crate::convert::convert;

#[test]
fn the_files_own_name_wins() {
    assert_eq!(of("services: {web: {image: x}}").0.project, "shop");
    assert_eq!(
        of("name: other\nservices: {web: {image: x}}").0.project,
        "other"
    );
    let own = of("name: p${TAG}\nservices: {web: {build: .}}");
    assert_eq!(own.container()["image"], "p7-web");
    let told = of("name: other\nservices: {web: {image: '${COMPOSE_PROJECT_NAME}'}}");
    assert_eq!(told.container()["image"], "other");
    assert_eq!(refused("services: {}\nname: No Name").0, 2);
}

#[test]
fn anchors_merges_and_extensions_are_what_they_are_in_compose() {
    let converted = of(
        "version: '3'\nx-base: &base\n  image: nginx:${TAG}\n  environment: &env {A: 1}\n\
         services:\n  web:\n    <<: *base\n    environment:\n      <<: *env\n      B: 2\n    x-own: 1\n",
    );
    assert_eq!(converted.warned(), []);
    let container = converted.container();
    assert_eq!(container["image"], "nginx:7");
    let expected = json!([{"name": "B", "value": "2"}, {"name": "A", "value": "1"}]);
    assert_eq!(container["env"], expected);
}

#[test]
fn a_line_that_many_services_have_is_warned_of_once() {
    let converted = of("x-base: &base\n  image: nginx\n  ulimits: {nofile: 1}\n\
         services:\n  a: *base\n  b: *base\n  c: {<<: *base}\n");
    assert_eq!(converted.warned(), [(3, "services.a.ulimits")]);
}

#[test]
fn what_no_table_knows_is_told_with_its_line() {
    let converted = of(
        "services:\n  web:\n    image: x\n    imagee: y\n    deploy:\n      placement: {a: b}\n\
         what: 1\n",
    );
    let paths = [
        (4, "services.web.imagee"),
        (6, "services.web.deploy.placement"),
        (7, "what"),
    ];
    assert_eq!(converted.warned(), paths);
}

#[test]
fn a_service_of_no_active_profile_is_left_out() {
    let text =
        "services:\n  web: {image: x, depends_on: [debug]}\n  debug: {image: y, profiles: [dev]}\n";
    let without = of(text);
    assert_eq!(without.names(), ["Service/web", "Deployment/web"]);
    assert_eq!(
        without.warned(),
        [
            (2, "services.web.depends_on[0]"),
            (3, "services.debug.profiles")
        ]
    );
    for profile in ["dev", "*"] {
        let profiles = BTreeSet::from([profile.to_owned()]);
        let mut all = source(text, &NoFiles);
        all.profiles = &profiles;
        let all = convert(&all).expect("a project");
        assert_eq!(all.objects.len(), 4);
        assert_eq!(all.warnings, []);
    }
}

#[test]
fn a_service_goes_on_from_another_one() {
    let converted = of(
        "services:\n  base: {image: x, environment: [A=1], profiles: [never]}\n  web:\n    \
         extends: base\n    profiles: !override []\n    environment: {B: 2}\n",
    );
    let env = converted.container()["env"].clone();
    assert_eq!(env.as_array().map(Vec::len), Some(2));
}

#[test]
fn variables_that_are_missing_are_told_or_demanded() {
    let converted = of("services:\n  web:\n    image: nginx:${NONE}latest\n");
    assert_eq!(converted.warned(), [(3, "services.web.image")]);
    let (line, says) = refused("services:\n  web:\n    image: ${NONE:?name one}\n");
    assert_eq!(line, 3);
    assert_eq!(
        says,
        "compose.yaml:3: services.web.image: the variable NONE is required: name one"
    );
}

#[test]
fn what_is_no_compose_file_is_refused_with_its_line() {
    for (text, line) in [
        ("", 1),
        ("hello", 1),
        ("- a\n", 1),
        ("volumes: {}\n", 1),
        ("services:\n  web: nginx\n", 2),
        ("services:\n  web:\n    image: [a]\n", 3),
        ("services:\n- web\n", 1),
        ("services: {web: {image: x}}\ninclude:\n- other.yaml\n", 2),
        ("services:\n  web: {image: x,\n", 2),
    ] {
        assert_eq!(refused(text).0, line, "{text}");
    }
}

#[test]
fn a_second_document_is_told() {
    let converted = of("services: {web: {image: x}}\n---\nservices: {b: {image: y}}\n");
    assert_eq!(converted.warned().len(), 1);
    assert_eq!(converted.names(), ["Service/web", "Deployment/web"]);
}

#[test]
fn the_same_file_gives_the_same_text() {
    let text = "services:\n  b: {image: x, ports: ['1:1']}\n  a: {image: y, volumes: ['vol:/v']}\n\
                volumes: {vol: }\n";
    let written = || crate::to_yaml(&of(text).0.objects).expect("YAML");
    assert_eq!(written(), written());
    let names = of(text).names();
    assert_eq!(names[0], "PersistentVolumeClaim/vol");
    assert_eq!(
        names[1..4],
        ["Service/b", "Service/b-published", "Service/a"]
    );
}
