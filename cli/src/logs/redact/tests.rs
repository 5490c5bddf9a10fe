//! Secrets planted in what logs and settings look like.

use super::*;
use serde_json::json;

fn redactor() -> Redactor {
    Redactor::new(Path::new("/home/someone")).unwrap()
}

const KEY: &str = "-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIPlantedPlantedPlantedPlantedPlantedPlantedPlantedPlanted
AwEHoUQDQgAEPlanted==
-----END EC PRIVATE KEY-----
";

#[test]
fn nothing_planted_is_left() {
    let texts = [
        KEY.to_owned(),
        KEY.replace("EC PRIVATE KEY", "CERTIFICATE"),
        KEY.replace("EC PRIVATE KEY", "OPENSSH PRIVATE KEY")
            .replace('\n', "\\n"),
        format!("before {} after", KEY.replace('\n', "\r\n")),
        // Cut off at its end, and at its beginning.
        KEY[..90].to_owned(),
        KEY[40..].to_owned(),
        format!(
            "client-key-data: LS0tLS1CRUdJTiBFQyBQPlanted{}",
            "UExBTlRFRA=="
        ),
        "Authorization: Bearer planted".into(),
        "Authorization: Basic cGxhbnRlZDpwbGFudGVk".into(),
        "request headers: {\"Authorization\":[\"Bearer planted\"]}".into(),
        "Proxy-Authorization=Basic planted".into(),
        "curl -H 'authorization: token planted'".into(),
        "using bearer planted-planted-planted-planted".into(),
        "kubelet --token planted --v=2".into(),
        "kubelet --token=planted --v=2".into(),
        "kubelet --bootstrap-token \"planted\"".into(),
        "mysql --password planted".into(),
        "dsn: host=db password=planted user=me".into(),
        "dsn: host=db PASSWORD='planted planted' user=me".into(),
        "GET /x?access_token=planted&page=2".into(),
        "token: planted\npassword: \"planted \\\" planted\"\n".into(),
        "password: |\n  planted\n  planted\nnext: 1\n".into(),
        "{\"password\": \"planted\", \"token\":\"planted\"}".into(),
        "body={\\\"password\\\":\\\"planted\\\",\\\"n\\\":1}".into(),
        "AWS_SECRET_ACCESS_KEY=planted".into(),
        "password=a&planted,planted;(planted)".into(),
        "Set-Cookie: session=planted; Path=/".into(),
        "DB_PWD=planted".into(),
        "client-secret: planted".into(),
        "{\"auths\":{\"r\":{\"auth\":\"cGxhbnRlZA==planted\"}}}".into(),
        "pulling https://me:planted@registry.example/v2/".into(),
        "pulling https://me:plan@planted@registry.example/v2/".into(),
        "HTTP_PROXY=http://me:planted@proxy:3128".into(),
        "https_proxy=me:planted@proxy:3128".into(),
        "\"httpsProxy\": \"me:planted@proxy:3128\"".into(),
        "seen eyJhbGciOiJSUzI1NiJ9.eyJwbGFudGVkIjoicGxhbnRlZCJ9.planted-planted_planted today"
            .into(),
        "ghp_plantedplantedplanted12".into(),
    ];
    let redactor = redactor();
    for text in texts {
        let redacted = redactor.text(&text);
        let lower = redacted.to_lowercase();
        for secret in ["planted", "cgxhbnr", "uexbtlrf", "ls0tls1", "ahouqdqga"] {
            assert!(!lower.contains(secret), "{text:?} became {redacted:?}");
        }
        assert!(redacted.contains(REMOVED), "{redacted:?}");
    }
}

#[test]
fn what_is_around_a_secret_stays() {
    let redactor = redactor();
    for (text, expected) in [
        (
            "dsn: host=db password=planted user=me",
            "dsn: host=db password=[removed] user=me",
        ),
        (
            "kubelet --token planted --v=2",
            "kubelet --token [removed] --v=2",
        ),
        (
            "http://me:planted@proxy:3128/x",
            "http://[removed]@proxy:3128/x",
        ),
        (
            "GET /x?token=planted&page=2 200",
            "GET /x?token=[removed] 200",
        ),
        (
            "{\"password\": \"planted\", \"n\": 1}",
            "{\"password\": [removed], \"n\": 1}",
        ),
        (
            "a -----BEGIN X-----\nplanted\n-----END X-----\nb",
            "a [removed]\nb",
        ),
        (
            "password: |\n  planted\nnext: 1",
            "password: [removed]next: 1",
        ),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
}

#[test]
fn ordinary_lines_stay_as_they_are() {
    let redactor = redactor();
    for text in [
        "E1125 16:01:15.979231     367 kubelet_node_status.go:396] \"Error getting the current node from lister\" err=\"node \\\"coracle\\\" not found\"",
        "FLAG: --service-account-private-key-file=\"/run/coracle/identity/service-account.key\"",
        "service-account-tokens: I1125 16:01:16 serving.go:386] Generated self-signed cert",
        "FLAG: --authorization-mode=\"[Node,RBAC]\"",
        "invalid bearer token, service account token has expired",
        "https://registry.example/v2/a/manifests/1",
        "mounted volume kube-api-access-x7x2k",
        "image sha256:ef05b169cf80e3ef97c386b1dea8dbfea4e7821207a370cb611b45cbee4b729f",
        "Image: registry.example/me@sha256:ef05b169cf80",
    ] {
        assert_eq!(redactor.text(text), text);
    }
}

#[test]
fn the_home_folder_is_nobodys() {
    let redactor = redactor();
    for (text, expected) in [
        ("/home/someone/.kube/config", "~/.kube/config"),
        ("in /home/someone: it", "in ~: it"),
        ("/home/someone.", "~."),
        ("/home/someones", "/home/someones"),
        ("-I/home/someone/x", "-I~/x"),
        ("path=/home/someone/x,/home/someone/y", "path=~/x,~/y"),
    ] {
        assert_eq!(redactor.text(text), expected);
    }
    assert_eq!(Redactor::new(Path::new("/")).unwrap().text("/etc"), "/etc");
}

#[test]
fn a_home_folder_with_backslashes_is_found_in_json_too() {
    // A path of Windows, as a name below a root that this host knows.
    let redactor = Redactor::new(Path::new(r"/C:\Users\me")).unwrap();
    assert_eq!(redactor.text(r"/C:\Users\me\x"), r"~\x");
    assert_eq!(
        redactor.text(r#"{"a": "/C:\\Users\\me\\x"}"#),
        r#"{"a": "~\\x"}"#
    );
}

#[test]
fn json_stays_json() {
    let mut value = json!({
        "token": "planted",
        "Token": null,
        "automountServiceAccountToken": false,
        "secretName": "of-a-volume",
        "list": [{"clientSecret": "planted"}, "see https://me:planted@host/"],
        "deep": {"text": KEY, "path": "/home/someone/x"},
    });
    redactor().value(&mut value);
    let text = value.to_string();
    assert!(!text.to_lowercase().contains("planted"), "{text}");
    assert_eq!(value["automountServiceAccountToken"], false);
    assert_eq!(value["secretName"], "of-a-volume");
    assert_eq!(value["deep"]["path"], "~/x");
}
