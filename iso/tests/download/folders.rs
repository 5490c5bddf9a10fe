//! Sources that are folders of this host: nothing is asked of any network.

use crate::setting::{Setting, VERSION, copy, is_kind};
use coracle_iso::images::download::FailureKind;
use coracle_tests::damage;

#[test]
fn an_export_an_image_and_a_store_are_sources() {
    let setting = Setting::new();
    let exported = setting.exported();
    let url = format!("file://{}", exported.display());
    let image = setting.image.folder();
    let store = image.parent().unwrap();
    let spaced = setting.path("a folder, größer");
    copy(&exported, &spaced.join("sub"));
    let spaced_url = format!(
        "file://{}/a%20folder,%20größer/sub",
        setting.path("").display().to_string().trim_end_matches('/')
    );
    for source in [
        exported.display().to_string(),
        url,
        image.display().to_string(),
        store.display().to_string(),
        spaced.join("sub").display().to_string(),
        spaced_url,
    ] {
        let image = setting.fetch_from(std::slice::from_ref(&source)).unwrap();
        setting.is_there(&image);
        assert!(image.kubernetes(VERSION).is_some(), "{source}");
        std::fs::remove_dir_all(setting.path("home")).unwrap();
    }
    assert_eq!(setting.mirror.requests().len(), 0);
}

#[test]
fn a_folder_without_the_image_or_with_another_is_said() {
    let setting = Setting::new();
    let missing = setting.path("missing").display().to_string();
    let told = is_kind(setting.fetch_from(&[missing]), FailureKind::NotFound);
    assert!(told.contains("has no image.json"), "{told}");
    let other = crate::setting::built(&setting.path("other"), "another");
    let folder = other.folder().display().to_string();
    let told = is_kind(setting.fetch_from(&[folder]), FailureKind::Wrong);
    assert!(told.contains(&other.digest().to_string()), "{told}");
    setting.nothing_is_there();
}

#[test]
fn a_damaged_file_of_a_folder_is_noticed_and_taken_from_the_next_source() {
    for file in ["root.erofs", "vmlinuz"] {
        let setting = Setting::new();
        damage(setting.exported().join(setting.served(file)));
        let damaged = setting.exported().display().to_string();
        let told = is_kind(
            setting.fetch_from(std::slice::from_ref(&damaged)),
            FailureKind::Wrong,
        );
        assert!(told.contains(file), "{told}");
        setting.nothing_is_there();
        let whole = setting.image.folder().display().to_string();
        let image = setting.fetch_from(&[damaged, whole]).unwrap();
        setting.is_there(&image);
    }
}

#[test]
fn a_truncated_file_of_a_folder_is_noticed() {
    let setting = Setting::new();
    for path in [
        setting.exported().join(setting.served("root.erofs")),
        setting.image.root(),
    ] {
        let length = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(length / 2).unwrap();
        let folder = path.parent().unwrap().display().to_string();
        is_kind(setting.fetch_from(&[folder]), FailureKind::Wrong);
    }
    setting.nothing_is_there();
}
