//! Settings: `config`, their precedence, `profile`, cluster files, dry runs, purging.

use coracle_tests::{Coracle, small_image, write};
use std::fs;

#[test]
fn a_setting_is_kept_read_listed_and_forgotten() {
    let coracle = Coracle::new();
    coracle
        .run("config get memory")
        .done()
        .fails(15, "CORACLE_CONFIG_NOT_FOUND")
        .advises("config set memory");
    coracle.run("config set memory 3g").ok();
    coracle.run("config set cpus 1").ok();
    assert_eq!(coracle.run("config get cpus").ok().text(), "1");
    let view = coracle.run("config view").ok();
    assert!(
        view.stdout.contains("cpus: 1\n") && view.stdout.contains("memory: "),
        "{view}"
    );
    let json = coracle.run("config view -o json").ok().json();
    assert_eq!(json["cpus"], 1);
    assert_eq!(coracle.run("config view -o yaml").ok().yaml(), json);
    coracle.run("config unset cpus").ok();
    coracle
        .run("config get cpus")
        .done()
        .fails(15, "CORACLE_CONFIG_NOT_FOUND");
    assert_eq!(
        coracle
            .run("config view -o json")
            .ok()
            .json()
            .as_object()
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn sizes_are_printed_as_people_write_them() {
    let coracle = Coracle::new();
    coracle.run("config set memory 3g").ok();
    for command in [
        "config get memory",
        "config view",
        "config defaults",
        "start --dry-run",
    ] {
        let told = coracle.run(command).ok();
        let lines = told
            .stdout
            .lines()
            .filter(|line| !line.starts_with("certificate-seconds"));
        let bytes = lines.filter(|line| {
            line.rsplit([' ', ':'])
                .next()
                .is_some_and(|word| word.len() > 8 && word.bytes().all(|b| b.is_ascii_digit()))
        });
        assert_eq!(
            bytes.count(),
            0,
            "a size is printed as a number of bytes: {told}"
        );
    }
}

#[test]
fn a_setting_is_checked_when_it_is_kept() {
    let coracle = Coracle::new();
    for (name, value) in [
        ("cpus", "many"),
        ("memory", "lots"),
        ("nodes", "3"),
        ("wait-timeout", "soon"),
        ("dns-domain", "-x"),
    ] {
        coracle
            .run(&format!("config set {name} {value}"))
            .done()
            .fails(14, "CORACLE_USAGE");
    }
    coracle
        .run("config set driver parallels")
        .done()
        .fails(54, "CORACLE_DRIVER_UNKNOWN");
    for command in [
        "config set colour red",
        "config get colour",
        "config unset colour",
    ] {
        coracle
            .run(command)
            .done()
            .fails(15, "CORACLE_CONFIG_NOT_FOUND")
            .says("colour")
            .advises("config defaults");
    }
    assert_eq!(coracle.run("config view").ok().text(), "");
}

#[test]
fn defaults_name_every_setting_that_start_takes() {
    let coracle = Coracle::new();
    let defaults = coracle.run("config defaults").ok();
    let help = coracle.run("start --help").ok();
    let names: Vec<_> = defaults
        .stdout
        .lines()
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert!(names.len() > 15, "{defaults}");
    for name in &names {
        assert!(
            help.stdout.contains(&format!("--{name}")),
            "start has no --{name}: {help}"
        );
    }
    let defaults = defaults
        .says("cpus: 2")
        .says("kubernetes-version: v1.37.2")
        .says("driver: qemu");
    defaults
        .says("service-cluster-ip-range: 10.96.0.0/12")
        .says("dns-domain: cluster.local");
}

#[test]
fn a_damaged_settings_file_is_named() {
    let coracle = Coracle::new();
    let file = coracle.home().join("config.yaml");
    write(&file, "cpus: [\n");
    for command in ["start", "config view", "config set cpus 1"] {
        coracle
            .run(command)
            .done()
            .fails(18, "CORACLE_CONFIG_INVALID")
            .says(&file.display().to_string());
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "cpus: [\n");
}

#[test]
fn flag_wins_over_environment_over_cluster_file_over_config_over_default() {
    let coracle = Coracle::new();
    let domain = |arguments: &str, variable: Option<&str>| {
        let run = coracle.run(&format!("start --dry-run {arguments}"));
        let run = variable.map_or(run.clone(), |value| run.env("CORACLE_DNS_DOMAIN", value));
        let told = run.ok();
        let line = told
            .stdout
            .lines()
            .find_map(|line| line.strip_prefix("dns-domain: "));
        line.unwrap_or_else(|| panic!("{told}")).to_owned()
    };
    assert_eq!(domain("", None), "cluster.local");
    coracle.run("config set dns-domain config.test").ok();
    assert_eq!(domain("", None), "config.test");
    write(coracle.work().join("file.yaml"), "dns-domain: file.test\n");
    assert_eq!(domain("-f file.yaml", None), "file.test");
    assert_eq!(
        domain("-f file.yaml", Some("variable.test")),
        "variable.test"
    );
    assert_eq!(
        domain("-f file.yaml --dns-domain flag.test", Some("variable.test")),
        "flag.test"
    );
}

#[test]
fn a_dry_run_says_what_would_be_made_and_makes_nothing() {
    let coracle = Coracle::new();
    let dry = coracle
        .run("start -p dev --dry-run --memory 2g --cpus 1")
        .ok();
    let (first, rest) = dry.stdout.split_once('\n').unwrap();
    assert!(
        first.contains("would make") && first.contains("dev"),
        "{dry}"
    );
    let spec: serde_json::Value = serde_yaml::from_str(rest).unwrap();
    assert_eq!(spec["cpus"], 1);
    assert_eq!(fs::read_dir(coracle.home()).unwrap().count(), 0);
    small_image(&coracle.home());
    coracle
        .run("start -p dev")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    coracle
        .run("start -p dev --dry-run")
        .ok()
        .says("would start");
    let refused = coracle.run("start -p dev --dry-run --cpus 1").done();
    refused
        .fails(31, "CORACLE_MACHINE_SETTINGS")
        .says("--cpus")
        .advises("coracle delete -p dev");
}

#[test]
fn the_profile_is_shown_chosen_and_forgotten_with_its_cluster() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    assert_eq!(coracle.run("profile").ok().text(), "coracle");
    coracle
        .run("profile dev")
        .done()
        .fails(35, "CORACLE_MACHINE_NOT_FOUND")
        .advises("coracle start -p dev");
    coracle
        .run("start -p dev")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    coracle.run("profile dev").ok();
    assert_eq!(coracle.run("profile").ok().text(), "dev");
    assert_eq!(
        coracle
            .run("profile")
            .env("CORACLE_PROFILE", "other")
            .ok()
            .text(),
        "other"
    );
    let rows = coracle.run("list -o json").ok().json();
    assert_eq!(
        (rows[0]["Name"].as_str(), rows[0]["Active"].as_bool()),
        (Some("dev"), Some(true)),
        "{rows}"
    );
    assert_eq!(coracle.run("profile list -o json").ok().json(), rows);
    coracle.run("status").done().code_is(7).says("dev");
    coracle.run("delete").ok();
    assert_eq!(coracle.run("profile").ok().text(), "coracle");
    write(coracle.home().join("profile"), "../up\n");
    coracle
        .run("status")
        .done()
        .fails(18, "CORACLE_CONFIG_INVALID")
        .advises("coracle profile");
    coracle.run("profile coracle -p x").ok();
    assert_eq!(coracle.run("profile").ok().text(), "coracle");
}

#[test]
fn purging_removes_the_state_folder_but_no_file_of_others() {
    let mut coracle = Coracle::new();
    let elsewhere = coracle.work().join("shared");
    small_image(&elsewhere);
    std::os::unix::fs::symlink(elsewhere.join("images"), coracle.home().join("images")).unwrap();
    coracle
        .run("start")
        .env("CORACLE_FAULT", "interrupt:boot")
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    coracle.run("config set cpus 1").ok();
    coracle
        .run("delete --purge")
        .done()
        .fails(14, "CORACLE_USAGE");
    write(coracle.home().join("letter.txt"), "mine\n");
    coracle
        .run("delete --all --purge")
        .done()
        .fails(10, "CORACLE_WRITE")
        .says("letter.txt");
    assert!(coracle.home().join("letter.txt").exists());
    fs::remove_file(coracle.home().join("letter.txt")).unwrap();
    coracle.run("delete --all --purge").ok();
    assert!(!coracle.home().exists());
    assert!(
        elsewhere.join("images/current").exists(),
        "the purge followed a link"
    );
    coracle.delete_all();
}
