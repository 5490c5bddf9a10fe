//! Servers that have something else than they say, or than was asked for.

use crate::setting::{Heard, NOISE, Setting, built, is_kind};
use coracle_iso::images::download::{Downloader, FailureKind};
use coracle_tests::{Fault, Mirror, noise};

#[test]
fn wrong_bytes_are_thrown_away_and_the_next_mirror_is_asked() {
    for plain in [false, true] {
        let setting = Setting::new();
        if plain {
            setting.unpack();
        }
        let served = match plain {
            true => "root.erofs".to_owned(),
            false => setting.served("root.erofs"),
        };
        let mut wrong = std::fs::read(setting.exported().join(&served)).unwrap();
        let middle = wrong.len() / 2;
        wrong[middle] ^= 0x55;
        setting
            .mirror
            .fault(&served, Fault::Content(wrong), usize::MAX);
        let told = is_kind(setting.fetch(), FailureKind::Wrong);
        assert!(told.contains("root.erofs"), "{told}");
        setting.nothing_is_there();
        assert_eq!(setting.mirror.requests_for(&served).len(), 1);
        for entry in std::fs::read_dir(setting.collected()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.ends_with(".part") {
                assert_eq!(entry.metadata().unwrap().len(), 0, "{name}");
            }
        }
        let good = Mirror::of(setting.exported());
        let heard = Heard::default();
        let options = setting.options(&[setting.mirror.url(), good.url()]);
        let image = Downloader::new(options, &heard).run().unwrap();
        setting.is_there(&image);
        assert_eq!(good.requests_for(&served)[0].range, None);
        let trouble = heard.trouble.lock().unwrap();
        assert!(trouble[0].contains("asking the next source"), "{trouble:?}");
    }
}

#[test]
fn wrong_bytes_behind_a_break_are_fetched_anew_from_the_beginning() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::BreakOff(NOISE / 2), 1);
    setting.mirror.fault(&served, Fault::ChangeByte, 1);
    setting.is_there(&setting.fetch().unwrap());
    // A server that always goes on wrongly is left.
    let setting = Setting::new();
    setting.unpack();
    for _ in 0..20 {
        setting
            .mirror
            .fault("root.erofs", Fault::BreakOff(NOISE / 2), 1);
        setting.mirror.fault("root.erofs", Fault::ChangeByte, 1);
    }
    is_kind(setting.fetch(), FailureKind::Wrong);
    assert!(setting.mirror.requests_for("root.erofs").len() < 10);
}

#[test]
fn what_was_kept_and_damaged_on_the_disk_is_fetched_anew() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::BreakOff(NOISE / 2), 1);
    setting
        .mirror
        .fault(&served, Fault::BreakOff(0), usize::MAX);
    is_kind(setting.fetch(), FailureKind::Unreachable);
    setting.mirror.heal();
    let digest = setting.part("root.erofs").sha256.folder_name();
    let kept = setting.collected().join(format!("{digest}.zst.part"));
    assert_eq!(std::fs::metadata(&kept).unwrap().len() as usize, NOISE / 2);
    coracle_tests::damage(&kept);
    setting.is_there(&setting.fetch().unwrap());
}

#[test]
fn lengths_that_lie_are_noticed() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    let length = setting.served_size("root.erofs");
    let refused = |said: usize, kind| {
        setting.mirror.heal();
        setting
            .mirror
            .fault(&served, Fault::SayLength(said), usize::MAX);
        let told = is_kind(setting.fetch(), kind);
        setting.nothing_is_there();
        told
    };
    // Shorter than it is: what comes is cut off there.
    let told = refused(length / 2, FailureKind::Wrong);
    assert!(told.contains("it ends too early"), "{told}");
    // Far longer than the file could be: nothing of it is read.
    setting.mirror.forget();
    let told = refused(1 << 40, FailureKind::Wrong);
    assert!(told.contains("1099511627776 bytes"), "{told}");
    // A little longer: all of the file came, so that does not matter.
    setting.mirror.heal();
    setting
        .mirror
        .fault(&served, Fault::SayLength(length + 10), usize::MAX);
    setting.is_there(&setting.fetch().unwrap());

    let setting = Setting::new();
    setting.unpack();
    let size = setting.part("root.erofs").size;
    for said in [size - 1, size + 1] {
        setting.mirror.heal();
        let fault = Fault::SayLength(said as usize);
        setting.mirror.fault("root.erofs", fault, usize::MAX);
        let told = is_kind(setting.fetch(), FailureKind::Wrong);
        assert!(
            told.contains(&format!("{said} bytes of root.erofs instead of {size}")),
            "{told}"
        );
    }
}

#[test]
fn a_file_that_goes_on_and_on_is_not_unpacked_to_its_end() {
    let setting = Setting::new();
    let part = setting.part("vmlinuz").clone();
    // 256 MiB of zeros are some kilobytes on the way.
    let bomb = zstd::encode_all(std::io::repeat(0).take_256_mib(), 1).unwrap();
    assert!(bomb.len() < part.size as usize, "{}", bomb.len());
    let served = setting.served("vmlinuz");
    setting
        .mirror
        .fault(&served, Fault::Content(bomb), usize::MAX);
    let told = is_kind(setting.fetch(), FailureKind::Wrong);
    assert!(told.contains("vmlinuz"), "{told}");
    // As it is, and without a length.
    setting.unpack();
    setting.mirror.heal();
    let long = noise(9, 1 << 20);
    std::fs::remove_file(setting.exported().join("vmlinuz")).unwrap();
    coracle_tests::write(setting.exported().join("vmlinuz"), long);
    setting
        .mirror
        .fault("vmlinuz", Fault::SayNoLength(usize::MAX), usize::MAX);
    let told = is_kind(setting.fetch(), FailureKind::Wrong);
    assert!(told.contains("longer than the file"), "{told}");
}

trait Take: std::io::Read + Sized {
    fn take_256_mib(self) -> std::io::Take<Self> {
        self.take(256 << 20)
    }
}

impl Take for std::io::Repeat {}

#[test]
fn another_image_is_not_taken() {
    let setting = Setting::new();
    let other = built(&setting.path("other"), "another");
    let mirror = Mirror::of(other.folder());
    let told = is_kind(setting.fetch_from(&[mirror.url()]), FailureKind::Wrong);
    assert!(told.contains(&other.digest().to_string()), "{told}");
    assert_eq!(
        mirror.requests().len(),
        2,
        "the index, and a folder of ours"
    );
    // The next one has the right one.
    let urls = [mirror.url(), setting.mirror.url()];
    setting.is_there(&setting.fetch_from(&urls).unwrap());
}

#[test]
fn one_server_can_have_several_images() {
    let setting = Setting::new();
    let other = built(&setting.path("built"), "another");
    let mirror = Mirror::of(setting.path("built/images"));
    let image = setting.fetch_from(&[mirror.url()]).unwrap();
    setting.is_there(&image);
    let mut options = setting.options(&[mirror.url()]);
    options.digest = Some(*other.digest());
    let image = Downloader::new(options, &Heard::default()).run().unwrap();
    assert_eq!(image.digest(), other.digest());
}

#[test]
fn a_page_in_place_of_the_index_is_no_image() {
    let setting = Setting::new();
    let page = b"<html>Please log in</html>".to_vec();
    setting
        .mirror
        .fault("image.json", Fault::Content(page), usize::MAX);
    let told = is_kind(setting.fetch(), FailureKind::Wrong);
    assert!(told.contains("something else than image.json"), "{told}");
    setting.mirror.heal();
    let endless = vec![b' '; 5 << 20];
    setting
        .mirror
        .fault("image.json", Fault::Content(endless), usize::MAX);
    is_kind(setting.fetch(), FailureKind::Wrong);
}

#[test]
fn what_a_server_does_not_have_is_said_and_asked_for_once() {
    let setting = Setting::new();
    for status in [403, 404, 410] {
        setting.mirror.heal();
        setting.mirror.forget();
        let fault = Fault::Status(status);
        setting.mirror.fault("image.json", fault, usize::MAX);
        let told = is_kind(setting.fetch(), FailureKind::NotFound);
        assert!(told.contains(&format!("({status})")), "{told}");
        assert_eq!(setting.mirror.requests().len(), 2);
    }
    setting.mirror.heal();
    setting
        .mirror
        .fault("image.json", Fault::Status(401), usize::MAX);
    let told = is_kind(setting.fetch(), FailureKind::Unreachable);
    assert!(told.contains("answered 401"), "{told}");
    // A file that one server lacks is the next one's.
    setting.mirror.heal();
    let served = setting.served("root.erofs");
    let lacking = Mirror::of(setting.exported());
    lacking.fault(&served, Fault::Status(404), usize::MAX);
    let urls = [lacking.url(), setting.mirror.url()];
    setting.is_there(&setting.fetch_from(&urls).unwrap());
}
