//! A cluster that starts at a login, as the host's own systemd reads it.

use coracle_tests::{Coracle, Run, installed, write};
use std::fs;

/// A sandbox with a cluster that never ran. systemd works on its files alone: the user's real manager is
/// not the sandbox's.
fn with_a_cluster() -> Coracle {
    let mut coracle = Coracle::new();
    coracle.set("SYSTEMD_OFFLINE", "1");
    coracle_tests::small_image(&coracle.home());
    let cut_off = coracle.run("start -p dev");
    cut_off.env("CORACLE_FAULT", "interrupt:boot").done();
    assert_eq!(coracle.machines(), ["dev"]);
    coracle
}

#[test]
fn a_unit_is_written_enabled_and_goes_with_the_cluster() {
    if installed("systemctl").is_none() || installed("systemd-analyze").is_none() {
        eprintln!("skipped: this host has no systemd");
        return;
    }
    let coracle = with_a_cluster();
    let folder = coracle.user_home().join(".config/systemd/user");
    let unit = folder.join("coracle-dev.service");
    let link = folder.join("default.target.wants/coracle-dev.service");
    coracle
        .run("autostart enable -p nobody")
        .done()
        .fails(35, "CORACLE_MACHINE_NOT_FOUND");

    let printed = coracle.run("autostart print -p dev").ok().stdout;
    assert!(!unit.exists());
    coracle
        .run("autostart enable -p dev")
        .ok()
        .says(&unit.display().to_string());
    let written = fs::read_to_string(&unit).unwrap();
    assert_eq!(written, printed);
    assert!(link.is_symlink());
    // Again it is the same.
    coracle.run("autostart enable -p dev").ok();
    let verified = Run::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .args([&unit])
        .done();
    let complaints = format!("{}{}", verified.stdout, verified.stderr);
    assert!(!complaints.contains("coracle-dev"), "{verified}");
    assert!(
        written
            .contains("\"start\" \"--keep-context\" \"--unattended\" \"--quiet\" \"-p\" \"dev\"")
    );

    coracle
        .run("autostart disable -p dev")
        .ok()
        .says("not start at a login any more");
    assert!(!unit.exists() && !link.is_symlink());
    coracle.run("autostart disable -p dev").ok().says("anyway");

    coracle.run("autostart enable -p dev").ok();
    coracle.run("delete -p dev").ok();
    assert!(!unit.exists() && !link.is_symlink());
}

#[test]
fn one_of_another_state_folder_is_left_alone() {
    let coracle = with_a_cluster();
    let folder = coracle.user_home().join(".config/systemd/user");
    let unit = folder.join("coracle-dev.service");
    fs::create_dir_all(&folder).unwrap();
    let others = "[Service]\nEnvironment=\"CORACLE_HOME=/elsewhere\"\n";
    write(&unit, others);
    coracle
        .run("autostart enable -p dev")
        .done()
        .fails(10, "CORACLE_WRITE")
        .says("another state folder");
    coracle.run("delete -p dev").ok();
    assert_eq!(fs::read_to_string(&unit).unwrap(), others);
}

#[test]
fn without_systemd_it_is_said_and_nothing_is_left() {
    let coracle = with_a_cluster();
    let empty = coracle.work().join("empty");
    fs::create_dir(&empty).unwrap();
    coracle
        .run("autostart enable -p dev")
        .env("PATH", &empty)
        .done()
        .fails(16, "CORACLE_UNSUPPORTED")
        .says("there is no systemctl")
        .advises("autostart print");
    let unit = ".config/systemd/user/coracle-dev.service";
    assert!(!coracle.user_home().join(unit).exists());
}
