//! The image fetched by a start, from mirrors and folders: what a person sees of it, and what is left when
//! it ends early. What servers and networks do to it is in the tests of the crate `iso`.

use coracle_tests::{
    Authority, Coracle, Done, Fault, Mirror, OTHER_KUBERNETES, Run, SmallDisk, damage,
    layered_image, signal_pid, write,
};
use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};

/// Bytes of the root file system, which is sent as it is.
const ROOT: usize = 4 << 20;
/// Slow enough to be ended in the middle, whatever the host does.
const SLOWLY: Fault = Fault::Slow(1 << 20);

/// An image of somebody else's, exported.
struct Release {
    /// Where it was made, which is not where it is fetched to.
    made: Coracle,
    digest: String,
    folder: PathBuf,
}

impl Release {
    fn new() -> Self {
        let made = Coracle::new();
        let image = layered_image(&made.home(), ROOT);
        let name = image.file_name().unwrap().to_string_lossy();
        let digest = name.replace('-', ":");
        let folder = made.work().join("exported image");
        let exported = made
            .coracle(["image-export", "--level", "1"])
            .args([&folder])
            .ok();
        assert_eq!(exported.text(), digest);
        Self {
            made,
            digest,
            folder,
        }
    }

    /// The name under which a file is served.
    fn served(&self, file: &str) -> String {
        let index = fs::read(self.folder.join("image.json")).unwrap();
        let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
        let mut parts = index["parts"].as_array().unwrap().iter();
        let part = parts.find(|part| part["file"] == file).unwrap();
        let digest = part["sha256"].as_str().unwrap();
        format!("{}.zst", digest.replace(':', "-"))
    }
}

/// A sandbox without an image that may fetch one from there.
fn with_mirror(mirror: impl AsRef<Path>) -> Coracle {
    let mut coracle = Coracle::new();
    coracle.set("CORACLE_IMAGE_MIRROR", mirror.as_ref());
    coracle
}

fn download(coracle: &Coracle) -> Run {
    coracle.run("start --download-only")
}

/// The files of the one image in a sandbox.
#[track_caller]
fn files(coracle: &Coracle, release: &Release) -> Vec<String> {
    let name = release.digest.replace(':', "-");
    let entries = fs::read_dir(coracle.home().join("images").join(name)).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Names in the folder of images that are no whole image.
fn incoming(coracle: &Coracle) -> Vec<String> {
    let entries = fs::read_dir(coracle.home().join("images")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".incoming")).collect()
}

#[track_caller]
fn nothing_was_made(coracle: &Coracle) {
    assert_eq!(coracle.machines(), Vec::<String>::new());
    assert!(coracle.processes().is_empty());
}

#[test]
fn a_start_without_an_image_fetches_it_and_goes_on() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let mut coracle = with_mirror(mirror.url());
    let start = coracle
        .run("start -o json")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .code_is(130);
    assert_eq!(coracle.machines(), ["coracle"]);
    let events = start.json_lines();
    let of = |kind: &str| {
        let mut found = Vec::new();
        for event in &events {
            if event["type"] == format!("dev.coracle.{kind}") {
                found.push(event["data"].clone());
            }
        }
        found
    };
    let steps: Vec<(String, String)> = of("step")
        .iter()
        .map(|step| {
            let text = |key: &str| step[key].as_str().unwrap().to_owned();
            (text("name"), text("currentstep"))
        })
        .collect();
    let expected = [
        ("check", "1"),
        ("image", "2"),
        ("download", "2"),
        ("machine", "3"),
        ("boot", "4"),
    ];
    let expected = expected.map(|(name, number)| (name.to_owned(), number.to_owned()));
    assert_eq!(steps, expected);
    let progress = of("download.progress");
    let last = progress.last().unwrap();
    assert_eq!(last["progress"], "1.000");
    assert_eq!(last["done"], last["total"]);
    let received: usize = last["received"].as_str().unwrap().parse().unwrap();
    assert!(received > ROOT, "{last}");
    // The next cluster needs nobody.
    mirror.forget();
    let again = coracle
        .run("start -p second")
        .env("CORACLE_FAULT", "interrupt:boot")
        .without_env("CORACLE_IMAGE_MIRROR")
        .done();
    again.fails(130, "CORACLE_INTERRUPTED");
    assert_eq!(mirror.requests().len(), 0);
    assert_eq!(incoming(&coracle), Vec::<String>::new());
    coracle.delete_all();
}

#[test]
fn download_only_fetches_or_confirms_and_makes_no_machine() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let coracle = with_mirror(mirror.url());
    // Nothing of a hypervisor is needed for it.
    let empty = coracle.work().join("empty");
    fs::create_dir(&empty).unwrap();
    let fetched = download(&coracle).env("PATH", &empty).ok();
    assert_eq!(fetched.text(), release.digest);
    let fetched = fetched.says(&mirror.url()).says("with Kubernetes v1.37.2");
    assert!(fetched.stderr.contains("100 %"), "{fetched}");
    let has = [
        "absent",
        "image.json",
        "initrd",
        "kubectl",
        "kubernetes.erofs",
        "root.erofs",
        "vmlinuz",
    ];
    assert_eq!(files(&coracle, &release), has);
    // The current image it is from now on, and its kubectl is this host's.
    let link = coracle.work().join("kubectl");
    std::os::unix::fs::symlink(coracle_tests::binary(), &link).unwrap();
    let kubectl = coracle.program(&link).args(["get", "nodes"]).ok();
    assert_eq!(kubectl.text(), "kubectl get nodes");
    mirror.forget();
    let confirmed = download(&coracle).ok();
    assert_eq!(confirmed.text(), release.digest);
    assert_eq!(mirror.requests().len(), 0);
    // What is damaged is fetched again, and nothing else.
    let image = coracle
        .home()
        .join("images")
        .join(release.digest.replace(':', "-"));
    damage(image.join("root.erofs"));
    coracle
        .run("start")
        .done()
        .fails(68, "CORACLE_IMAGE_DAMAGED")
        .says("root.erofs")
        .advises("--download-only");
    download(&coracle).ok().says("root.erofs");
    assert_eq!(mirror.requests().len(), 2);
    assert_eq!(files(&coracle, &release), has);
    nothing_was_made(&coracle);
    assert!(!coracle.kubeconfig().exists());
    let both = coracle.run("start --download-only --dry-run").done();
    both.fails(14, "CORACLE_USAGE");
}

#[test]
fn only_the_layer_that_is_wanted_is_fetched() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let coracle = with_mirror(mirror.url());
    let engine = download(&coracle).args(["--no-kubernetes"]).ok();
    engine.says("without Kubernetes");
    assert!(!files(&coracle, &release).contains(&"kubernetes.erofs".to_owned()));
    mirror.forget();
    download(&coracle)
        .args(["--kubernetes-version", OTHER_KUBERNETES])
        .ok()
        .says(OTHER_KUBERNETES);
    let has = files(&coracle, &release);
    assert!(
        has.contains(&"kubernetes-other.erofs".to_owned()),
        "{has:?}"
    );
    assert!(!has.contains(&"kubernetes.erofs".to_owned()), "{has:?}");
    assert_eq!(mirror.requests_for(&release.served("root.erofs")).len(), 0);
    // Without a source, a layer that is not there is said.
    let start = coracle.run("start").without_env("CORACLE_IMAGE_MIRROR");
    start
        .done()
        .fails(65, "CORACLE_IMAGE_NOT_FOUND")
        .says("without Kubernetes v1.37.2")
        .advises("CORACLE_IMAGE_MIRROR");
    download(&coracle)
        .args(["--kubernetes-version", "v1.35.0"])
        .done()
        .fails(65, "CORACLE_IMAGE_NOT_FOUND")
        .says("v1.35.0")
        .advises(OTHER_KUBERNETES);
    nothing_was_made(&coracle);
}

/// Ends a download in the middle, and fails the test unless the next one goes on from there.
#[track_caller]
fn is_resumed(end: impl FnOnce(coracle_tests::Started, &Coracle) -> Done) {
    let release = Release::new();
    let served = release.served("root.erofs");
    let mirror = Mirror::of(&release.folder);
    mirror.fault(&served, SLOWLY, 1);
    let coracle = with_mirror(mirror.url());
    let running = download(&coracle).start();
    mirror.until_sent(&served, ROOT / 4 * 3);
    end(running, &coracle);
    let first = mirror.sent();
    assert_eq!(coracle.run("version --client").ok().code(), Some(0));
    assert_eq!(incoming(&coracle).len(), 1);
    mirror.forget();
    download(&coracle).ok();
    let asked = mirror.requests_for(&served);
    assert_eq!((asked.len(), asked[0].status), (1, 206), "{asked:#?}");
    assert!(asked[0].range.unwrap() >= ROOT / 2, "{asked:#?}");
    assert!(mirror.sent() < first, "{first}, then {}", mirror.sent());
    assert!(files(&coracle, &release).contains(&"root.erofs".to_owned()));
    assert_eq!(incoming(&coracle), Vec::<String>::new());
    nothing_was_made(&coracle);
}

#[test]
fn a_download_that_was_killed_is_gone_on_with() {
    is_resumed(|running, coracle| {
        signal_pid(running.pid(), Signal::KILL);
        let killed = running.done().is_killed();
        let images = coracle.home().join("images");
        assert!(!images.join("current").exists());
        killed
    });
}

#[test]
fn a_download_that_was_interrupted_says_so_and_is_gone_on_with() {
    is_resumed(|running, _| {
        signal_pid(running.pid(), Signal::INT);
        running
            .done()
            .fails(130, "CORACLE_INTERRUPTED")
            .says("interrupted while: Downloading the image")
            .advises("--download-only")
    });
}

#[test]
fn two_starts_at_once_fetch_once() {
    let release = Release::new();
    let served = release.served("root.erofs");
    let mirror = Mirror::of(&release.folder);
    mirror.fault(&served, SLOWLY, 1);
    let coracle = with_mirror(mirror.url());
    let first = download(&coracle).start();
    mirror.until_sent(&served, ROOT / 8);
    let holder = format!("process {}", first.pid());
    let hurried = download(&coracle).args(["--wait-timeout", "1s"]).done();
    hurried.fails(11, "CORACLE_LOCK_BUSY").says(&holder);
    let second = download(&coracle).start();
    first.done().ok();
    second.done().ok().says(&format!("waiting for {holder}"));
    assert_eq!(mirror.requests_for(&served).len(), 1);
}

#[test]
fn every_way_to_fail_has_its_error_and_its_advice() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let fails = |sources: &str, code: i32, id: &str| {
        let coracle = with_mirror(sources);
        let failed = download(&coracle).done().fails(code, id);
        nothing_was_made(&coracle);
        let images = coracle.home().join("images");
        assert!(!images.join("current").exists(), "{failed}");
        failed
    };
    let nowhere = release.made.work().join("nowhere").display().to_string();
    fails(&nowhere, 45, "CORACLE_DOWNLOAD_NOT_FOUND")
        .says(&nowhere)
        .advises("coracle image-export");
    // Every source is named with what it did.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    fails(&format!("{nowhere}, {gone}"), 40, "CORACLE_DOWNLOAD")
        .says(&format!("{nowhere} has no image.json"))
        .says(&format!("{gone} cannot be reached"))
        .advises("proxy");
    let served = release.served("root.erofs");
    mirror.fault(&served, Fault::ChangeByte, usize::MAX);
    fails(&mirror.url(), 41, "CORACLE_DOWNLOAD_MISMATCH")
        .says("root.erofs")
        .advises("CORACLE_IMAGE_MIRROR");
    for wrong in ["ftp://hidden@a.example/", "file://a.example/hidden"] {
        let failed = fails(wrong, 48, "CORACLE_IMAGE_MIRROR_INVALID");
        assert!(!failed.stderr.contains("hidden"), "{failed}");
    }
    let secure = Mirror::secure(&release.folder, &Authority::new("company"));
    fails(&secure.url(), 47, "CORACLE_DOWNLOAD_CERTIFICATE").advises("certs/");
}

#[test]
fn the_first_of_several_sources_that_has_it_is_asked() {
    let release = Release::new();
    let (empty, full, last) = (
        Mirror::of(release.made.work().join("nothing")),
        Mirror::of(&release.folder),
        Mirror::of(&release.folder),
    );
    let sources = format!("{}, {},{}", empty.url(), full.url(), last.url());
    let coracle = with_mirror(sources);
    download(&coracle).ok().says("asking the next source");
    assert_eq!(empty.requests().len(), 1);
    assert!(full.requests().len() > 3);
    assert_eq!(last.requests().len(), 0);
}

#[test]
fn a_folder_does_without_any_network() {
    let release = Release::new();
    let url = format!("file://{}", release.folder.display()).replace(' ', "%20");
    let store = release.made.home().join("images").display().to_string();
    for source in [release.folder.display().to_string(), url, store] {
        let mut coracle = with_mirror(&source);
        // A proxy that is not there would be noticed.
        coracle.set("http_proxy", "http://127.0.0.1:9");
        coracle.set("CORACLE_IMAGE_DIGEST", &release.digest);
        let fetched = download(&coracle).ok();
        assert_eq!(fetched.text(), release.digest, "{source}");
        // With a digest that is given, no other is written down.
        assert!(!coracle.home().join("images/current").exists());
        let start = coracle.run("start").interrupted_at("machine");
        assert!(!start.stderr.contains("Downloading"), "{start}");
    }
}

#[test]
fn a_digest_that_is_given_is_insisted_on() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let mut coracle = with_mirror(mirror.url());
    coracle.set("CORACLE_IMAGE_DIGEST", format!("sha256:{}", "0".repeat(64)));
    download(&coracle)
        .done()
        .fails(41, "CORACLE_DOWNLOAD_MISMATCH")
        .says(&release.digest);
    coracle.set("CORACLE_IMAGE_DIGEST", "sha256:0");
    download(&coracle)
        .done()
        .fails(48, "CORACLE_IMAGE_MIRROR_INVALID")
        .says("CORACLE_IMAGE_DIGEST");
    nothing_was_made(&coracle);
}

#[test]
fn a_proxy_is_used_and_an_open_way_needs_a_digest() {
    let release = Release::new();
    let proxy = Mirror::of(&release.folder);
    let mut coracle = with_mirror("http://images.invalid/");
    coracle.set("http_proxy", proxy.url());
    download(&coracle)
        .done()
        .fails(48, "CORACLE_IMAGE_MIRROR_INVALID")
        .advises("CORACLE_IMAGE_DIGEST");
    assert_eq!(proxy.requests().len(), 0);
    coracle.set("CORACLE_IMAGE_DIGEST", &release.digest);
    download(&coracle)
        .env("NO_PROXY", "images.invalid")
        .done()
        .fails(40, "CORACLE_DOWNLOAD");
    assert_eq!(proxy.requests().len(), 0);
    download(&coracle).ok();
    assert!(proxy.requests().len() > 3);
    download(&coracle)
        .env("https_proxy", "http://me:hidden@proxy:port")
        .env("CORACLE_IMAGE_DIGEST", format!("sha256:{}", "0".repeat(64)))
        .done()
        .fails(48, "CORACLE_PROXY_INVALID");
}

#[test]
fn an_authority_of_the_folder_certs_is_believed() {
    let release = Release::new();
    let authority = Authority::new("company");
    let mirror = Mirror::secure(&release.folder, &authority);
    let coracle = with_mirror(mirror.url());
    write(coracle.home().join("certs/company.pem"), &authority.pem);
    download(&coracle).ok();
    fs::remove_dir_all(coracle.home().join("certs")).unwrap();
}

#[test]
fn too_little_space_is_said_before_anything_is_fetched() {
    let release = Release::new();
    let mirror = Mirror::of(&release.folder);
    let mut coracle = with_mirror(mirror.url());
    let Some(disk) = SmallDisk::mount(&coracle.home()) else {
        return;
    };
    disk.resize(6);
    download(&coracle)
        .done()
        .fails(26, "CORACLE_HOST_STORAGE")
        .says("are free");
    assert_eq!(mirror.requests().len(), 1, "the index alone");
    disk.resize(60);
    download(&coracle).ok();
    coracle.delete_all();
}

#[test]
fn doctor_says_that_an_image_will_be_fetched() {
    let release = Release::new();
    let coracle = with_mirror(&release.folder);
    coracle.run("doctor").done().says("a start fetches it");
}

#[test]
fn an_export_is_no_command_of_every_day_and_minds_what_is_in_its_folder() {
    let release = Release::new();
    let help = release.made.run("help").ok();
    assert!(!help.stdout.contains("image-export"), "{help}");
    write(release.folder.join("holiday.jpg"), "x");
    release
        .made
        .coracle(["image-export"])
        .args([&release.folder])
        .done()
        .fails(14, "CORACLE_USAGE")
        .says("holiday.jpg");
    for level in ["0", "23", "much"] {
        release
            .made
            .run(&format!("image-export --level {level} elsewhere"))
            .done()
            .fails(14, "CORACLE_USAGE");
    }
    let none = Coracle::new();
    none.run("image-export elsewhere")
        .done()
        .fails(65, "CORACLE_IMAGE_NOT_FOUND")
        .advises("coracle image-build");
}
