//! The store that is fetched into: a full disk, two at once, order among mirrors.

use crate::setting::{Heard, NOISE, Setting, patience};
use coracle_iso::images::ImageError;
use coracle_iso::images::download::{DownloadError, Downloader};
use coracle_iso::{FileLock, LockError};
use coracle_tests::{Fault, Mirror, SmallDisk, write};
use std::time::Duration;

#[test]
fn two_at_once_fetch_each_file_once() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::Slow(6 << 20), 1);
    let heard = [Heard::default(), Heard::default()];
    std::thread::scope(|scope| {
        for heard in &heard {
            scope.spawn(|| {
                let options = setting.options(&[setting.mirror.url()]);
                let image = Downloader::new(options, heard).run().unwrap();
                setting.store().verify(&image).unwrap();
            });
        }
    });
    let waits = heard.iter().map(|one| one.waiting.lock().unwrap().len());
    assert_eq!(waits.sum::<usize>(), 1);
    assert_eq!(setting.mirror.requests_for(&served).len(), 1);
    assert_eq!(setting.mirror.requests().len(), 7);
}

#[test]
fn waiting_for_another_download_has_a_limit() {
    let setting = Setting::new();
    let path = setting.store().folder().join("download.lock");
    let held = FileLock::acquire(&path, Duration::ZERO).unwrap();
    let mut options = setting.options(&[setting.mirror.url()]);
    options.patience.lock = Duration::from_millis(300);
    let heard = Heard::default();
    let error = Downloader::new(options, &heard).run().unwrap_err();
    assert!(
        matches!(error, DownloadError::Locked(LockError::Held { .. })),
        "{error:?}"
    );
    let name = format!("process {}", std::process::id());
    assert_eq!(*heard.waiting.lock().unwrap(), [name]);
    assert_eq!(setting.mirror.requests().len(), 0);
    drop(held);
    setting.is_there(&setting.fetch().unwrap());
}

#[test]
fn too_little_space_is_said_before_a_file_is_fetched() {
    let setting = Setting::new();
    let home = setting.path("home");
    let Some(disk) = SmallDisk::mount(&home) else {
        return;
    };
    disk.resize(5);
    let error = setting.fetch().unwrap_err();
    let DownloadError::NoSpace { needed, free, .. } = error else {
        panic!("{error:?}");
    };
    assert!(free < needed && needed > NOISE as u64, "{free} < {needed}");
    assert_eq!(setting.mirror.requests().len(), 1, "the index alone");
    setting.nothing_is_there();
    disk.resize(40);
    setting.is_there(&setting.fetch().unwrap());
}

#[test]
fn a_disk_that_fills_up_meanwhile_keeps_what_came() {
    let setting = Setting::new();
    let home = setting.path("home");
    let Some(disk) = SmallDisk::mount(&home) else {
        return;
    };
    disk.resize(10);
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::Slow(3 << 20), 1);
    let error = std::thread::scope(|scope| {
        let fetching = scope.spawn(|| setting.fetch().unwrap_err());
        setting.mirror.until_sent(&served, 1 << 20);
        // Somebody else takes what is left.
        for size in [4 << 20, 1 << 20, 1 << 18] {
            let mut file = std::fs::File::create(home.join(format!("other-{size}"))).unwrap();
            let _ = std::io::copy(
                &mut std::io::Read::take(std::io::repeat(1), size),
                &mut file,
            );
        }
        fetching.join().unwrap()
    });
    let DownloadError::Store(ImageError::Io { source, .. }) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(source.kind(), std::io::ErrorKind::StorageFull);
    setting.nothing_is_there();
    for entry in std::fs::read_dir(&home).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("other-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    setting.mirror.forget();
    setting.is_there(&setting.fetch().unwrap());
    let asked = setting.mirror.requests_for(&served);
    assert!(
        asked[0].range.is_some_and(|first| first >= 1 << 19),
        "{asked:#?}"
    );
    drop(disk);
}

#[test]
fn mirrors_are_asked_in_order_and_one_that_is_gone_only_once() {
    let setting = Setting::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let (second, third) = (
        Mirror::of(setting.exported()),
        Mirror::of(setting.exported()),
    );
    let heard = Heard::default();
    let options = setting.options(&[gone.clone(), second.url(), third.url()]);
    let image = Downloader::new(options, &heard).run().unwrap();
    setting.is_there(&image);
    assert_eq!(second.requests().len(), 7);
    assert_eq!(third.requests().len(), 0);
    let trouble = heard.trouble.lock().unwrap();
    // The tries but the last, and that the next one is asked.
    assert_eq!(trouble.len(), patience().tries as usize, "{trouble:#?}");
    assert!(trouble.iter().all(|line| line.contains(&gone)));
}

#[test]
fn a_mirror_that_fails_in_the_middle_is_left_for_the_rest() {
    let setting = Setting::new();
    let second = Mirror::of(setting.exported());
    let served = setting.served("root.erofs");
    setting
        .mirror
        .fault(&served, Fault::Status(500), usize::MAX);
    let urls = [setting.mirror.url(), second.url()];
    setting.is_there(&setting.fetch_from(&urls).unwrap());
    let first_has = setting.mirror.requests_for(&setting.served("vmlinuz"));
    assert_eq!(first_has.len(), 0, "it comes after the root file system");
    assert_eq!(second.requests_for(&setting.served("initrd")).len(), 0);
}

#[test]
fn what_does_not_belong_to_the_image_does_not_come_into_the_store() {
    let setting = Setting::new();
    let stray = setting.collected().join("stray");
    write(&stray, "x");
    write(setting.collected().join("vmlinuz"), "half a kernel");
    setting.is_there(&setting.fetch().unwrap());
}
