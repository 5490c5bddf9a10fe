//! The way to a server: redirects, TLS, proxies; and what is never shown of it.

use crate::setting::{Heard, Setting, is_kind, source};
use coracle_iso::images::download::{DownloadError, Downloader, FailureKind, Proxy};
use coracle_tests::{Authority, Fault, Mirror};

#[test]
fn redirects_are_followed_and_bounded() {
    let setting = Setting::new();
    let served = setting.served("root.erofs");
    let front = Mirror::of(setting.path("empty"));
    for name in std::fs::read_dir(setting.exported()).unwrap() {
        let name = name.unwrap().file_name().into_string().unwrap();
        let there = format!("{}{name}", setting.mirror.url());
        front.fault(&name, Fault::Redirect(there), usize::MAX);
    }
    // What is asked for again after a break is asked for at the front.
    setting.mirror.fault(&served, Fault::BreakOff(1 << 20), 1);
    setting.is_there(&setting.fetch_from(&[front.url()]).unwrap());
    let asked = setting.mirror.requests_for(&served);
    assert_eq!(asked[1].range, Some(1 << 20));
    assert_eq!(front.requests_for(&served).len(), 2);
    assert!(!asked[0].head.to_ascii_lowercase().contains("referer"));

    let setting = Setting::new();
    let itself = format!("{}image.json", setting.mirror.url());
    setting
        .mirror
        .fault("image.json", Fault::Redirect(itself), usize::MAX);
    is_kind(setting.fetch(), FailureKind::Unreachable);
    assert!(setting.mirror.requests().len() < 100);
}

#[test]
fn a_server_behind_tls_is_believed_when_its_authority_is() {
    let setting = Setting::new();
    let authority = Authority::new("company");
    let mirror = Mirror::secure(setting.exported(), &authority);
    let told = is_kind(setting.fetch_from(&[mirror.url()]), FailureKind::Untrusted);
    assert!(told.contains("certificate"), "{told}");
    assert_eq!(mirror.requests().len(), 0);
    let mut options = setting.options(&[mirror.url()]);
    options.authorities = vec![Authority::new("other").pem, authority.pem];
    mirror.fault(&setting.served("root.erofs"), Fault::BreakOff(1 << 20), 1);
    let image = Downloader::new(options.clone(), &Heard::default())
        .run()
        .unwrap();
    setting.is_there(&image);
    std::fs::remove_dir_all(setting.path("home")).unwrap();
    options.authorities =
        vec!["-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n".into()];
    let error = Downloader::new(options, &Heard::default())
        .run()
        .unwrap_err();
    assert!(
        matches!(error, DownloadError::Authority { .. }),
        "{error:?}"
    );
}

#[test]
fn proxies_are_used_and_what_is_excepted_is_not() {
    let setting = Setting::new();
    let fetch = |source: &str, proxy: Proxy| {
        let mut options = setting.options(&[source.to_owned()]);
        options.proxy = proxy;
        let result = Downloader::new(options, &Heard::default()).run();
        let _ = std::fs::remove_dir_all(setting.path("home"));
        result
    };
    let with = |exceptions: &str| Proxy {
        http: Some(setting.mirror.url().replace("http://", "http://me:word@")),
        https: None,
        exceptions: Some(exceptions.into()),
    };
    // Nobody but the proxy knows this name.
    fetch("http://images.invalid/", with("")).unwrap();
    let asked = setting.mirror.requests();
    assert!(asked[0].head.starts_with("GET http://images.invalid/"));
    let head = asked[0].head.to_ascii_lowercase();
    assert!(
        head.contains("proxy-authorization: basic bwu6d29yza=="),
        "{head}"
    );
    // A name of an exception is asked itself.
    setting.mirror.forget();
    is_kind(
        fetch("http://images.invalid/", with("other, images.invalid")),
        FailureKind::Unreachable,
    );
    assert_eq!(setting.mirror.requests().len(), 0);
    let direct = Mirror::of(setting.exported());
    fetch(&direct.url(), with("127.0.0.0/8")).unwrap();
    assert_eq!(setting.mirror.requests().len(), 0);
    // HTTPS goes by its own proxy, which is asked for a way.
    let proxy = Proxy {
        http: None,
        https: Some(setting.mirror.url()),
        exceptions: None,
    };
    fetch("https://images.invalid/", proxy).unwrap_err();
    let asked = setting.mirror.requests();
    assert!(
        asked[0].head.starts_with("CONNECT images.invalid:443"),
        "{asked:?}"
    );
    // One that is none is said, without its text.
    let wrong = Proxy {
        http: Some("odd://me:hidden@proxy:1".into()),
        ..Proxy::default()
    };
    let error = fetch("http://images.invalid/", wrong).unwrap_err();
    assert!(matches!(error, DownloadError::Proxy { scheme: "http", .. }));
    assert!(
        !format!("{error} {error:?}").contains("hidden"),
        "{error:?}"
    );
}

#[test]
fn passwords_and_queries_are_sent_and_never_shown() {
    let setting = Setting::new();
    let url = setting.mirror.url().replace("http://", "http://me:hidden@") + "?sig=hidden";
    assert!(!source(&url).to_string().contains("hidden"));
    setting
        .mirror
        .fault("root.erofs", Fault::Status(404), usize::MAX);
    let served = setting.served("root.erofs");
    setting.mirror.fault(&served, Fault::BreakOff(10), 2);
    setting
        .mirror
        .fault(&served, Fault::Status(404), usize::MAX);
    let heard = Heard::default();
    let options = setting.options(&[url]);
    let error = Downloader::new(options, &heard).run().unwrap_err();
    let DownloadError::Failed { failures, .. } = &error else {
        panic!("{error:?}");
    };
    let mut told = vec![error.to_string()];
    told.extend(failures.iter().map(ToString::to_string));
    told.extend(heard.begun.lock().unwrap().clone());
    told.extend(heard.trouble.lock().unwrap().clone());
    assert!(told.len() > 4, "{told:?}");
    assert!(told.iter().all(|line| !line.contains("hidden")), "{told:?}");
    let asked = setting.mirror.requests();
    let first = asked[0].head.to_ascii_lowercase();
    assert!(first.contains("authorization: basic"), "{first}");
    assert!(first.starts_with("get /image.json?sig=hidden"), "{first}");
    // Nor are they written down.
    for entry in std::fs::read_dir(setting.collected()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("hidden"));
    }
}
