//! Nothing goes wrong: what is fetched, what is not, and what is told.

use crate::setting::{Heard, OTHER_VERSION, Setting, Silent, VERSION, is_kind, names};
use coracle_iso::images::download::{DownloadError, Downloader, FailureKind};
use coracle_iso::images::{ExportError, export};
use coracle_tests::{Run, damage, write};

#[test]
fn an_image_is_fetched_with_the_layer_that_is_wanted_and_no_other() {
    let setting = Setting::new();
    let heard = Heard::default();
    let options = setting.options(&[setting.mirror.url()]);
    let image = Downloader::new(options, &heard).run().unwrap();
    setting.is_there(&image);
    assert!(image.kubernetes(VERSION).is_some() && image.kubectl(VERSION).is_some());
    assert!(image.kubernetes(OTHER_VERSION).is_none());
    assert_eq!(
        names(image.folder()),
        [
            "absent",
            "image.json",
            "initrd",
            "kubectl-here",
            "kubernetes-1.erofs",
            "root.erofs",
            "sbom.json",
            "vmlinuz"
        ]
    );
    let asked = setting.mirror.requests();
    assert_eq!(asked.len(), 7, "the index and six files: {asked:#?}");
    assert!(asked.iter().all(|request| request.status == 200));
    // What is promised to whoever shows it.
    assert_eq!(*heard.begun.lock().unwrap(), [setting.mirror.url()]);
    assert_eq!(*heard.trouble.lock().unwrap(), Vec::<String>::new());
    let progress = heard.progress.lock().unwrap();
    let last = progress.last().unwrap();
    let wanted: u64 = image.parts().map(|part| part.size).sum();
    assert_eq!((last.done, last.total), (wanted, wanted));
    assert!(
        last.received > 3 << 20 && last.received < wanted,
        "{last:?}"
    );
    assert!(progress.is_sorted_by_key(|one| one.done), "{progress:?}");
}

#[cfg(unix)]
#[test]
fn a_fetched_kubectl_can_be_run() {
    use std::os::unix::fs::PermissionsExt as _;
    let setting = Setting::new();
    let image = setting.fetch().unwrap();
    let mode = |path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(image.kubectl(VERSION).unwrap()), 0o755);
    assert_eq!(mode(image.root()), 0o644);
    assert_eq!(mode(image.folder().to_owned()), 0o755);
    Run::new(image.kubectl(VERSION).unwrap()).ok();
}

#[test]
fn files_that_are_served_as_they_are_do_as_well() {
    let setting = Setting::new();
    setting.unpack();
    let image = setting.fetch().unwrap();
    setting.is_there(&image);
    let plain = setting.mirror.requests_for("/root.erofs");
    assert_eq!(plain.len(), 1);
}

#[test]
fn what_is_there_is_not_fetched_again() {
    let setting = Setting::new();
    setting.fetch().unwrap();
    setting.mirror.forget();
    let image = setting.fetch().unwrap();
    setting.is_there(&image);
    assert_eq!(setting.mirror.requests().len(), 0);
    // Nor is anybody needed for it.
    setting.fetch_from(&[]).unwrap();
}

#[test]
fn another_layer_is_added_alone() {
    let setting = Setting::new();
    setting.fetch().unwrap();
    setting.mirror.forget();
    let mut options = setting.options(&[setting.mirror.url()]);
    options.kubernetes = Some(OTHER_VERSION.into());
    let image = Downloader::new(options, &Heard::default()).run().unwrap();
    setting.is_there(&image);
    assert!(image.kubernetes(VERSION).is_some() && image.kubernetes(OTHER_VERSION).is_some());
    assert!(image.kubectl(OTHER_VERSION).is_some());
    let asked = setting.mirror.requests();
    assert_eq!(asked.len(), 3, "index, layer, kubectl: {asked:#?}");
}

#[test]
fn an_engine_alone_needs_no_layer() {
    let setting = Setting::new();
    let mut options = setting.options(&[setting.mirror.url()]);
    options.kubernetes = None;
    let image = Downloader::new(options, &Heard::default()).run().unwrap();
    setting.is_there(&image);
    assert_eq!(image.parts().count(), 4);
}

#[test]
fn a_damaged_file_is_fetched_again_and_no_other() {
    let setting = Setting::new();
    let image = setting.fetch().unwrap();
    let mut options = setting.options(&[setting.mirror.url()]);
    options.kubernetes = Some(OTHER_VERSION.into());
    Downloader::new(options, &Heard::default()).run().unwrap();
    for harm in ["damaged", "missing"] {
        match harm {
            "damaged" => damage(image.root()),
            _ => std::fs::remove_file(image.root()).unwrap(),
        }
        setting.mirror.forget();
        let image = setting.fetch().unwrap();
        setting.is_there(&image);
        assert!(
            image.kubernetes(OTHER_VERSION).is_some(),
            "a layer that somebody may use is kept"
        );
        let asked = setting.mirror.requests();
        assert_eq!(asked.len(), 2, "{harm}: index, root: {asked:#?}");
    }
    // An index that was damaged leaves nothing that could be believed.
    damage(image.folder().join("image.json"));
    let image = setting.fetch().unwrap();
    assert!(image.kubernetes(OTHER_VERSION).is_none());
    setting.is_there(&image);
}

#[test]
fn a_version_that_the_image_does_not_have_is_said_with_those_it_has() {
    let setting = Setting::new();
    let mut options = setting.options(&[setting.mirror.url()]);
    options.kubernetes = Some("v9".into());
    let error = Downloader::new(options, &Heard::default())
        .run()
        .unwrap_err();
    let DownloadError::NoVersion { known, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*known, [VERSION, OTHER_VERSION]);
    setting.nothing_is_there();
}

#[test]
fn without_a_digest_the_image_of_the_first_source_is_taken() {
    let setting = Setting::new();
    let mut options = setting.options(&["/nowhere".into(), setting.mirror.url()]);
    options.digest = None;
    let image = Downloader::new(options.clone(), &Heard::default())
        .run()
        .unwrap();
    setting.is_there(&image);
    setting.mirror.forget();
    // Only its index says which that is.
    Downloader::new(options, &Heard::default()).run().unwrap();
    assert_eq!(setting.mirror.requests().len(), 1);
}

#[test]
fn an_export_is_the_same_bytes_each_time_and_checks_itself() {
    let setting = Setting::new();
    let again = setting.path("ein Ordner größer");
    export(&setting.image, &again, 1, &Silent).unwrap();
    assert_eq!(names(&again), names(&setting.exported()));
    for name in names(&again) {
        let read = |folder: &std::path::Path| std::fs::read(folder.join(&name)).unwrap();
        assert_eq!(read(&again), read(&setting.exported()), "{name}");
    }
    let check = || {
        Run::new("sha256sum")
            .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
            .folder(&again)
            .done()
    };
    check().ok();
    // What was cut off is gone on with.
    std::fs::remove_file(again.join("SHA256SUMS")).unwrap();
    write(again.join(".writing-1"), "half");
    export(&setting.image, &again, 1, &Silent).unwrap();
    check().ok();
    assert_eq!(names(&again), names(&setting.exported()));
    write(again.join("holiday.jpg"), "x");
    let refused = export(&setting.image, &again, 1, &Silent).unwrap_err();
    assert!(matches!(&refused, ExportError::NotEmpty { name, .. } if name == "holiday.jpg"));
}

#[test]
fn a_damaged_image_is_not_passed_on() {
    let setting = Setting::new();
    damage(setting.image.root());
    let refused = export(&setting.image, &setting.path("new"), 1, &Silent).unwrap_err();
    assert!(refused.to_string().contains("root.erofs"), "{refused}");
    assert!(!setting.path("new").join("image.json").exists());
}

#[test]
fn an_export_of_a_fetched_image_has_what_was_fetched() {
    let setting = Setting::new();
    let image = setting.fetch().unwrap();
    let passed_on = setting.path("passed on");
    export(&image, &passed_on, 1, &Silent).unwrap();
    std::fs::remove_dir_all(setting.path("home")).unwrap();
    let from = [passed_on.display().to_string()];
    let image = setting.fetch_from(&from).unwrap();
    setting.is_there(&image);
    let mut options = setting.options(&from);
    options.kubernetes = Some(OTHER_VERSION.into());
    let lacking = Downloader::new(options, &Heard::default()).run();
    let told = is_kind(lacking, FailureKind::NotFound);
    assert!(told.contains("kubectl-here-other"), "{told}");
    // The image is as it was.
    let image = setting.store().open(image.digest()).unwrap();
    setting.store().verify(&image).unwrap();
    assert!(image.kubernetes(OTHER_VERSION).is_none());
}
