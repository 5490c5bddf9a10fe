//! Volumes.

use serde_json::{Value, json};

use super::{Folder, of, refused, web, with};
use crate::convert::FileKind;

fn data(text: &str) -> super::Converted {
    of(&format!(
        "services:\n  web:\n    image: x\n    volumes:\n    - {text}\nvolumes:\n  data:\n"
    ))
}

#[test]
fn a_named_volume_is_a_claim() {
    let converted = data("data:/var/lib/data");
    assert_eq!(converted.warned(), []);
    assert_eq!(
        converted.names(),
        [
            "PersistentVolumeClaim/data",
            "Service/web",
            "Deployment/web"
        ]
    );
    let claim = converted.object("PersistentVolumeClaim", "data");
    assert_eq!(claim["spec"]["accessModes"], json!(["ReadWriteOnce"]));
    assert_eq!(claim["spec"]["resources"]["requests"]["storage"], "1Gi");
    let pod = converted.pod("web");
    let volume = json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
    assert_eq!(pod["volumes"], volume);
    let mount = json!([{"mountPath": "/var/lib/data", "name": "data"}]);
    assert_eq!(pod["containers"][0]["volumeMounts"], mount);
}

#[test]
fn the_long_form_says_the_same_and_more() {
    let converted = data(
        "{type: volume, source: data, target: /d, read_only: true, volume: {subpath: /a/b, \
         nocopy: true}}",
    );
    let expected = json!([
        {"mountPath": "/d", "name": "data", "readOnly": true, "subPath": "a/b"},
    ]);
    assert_eq!(converted.container()["volumeMounts"], expected);
    assert_eq!(converted.warned(), []);
}

#[test]
fn a_volume_that_the_file_does_not_have_is_refused() {
    let (line, says) = refused("services:\n  web:\n    image: x\n    volumes:\n    - data:/d\n");
    assert_eq!(line, 5);
    assert!(says.contains("no data"), "{says}");
}

#[test]
fn only_volumes_that_are_used_are_made() {
    let converted = of("services: {web: {image: x}}\nvolumes: {data: , other: }\n");
    assert_eq!(converted.names(), ["Service/web", "Deployment/web"]);
}

#[test]
fn services_that_share_a_volume_are_told_that_it_begins_empty() {
    let converted = of(
        "services:\n  a:\n    image: x\n    volumes: ['data:/d']\n  b:\n    image: y\n    \
         volumes: ['data:/d']\nvolumes: {data: }\n",
    );
    assert_eq!(converted.warned(), [(7, "services.b.volumes[0]")]);
    let claims = converted.names();
    let claims = claims.iter().filter(|name| name.starts_with("Persistent"));
    assert_eq!(claims.count(), 1);
}

#[test]
fn a_volume_of_another_name_or_of_others_is_called_so() {
    let text = "services: {web: {image: x, volumes: ['va:/a', 'vb:/b', 'vc:/c']}}\nvolumes:\n  \
                va: {name: my_a}\n  vb: {external: true, name: theirs}\n  vc: {external: {name: old}}\n";
    let converted = of(text);
    let pod = converted.pod("web");
    let claims = pod["volumes"].as_array().expect("volumes").iter();
    let claims: Vec<_> = claims
        .map(|volume| volume["persistentVolumeClaim"]["claimName"].clone())
        .collect();
    assert_eq!(claims, ["my-a", "theirs", "old"]);
    assert_eq!(converted.warned(), [(4, "volumes.vb"), (5, "volumes.vc")]);
    assert!(
        converted
            .names()
            .iter()
            .all(|name| name != "PersistentVolumeClaim/theirs")
    );
}

#[test]
fn dockers_own_driver_binds_paths_and_makes_memory() {
    let text = "services: {web: {image: x, volumes: ['va:/a', 'vb:/b', 'vc:/c']}}\nvolumes:\n  \
                va: {driver: local, driver_opts: {type: none, o: bind, device: ./x}}\n  \
                vb: {driver_opts: {type: tmpfs, o: 'uid=1,size=64m', device: tmpfs}}\n  \
                vc: {driver_opts: {type: nfs, o: 'addr=1.2.3.4', device: ':/x'}}\n";
    let files = Folder(&[("./x/", "")]);
    let converted = with(text, &files);
    let volumes = converted.pod("web")["volumes"].clone();
    assert_eq!(volumes[0]["hostPath"]["path"], "/work/shop/x");
    assert_eq!(
        volumes[1]["emptyDir"],
        json!({"medium": "Memory", "sizeLimit": "64Mi"})
    );
    assert_eq!(volumes[2]["persistentVolumeClaim"]["claimName"], "vc");
    let paths = [
        (1, "services.web.volumes[0]"),
        (5, "volumes.vc.driver_opts"),
    ];
    assert_eq!(converted.warned(), paths);
}

fn bound(entry: &str, files: &[(&str, &str)]) -> (Value, super::Converted) {
    let text = format!("services:\n  web:\n    image: x\n    volumes:\n    - {entry}\n");
    let converted = with(&text, &Folder(files));
    (
        converted.pod("web")["volumes"][0]["hostPath"].clone(),
        converted,
    )
}

#[test]
fn a_bound_folder_is_the_machines_and_has_to_be_mounted_there() {
    let (path, converted) = bound("./src:/app:ro", &[("./src/", "")]);
    assert_eq!(path, json!({"path": "/work/shop/src", "type": "Directory"}));
    assert!(
        converted
            .warning()
            .contains("coracle mount ./src:/work/shop/src")
    );
    assert_eq!(converted.warned(), [(5, "services.web.volumes[0]")]);
    let told = &converted.0.host_paths[0];
    assert_eq!(
        (told.written.as_str(), told.path.as_str()),
        ("./src", "/work/shop/src")
    );
    assert_eq!(
        (told.kind, told.read_only, told.line),
        (Some(FileKind::Folder), true, 5)
    );
}

#[test]
fn what_is_mounted_already_is_not_told() {
    struct Mounted;
    impl crate::convert::Files for Mounted {
        fn read(&self, _: &str) -> std::io::Result<Vec<u8>> {
            Err(std::io::ErrorKind::NotFound.into())
        }
        fn kind(&self, _: &str) -> Option<FileKind> {
            Some(FileKind::Folder)
        }
        fn is_mounted(&self, path: &str) -> bool {
            path == "/work/shop/src"
        }
    }
    let text = "services:\n  web:\n    image: x\n    volumes: ['./src:/app', './other:/o']\n";
    let converted = with(text, &Mounted);
    assert_eq!(converted.warned(), [(4, "services.web.volumes[1]")]);
    assert_eq!(converted.0.host_paths.len(), 2);
}

#[test]
fn a_bound_file_comes_with_its_folder() {
    let (path, converted) = bound("./conf/x.conf:/etc/x.conf", &[("./conf/x.conf", "")]);
    assert_eq!(path["type"], "File");
    assert!(
        converted
            .warning()
            .contains("coracle mount ./conf:/work/shop/conf")
    );
}

#[test]
fn a_path_that_is_not_there_is_made_in_the_machine_where_compose_makes_it() {
    let (path, _) = bound("./data:/data", &[]);
    assert_eq!(path["type"], "DirectoryOrCreate");
    let long = "{type: bind, source: ./data, target: /d, bind: {create_host_path: false}}";
    assert_eq!(bound(long, &[]).0["type"], json!(null));
}

#[test]
fn only_a_privileged_container_shows_its_mounts() {
    let mounted = |text: &str| {
        let converted = web(&format!("volumes: ['/srv/x:/x:rshared']\n{text}"));
        let mounts = converted.container()["volumeMounts"].clone();
        (
            mounts[0]["mountPropagation"].clone(),
            converted.warned().len(),
        )
    };
    assert_eq!(mounted("privileged: true"), (json!("Bidirectional"), 1));
    assert_eq!(mounted(""), (json!("HostToContainer"), 2));
}

#[test]
fn what_the_machine_has_of_its_own_is_told() {
    let (path, converted) = bound("/var/run/docker.sock:/var/run/docker.sock", &[]);
    assert_eq!(path, json!({"path": "/var/run/docker.sock"}));
    assert!(converted.warning().contains("the machine's own"));
    assert_eq!(converted.0.host_paths, []);
}

#[test]
fn a_home_and_a_drive_are_paths() {
    assert_eq!(bound("~/.aws:/aws", &[]).0["path"], "/home/me/.aws");
    let (path, converted) = bound("C:\\x:/x", &[]);
    assert_eq!(path, json!(null));
    assert!(converted.warning().contains("left out"));
}

#[test]
fn a_volume_without_a_name_begins_empty_and_that_is_told() {
    let converted = web("volumes: [/app/node_modules]");
    assert_eq!(
        converted.pod("web")["volumes"],
        json!([{"name": "empty", "emptyDir": {}}])
    );
    assert_eq!(converted.warned(), [(4, "services.web.volumes[0]")]);
}

#[test]
fn memory_is_mounted_where_the_file_says() {
    let converted = web(
        "tmpfs: [/run, '/tmp:size=64m,mode=1777,uid=5']\nshm_size: 1gb\n\
         volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1048576}}]",
    );
    let pod = converted.pod("web");
    let mounts = pod["containers"][0]["volumeMounts"]
        .as_array()
        .expect("mounts");
    let sizes: Vec<_> = mounts
        .iter()
        .map(|mount| {
            let volumes = pod["volumes"].as_array().expect("volumes").iter();
            let mut volumes = volumes.filter(|volume| volume["name"] == mount["name"]);
            let volume = volumes.next().expect("a volume");
            assert_eq!(volume["emptyDir"]["medium"], "Memory");
            (
                mount["mountPath"].clone(),
                volume["emptyDir"]["sizeLimit"].clone(),
            )
        })
        .collect();
    let expected = [
        (json!("/t"), json!("1Mi")),
        (json!("/run"), json!(null)),
        (json!("/tmp"), json!("64Mi")),
        (json!("/dev/shm"), json!("1Gi")),
    ];
    assert_eq!(sizes, expected);
    assert_eq!(converted.warned(), [(4, "services.web.tmpfs[1]")]);
}

#[test]
fn files_of_an_image_are_mounted() {
    let converted = web("volumes: [{type: image, source: x:1, target: /x, image: {subpath: a}}]");
    let expected = json!({"pullPolicy": "IfNotPresent", "reference": "x:1"});
    assert_eq!(converted.pod("web")["volumes"][0]["image"], expected);
    assert_eq!(converted.container()["volumeMounts"][0]["subPath"], "a");
}

#[test]
fn of_two_mounts_at_one_place_the_later_counts() {
    let converted =
        of("services: {web: {image: x, volumes: ['va:/d', 'vb:/d/']}}\nvolumes: {va: , vb: }\n");
    let pod = converted.pod("web");
    assert_eq!(pod["volumes"].as_array().map(Vec::len), Some(1));
    assert_eq!(pod["volumes"][0]["name"], "vb");
}

#[test]
fn a_place_that_is_no_path_is_refused() {
    for entry in [
        "data:relative",
        "data:/",
        "':/x'",
        "{type: volume, source: data}",
    ] {
        let text = format!(
            "services:\n  web:\n    image: x\n    volumes:\n    - {entry}\nvolumes: {{data: }}\n"
        );
        assert_eq!(refused(&text).0, 5, "{entry}");
    }
}
