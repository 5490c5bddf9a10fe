//! Transfers that break off, and are gone on with.

use crate::setting::{NOISE, Setting, is_kind, patience};
use coracle_iso::images::download::{DownloadError, FailureKind, Reason};
use coracle_tests::Fault;
use std::time::Instant;

/// More than half of the root file system.
const MOST_OF_IT: usize = NOISE / 3 * 2;

/// The server breaks off when it has sent most of a file, and from then on before it has sent anything.
fn break_off(setting: &Setting, served: &str) {
    let mirror = &setting.mirror;
    mirror.fault(served, Fault::BreakOff(MOST_OF_IT), 1);
    mirror.fault(served, Fault::BreakOff(0), usize::MAX);
}

#[test]
fn what_breaks_off_is_gone_on_with_where_it_broke_off() {
    for plain in [false, true] {
        let setting = Setting::new();
        let served = match plain {
            true => {
                setting.unpack();
                "root.erofs".to_owned()
            }
            false => setting.served("root.erofs"),
        };
        setting
            .mirror
            .fault(&served, Fault::BreakOff(MOST_OF_IT), 1);
        let image = setting.fetch().unwrap();
        setting.is_there(&image);
        let asked = setting.mirror.requests_for(&served);
        assert_eq!(asked.len(), 2, "{asked:#?}");
        assert_eq!((asked[0].range, asked[0].status), (None, 200));
        assert_eq!((asked[1].range, asked[1].status), (Some(MOST_OF_IT), 206));
        assert_eq!(asked[1].if_range.as_deref(), Some("\"one\""));
        let sent: usize = asked.iter().map(|request| request.sent).sum();
        let length = match plain {
            true => setting.part("root.erofs").size as usize,
            false => setting.served_size("root.erofs"),
        };
        assert_eq!(sent, length, "no byte is sent twice");
    }
}

#[test]
fn a_later_download_goes_on_from_what_an_earlier_one_received() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    break_off(&setting, &served);
    is_kind(setting.fetch(), FailureKind::Unreachable);
    setting.nothing_is_there();
    let first = setting.mirror.sent();
    assert!(first > MOST_OF_IT);
    setting.mirror.heal();
    setting.mirror.forget();
    let image = setting.fetch().unwrap();
    setting.is_there(&image);
    let asked = setting.mirror.requests_for(&served);
    assert_eq!((asked.len(), asked[0].range), (1, Some(MOST_OF_IT)));
    assert!(
        setting.mirror.sent() < first,
        "{} and then {}",
        first,
        setting.mirror.sent()
    );
    // What came before that file was whole, and was not asked for.
    assert_eq!(
        setting.mirror.requests_for(&setting.served("initrd")).len(),
        0
    );
}

#[test]
fn as_long_as_it_gets_on_it_may_break_off_often_and_no_longer() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    let mut patience = patience();
    patience.progress = 100_000;
    let fetch = || {
        let mut options = setting.options(&[setting.mirror.url()]);
        options.patience = patience.clone();
        let heard = crate::setting::Heard::default();
        coracle_iso::images::download::Downloader::new(options, &heard).run()
    };
    setting
        .mirror
        .fault(&served, Fault::BreakOff(10), usize::MAX);
    is_kind(fetch(), FailureKind::Unreachable);
    let asked = setting.mirror.requests_for(&served).len();
    assert_eq!(asked, patience.tries as usize);
    setting.mirror.heal();
    setting.mirror.forget();
    setting.mirror.fault(&served, Fault::BreakOff(200_000), 12);
    setting.is_there(&fetch().unwrap());
    assert_eq!(setting.mirror.requests_for(&served).len(), 13);
}

#[test]
fn a_server_that_falls_silent_is_left_after_the_limit() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    // Once in the middle, once before the first byte: then it goes on.
    setting
        .mirror
        .fault(&served, Fault::FallSilent(MOST_OF_IT), 1);
    setting.mirror.fault(&served, Fault::FallSilent(0), 1);
    let image = setting.fetch().unwrap();
    setting.is_there(&image);
    let asked = setting.mirror.requests_for(&served);
    assert_eq!(asked.last().unwrap().range, Some(MOST_OF_IT));

    let setting = Setting::new();
    setting.mirror.fault(
        &setting.served("root.erofs"),
        Fault::FallSilent(1000),
        usize::MAX,
    );
    let begun = Instant::now();
    let told = is_kind(setting.fetch(), FailureKind::TimedOut);
    assert!(told.contains("sent nothing for 0.7 s"), "{told}");
    let limit = patience().stall * (patience().tries + 4);
    assert!(begun.elapsed() < limit, "{:?}", begun.elapsed());
}

#[test]
fn an_index_is_asked_for_again_too() {
    let setting = Setting::new();
    setting.mirror.fault("image.json", Fault::Status(500), 1);
    setting.mirror.fault("image.json", Fault::BreakOff(100), 1);
    setting.mirror.fault("image.json", Fault::FallSilent(0), 1);
    setting.is_there(&setting.fetch().unwrap());
}

#[test]
fn a_server_that_has_trouble_is_asked_again_within_a_bound() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::Status(500), 1);
    setting.mirror.fault(&served, Fault::Status(503), 1);
    // It may ask for an hour, and does not get it.
    setting.mirror.fault(&served, Fault::Busy(3600), 1);
    let begun = Instant::now();
    setting.is_there(&setting.fetch().unwrap());
    assert!(begun.elapsed().as_secs() < 30);
    assert_eq!(setting.mirror.requests_for(&served).len(), 4);

    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting
        .mirror
        .fault(&served, Fault::Status(503), usize::MAX);
    let told = is_kind(setting.fetch(), FailureKind::Unreachable);
    assert!(told.contains("answered 503"), "{told}");
    let asked = setting.mirror.requests_for(&served).len();
    assert_eq!(asked, patience().tries as usize);
}

#[test]
fn a_server_that_ignores_ranges_sends_it_all_again() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting
        .mirror
        .fault(&served, Fault::BreakOff(MOST_OF_IT), 1);
    setting.mirror.fault(&served, Fault::IgnoreRange, 1);
    setting.is_there(&setting.fetch().unwrap());
    let asked = setting.mirror.requests_for(&served);
    assert_eq!((asked[1].range, asked[1].status), (Some(MOST_OF_IT), 200));
}

#[test]
fn a_file_that_changed_meanwhile_is_begun_anew() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    break_off(&setting, &served);
    is_kind(setting.fetch(), FailureKind::Unreachable);
    setting.mirror.heal();
    setting.mirror.forget();
    setting.mirror.set_version("\"two\"");
    setting.is_there(&setting.fetch().unwrap());
    let asked = setting.mirror.requests_for(&served);
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0].if_range.as_deref(), Some("\"one\""));
    assert_eq!(asked[0].status, 200);
}

#[test]
fn a_server_without_entity_tags_or_with_weak_ones_does_too() {
    for weak in [false, true] {
        let setting = Setting::new();
        let served = setting.served("root.erofs");
        setting
            .mirror
            .fault(&served, Fault::BreakOff(MOST_OF_IT), 1);
        let version = if weak { "W/\"one\"" } else { "" };
        setting.mirror.set_version(version);
        setting.is_there(&setting.fetch().unwrap());
        let asked = setting.mirror.requests_for(&served);
        assert_eq!(asked[1].range, Some(MOST_OF_IT));
        assert_eq!(asked[1].if_range, None);
    }
}

#[test]
fn what_was_kept_is_not_mixed_with_what_another_server_compressed() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    break_off(&setting, &served);
    let other = coracle_tests::Mirror::of(setting.path("exported"));
    let urls = [setting.mirror.url(), other.url()];
    setting.is_there(&setting.fetch_from(&urls).unwrap());
    let asked = other.requests_for(&served);
    assert_eq!((asked.len(), asked[0].range), (1, None));
}

#[test]
fn what_was_kept_of_a_plain_file_is_gone_on_with_anywhere() {
    let setting = Setting::new();
    setting.unpack();
    break_off(&setting, "root.erofs");
    let other = coracle_tests::Mirror::of(setting.path("exported"));
    let urls = [setting.mirror.url(), other.url()];
    setting.is_there(&setting.fetch_from(&urls).unwrap());
    let asked = other.requests_for("root.erofs");
    let first = (asked[0].range, asked[0].if_range.as_deref());
    assert_eq!(first, (Some(MOST_OF_IT), None));
}

#[test]
fn an_end_that_nobody_announced_is_an_end_only_of_a_whole_file() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    setting
        .mirror
        .fault(&served, Fault::SayNoLength(MOST_OF_IT), 1);
    setting
        .mirror
        .fault(&served, Fault::SayNoLength(usize::MAX), 1);
    setting.is_there(&setting.fetch().unwrap());
    assert_eq!(setting.mirror.requests_for(&served).len(), 2);
}

#[test]
fn a_port_where_nobody_listens_is_said() {
    let setting = Setting::new();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let error = setting.fetch_from(&[url]).unwrap_err();
    let DownloadError::Failed { failures, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(
        matches!(failures[0].reason, Reason::Unreachable { .. }),
        "{error:?}"
    );
}
