//! Kubeconfigs that cannot be edited are found before anything boots, and stay as they are.

use coracle_tests::{Account, Coracle, small_image, write};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

#[test]
fn a_kubeconfig_that_is_none_is_refused_and_not_touched() {
    for text in [
        "apiVersion: v1\n  kind: [Config\n",
        "just a sentence\n",
        "- a\n- list\n",
        "contexts: 7\n",
        "clusters: [}\n",
    ] {
        let coracle = Coracle::new();
        small_image(&coracle.home());
        write(coracle.kubeconfig(), text);
        let refused = coracle
            .run("start")
            .done()
            .fails(18, "CORACLE_KUBECONFIG_INVALID");
        refused
            .says(&coracle.kubeconfig().display().to_string())
            .advises("KUBECONFIG");
        assert_eq!(coracle.machines(), Vec::<String>::new(), "{text:?}");
        assert_eq!(fs::read_to_string(coracle.kubeconfig()).unwrap(), text);
    }
}

#[test]
fn a_list_with_one_bad_file_names_that_file() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let (good, bad) = (coracle.work().join("good"), coracle.work().join("bad"));
    write(&good, "apiVersion: v1\nkind: Config\n");
    write(&bad, "}{\n");
    let list = format!("{}:/nowhere/at-all:{}", good.display(), bad.display());
    let refused = coracle.run("start").env("KUBECONFIG", list).done();
    refused
        .fails(18, "CORACLE_KUBECONFIG_INVALID")
        .says(&bad.display().to_string());
    assert_eq!(coracle.machines(), Vec::<String>::new());
    coracle
        .run("start")
        .env("KUBECONFIG", "::")
        .done()
        .fails(18, "CORACLE_KUBECONFIG_INVALID");
}

#[test]
fn a_lock_of_another_program_is_waited_for_and_then_named_before_anything_boots() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    write(coracle.kubeconfig(), "apiVersion: v1\nkind: Config\n");
    let lock = coracle.kubeconfig().with_file_name("config.lock");
    write(&lock, "");
    let refused = coracle
        .run("start")
        .done()
        .fails(12, "CORACLE_KUBECONFIG_LOCKED");
    refused
        .says(&lock.display().to_string())
        .says(" s already")
        .advises("remove the lock");
    assert!(lock.exists(), "a lock of somebody else was taken away");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    assert!(coracle.processes().is_empty());
    // Given back in time, it holds up nothing.
    let mut start = coracle
        .run("start")
        .env("CORACLE_FAULT", "interrupt:image")
        .start();
    start.until_it_says("Checking the host");
    fs::remove_file(&lock).unwrap();
    start.done().fails(130, "CORACLE_INTERRUPTED");
    assert!(!lock.exists(), "our own lock is left");
}

#[test]
fn a_kubeconfig_that_this_user_may_not_write_is_found_before_anything_boots() {
    let Some(account) = Account::create() else {
        return;
    };
    let coracle = Coracle::as_user(account);
    small_image(&coracle.home());
    let config = coracle.kubeconfig();
    write(&config, "apiVersion: v1\nkind: Config\n# mine\n");
    coracle.give_to_account(&coracle.home());
    coracle.give_to_account(&coracle.user_home());
    let folder = config.parent().unwrap().to_owned();
    let mode = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap()
    };
    for (file_mode, folder_mode) in [(0o400, 0o700), (0o600, 0o500), (0o000, 0o700)] {
        mode(&config, file_mode);
        mode(&folder, folder_mode);
        let refused = coracle.run("start").done();
        refused
            .fails(17, "CORACLE_KUBECONFIG_PERMISSION")
            .says(&config.display().to_string())
            .advises("KUBECONFIG");
        assert_eq!(
            coracle.machines(),
            Vec::<String>::new(),
            "modes {file_mode:o} {folder_mode:o}"
        );
    }
    mode(&folder, 0o700);
    mode(&config, 0o600);
    assert_eq!(
        fs::read_to_string(&config).unwrap(),
        "apiVersion: v1\nkind: Config\n# mine\n"
    );
    // No folder for it can be made either.
    mode(&coracle.user_home(), 0o500);
    fs::remove_file(&config).unwrap();
    fs::remove_dir(&folder).unwrap();
    coracle
        .run("start")
        .done()
        .fails(17, "CORACLE_KUBECONFIG_PERMISSION")
        .says(".kube");
    assert_eq!(coracle.machines(), Vec::<String>::new());
}

#[test]
fn a_state_folder_that_this_user_may_not_write_is_said() {
    let Some(account) = Account::create() else {
        return;
    };
    let coracle = Coracle::as_user(account);
    small_image(&coracle.home());
    coracle.give_to_account(&coracle.home());
    fs::set_permissions(coracle.home(), fs::Permissions::from_mode(0o500)).unwrap();
    let refused = coracle.run("start").done();
    assert_ne!(refused.code(), Some(0));
    let refused = refused
        .says(&coracle.home().display().to_string())
        .says("help: ");
    assert!(
        refused.took < Duration::from_secs(60) && refused.stderr.contains("error[CORACLE_"),
        "{refused}"
    );
    fs::set_permissions(coracle.home(), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(coracle.machines(), Vec::<String>::new());
}

#[test]
fn a_port_below_1024_is_not_an_ordinary_users() {
    let Some(account) = Account::create() else {
        return;
    };
    let coracle = Coracle::as_user(account);
    small_image(&coracle.home());
    coracle.give_to_account(&coracle.home());
    let lowest =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap_or_default();
    if lowest.trim() == "0" {
        eprintln!("skipped: on this host every user may listen on every port");
        return;
    }
    let refused = coracle.run("start --apiserver-port 443").done();
    assert!(
        refused.code().is_some_and(|code| (70..80).contains(&code)),
        "{refused}"
    );
    refused.says("443").advises("--apiserver-port");
    assert_eq!(coracle.machines(), Vec::<String>::new());
}
