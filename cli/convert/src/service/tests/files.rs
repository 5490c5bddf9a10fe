//! Secrets and configs.

use serde_json::json;

use super::{Folder, refused, with};

const TEXT: &str = "services:
  web:
    image: x
    secrets:
    - password
    - {source: token, target: /etc/token, mode: 0400, uid: '1000'}
    configs:
    - site
    - source: inline
      target: conf/inline.txt
secrets:
  password: {file: ./password.txt}
  token: {environment: SHELL_SET}
  unused: {file: ./none}
configs:
  site: {file: ./site.conf}
  inline: {content: \"tag ${TAG}\"}
";

#[test]
fn contents_come_from_files_variables_and_the_file_itself() {
    let files = Folder(&[
        ("./password.txt", "geheim\n"),
        ("./site.conf", "listen 80;\n"),
    ]);
    let converted = with(TEXT, &files);
    let expected = [
        "ConfigMap/site",
        "ConfigMap/inline",
        "Secret/password",
        "Secret/token",
        "Service/web",
        "Deployment/web",
    ];
    assert_eq!(converted.names(), expected);
    let password = converted.object("Secret", "password");
    assert_eq!(password["data"], json!({"password": "Z2VoZWltCg=="}));
    let token = converted.object("Secret", "token");
    assert_eq!(token["data"]["token"], "ZnJvbSB0aGUgc2hlbGw=");
    let site = converted.object("ConfigMap", "site");
    assert_eq!(site["data"], json!({"site": "listen 80;\n"}));
    assert_eq!(
        converted.object("ConfigMap", "inline")["data"]["inline"],
        "tag 7"
    );
}

#[test]
fn each_is_a_file_where_compose_has_it() {
    let files = Folder(&[("./password.txt", "x"), ("./site.conf", "y")]);
    let converted = with(TEXT, &files);
    let mounts = converted.container()["volumeMounts"].clone();
    let mounts = mounts.as_array().expect("mounts").iter();
    let mounts: Vec<_> = mounts
        .map(|mount| {
            assert_eq!(mount["readOnly"], true);
            let text = |key: &str| mount[key].as_str().expect(key).to_owned();
            (text("mountPath"), text("name"), text("subPath"))
        })
        .collect();
    let expected = [
        ("/site", "config-site", "site"),
        ("/conf/inline.txt", "config-inline", "inline"),
        ("/run/secrets/password", "secret-password", "password"),
        ("/etc/token", "secret-token", "token"),
    ];
    let expected = expected.map(|(one, two, three)| (one.into(), two.into(), three.into()));
    assert_eq!(mounts, expected);
    let volumes = converted.pod("web")["volumes"].clone();
    assert_eq!(
        volumes[2]["secret"],
        json!({"defaultMode": 0o444, "secretName": "password"})
    );
    assert_eq!(volumes[3]["secret"]["defaultMode"], 0o400);
    assert_eq!(converted.warned(), [(6, "services.web.secrets[1].uid")]);
}

#[test]
fn what_others_make_has_to_be_there_and_that_is_told() {
    let text =
        "services: {web: {image: x, secrets: [a]}}\nsecrets:\n  a: {external: true, name: b}\n";
    let converted = with(text, &Folder(&[]));
    assert_eq!(converted.warned(), [(3, "secrets.a")]);
    assert_eq!(
        converted.pod("web")["volumes"][0]["secret"]["secretName"],
        "b"
    );
    assert_eq!(converted.names(), ["Service/web", "Deployment/web"]);
}

#[test]
fn bytes_that_are_no_text_stay_bytes() {
    struct Bytes;
    impl crate::convert::Files for Bytes {
        fn read(&self, _: &str) -> std::io::Result<Vec<u8>> {
            Ok(vec![0xff, 0])
        }
        fn kind(&self, _: &str) -> Option<crate::convert::FileKind> {
            None
        }
    }
    let text = "services: {web: {image: x, configs: [a]}}\nconfigs: {a: {file: a}}\n";
    let map = with(text, &Bytes).object("ConfigMap", "a");
    assert_eq!(map["binaryData"], json!({"a": "/wA="}));
    assert_eq!(map["data"], json!(null));
}

#[test]
fn what_is_not_there_is_refused_with_its_line() {
    for (definition, line) in [
        ("secrets:\n  a: {file: none}\n", 3),
        ("secrets:\n  a: {environment: NOT_SET}\n", 3),
        ("secrets:\n  a: {}\n", 3),
        ("", 1),
    ] {
        let text = format!("services: {{web: {{image: x, secrets: [a]}}}}\n{definition}");
        assert_eq!(refused(&text).0, line, "{definition}");
    }
}
