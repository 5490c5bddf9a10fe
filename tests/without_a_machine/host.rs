//! A host that lacks something: QEMU, an image, a port, space.

use coracle_tests::{Coracle, Run, damage, small_image, small_image_for, write};
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

/// Ends a start after the machine was made and before a hypervisor is started.
const BEFORE_THE_BOOT: (&str, &str) = ("CORACLE_FAULT", "interrupt:boot");

/// A way to damage a file, with its name.
type Harm = (&'static str, fn(&Path));

#[test]
fn a_missing_qemu_is_named_with_how_to_get_it() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let empty = coracle.work().join("empty");
    fs::create_dir(&empty).unwrap();
    let missing = coracle.run("start").env("PATH", &empty).done();
    missing
        .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
        .says("qemu-system-")
        .advises("install");
    // It is the one that emulates the image's processor.
    for (arch, emulator) in [
        ("amd64", "qemu-system-x86_64"),
        ("arm64", "qemu-system-aarch64"),
    ] {
        small_image_for(&coracle.home(), arch);
        let missing = coracle.run("start").env("PATH", &empty).done();
        missing
            .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
            .says(emulator);
    }
    let missing = coracle
        .run("start")
        .env("CORACLE_QEMU", "/nowhere/my-qemu")
        .done();
    missing
        .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
        .says("/nowhere/my-qemu");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    // doctor finds the same, without a start.
    let doctor = coracle
        .run("doctor")
        .env("PATH", &empty)
        .done()
        .says("qemu-system-")
        .says("install");
    assert_ne!(doctor.code(), Some(0), "{doctor}");
}

#[test]
fn a_qemu_that_does_not_work_is_said() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let broken = coracle.work().join("qemu");
    write(
        &broken,
        "#!/bin/sh\necho 'libfancy.so: cannot open shared object file' >&2\nexit 127\n",
    );
    fs::set_permissions(&broken, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let failed = coracle
        .run("start")
        .env("CORACLE_QEMU", &broken)
        .done()
        .fails(50, "CORACLE_DRIVER");
    failed.says("libfancy.so");
    assert_eq!(coracle.machines(), Vec::<String>::new());
}

#[test]
fn a_missing_image_is_said_with_the_command_that_makes_it() {
    let coracle = Coracle::new();
    let missing = coracle
        .run("start")
        .done()
        .fails(65, "CORACLE_IMAGE_NOT_FOUND");
    missing.advises("coracle image-build");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    small_image(&coracle.home());
    let version = coracle.run("start --kubernetes-version v1.36.0").done();
    version
        .fails(65, "CORACLE_IMAGE_NOT_FOUND")
        .says("v1.36.0")
        .advises("v1.37.2");
    assert_eq!(coracle.machines(), Vec::<String>::new());
}

#[test]
fn a_damaged_image_is_refused_by_the_name_of_its_file() {
    for file in ["vmlinuz", "initrd", "root.erofs", "kubernetes.erofs"] {
        let harm: [Harm; 3] = [
            ("tampered", |path| damage(path)),
            ("truncated", |path| {
                fs::OpenOptions::new()
                    .write(true)
                    .open(path)
                    .unwrap()
                    .set_len(7)
                    .unwrap()
            }),
            ("missing", |path| fs::remove_file(path).unwrap()),
        ];
        for (how, harm) in harm {
            let coracle = Coracle::new();
            let image = small_image(&coracle.home());
            harm(&image.join(file));
            let refused = coracle.run("start").done();
            refused
                .fails(68, "CORACLE_IMAGE_DAMAGED")
                .says(file)
                .advises("coracle image-build");
            assert_eq!(coracle.machines(), Vec::<String>::new(), "{how} {file}");
            // The quick look of doctor sees a wrong size; only the deep one reads the content.
            let doctor = coracle.run("doctor --deep").done().says(file);
            assert_ne!(doctor.code(), Some(0), "{how} {file}: {doctor}");
        }
    }
    let coracle = Coracle::new();
    let image = small_image(&coracle.home());
    damage(image.join("image.json"));
    coracle
        .run("start")
        .done()
        .fails(68, "CORACLE_IMAGE_DAMAGED")
        .says("image.json");
    write(coracle.home().join("images/current"), "not a digest\n");
    coracle
        .run("start")
        .done()
        .fails(68, "CORACLE_IMAGE_DAMAGED")
        .says("current");
}

#[test]
fn a_stopped_cluster_whose_image_was_damaged_is_not_booted() {
    let coracle = Coracle::new();
    let image = small_image(&coracle.home());
    coracle
        .run("start")
        .env(BEFORE_THE_BOOT.0, BEFORE_THE_BOOT.1)
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    damage(image.join("root.erofs"));
    coracle
        .run("start")
        .done()
        .fails(68, "CORACLE_IMAGE_DAMAGED")
        .says("root.erofs");
    assert!(coracle.processes().is_empty());
    coracle.run("delete").ok();
}

#[test]
fn an_image_that_does_not_boot_fails_with_what_the_hypervisor_said() {
    let mut coracle = Coracle::new();
    small_image(&coracle.home());
    let failed = coracle.run("start").done();
    let code = failed.code().unwrap_or_default();
    assert!(
        (30..60).contains(&code),
        "a machine or driver error: {failed}"
    );
    assert!(
        failed.stderr.contains("kernel") && failed.stderr.contains("help: "),
        "{failed}"
    );
    coracle.run("status").done().code_is(7).says("Stopped");
    // Asked for, a cluster that could not be made is taken away again.
    coracle.run("delete").ok();
    let failed = coracle.run("start --delete-on-failure").done();
    assert_eq!(failed.code(), Some(code), "{failed}");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    coracle.delete_all();
}

#[test]
fn a_port_that_is_taken_everywhere_is_said_before_a_machine_is_made() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let taken = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let refused = coracle.coracle(["start", "--apiserver-port", &port]).done();
    refused
        .fails(71, "CORACLE_PORT_TAKEN")
        .says(&port)
        .advises("--apiserver-port");
    assert_eq!(coracle.machines(), Vec::<String>::new());
}

#[test]
fn a_port_taken_while_the_cluster_was_stopped_is_said_with_its_address() {
    let mut coracle = Coracle::new();
    small_image(&coracle.home());
    coracle
        .run("start")
        .env(BEFORE_THE_BOOT.0, BEFORE_THE_BOOT.1)
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    let address = coracle.run("ip").ok().text().to_owned();
    let _taken = TcpListener::bind((address.as_str(), 6443)).unwrap();
    let refused = coracle.run("start").done().fails(71, "CORACLE_PORT_TAKEN");
    refused.says(&format!("{address}:6443"));
    coracle.run("status").done().code_is(7).says("Stopped");
    coracle.delete_all();
}

/// A mounted file system that is unmounted when dropped.
struct Mounted<'a>(&'a Path);

impl<'a> Mounted<'a> {
    fn tmpfs(path: &'a Path, options: &str) -> Self {
        Run::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .args([path])
            .ok();
        Self(path)
    }

    fn remount(&self, options: &str) {
        Run::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .args([self.0])
            .ok();
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        let done = Run::new("umount").args([self.0]).done();
        assert!(done.code() == Some(0) || std::thread::panicking(), "{done}");
    }
}

/// The state folder is given one more file at a time, so that it is full at every file that a
/// start makes, one after the other.
#[test]
fn a_full_state_folder_is_said_at_every_file_and_leaves_nothing_that_delete_cannot_remove() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount the small file system");
        return;
    }
    let coracle = Coracle::new();
    let home = coracle.home();
    let mounted = Mounted::tmpfs(&home, "size=4g,nr_inodes=9,mode=0700");
    small_image(&home);
    let files = |text: &str| text.trim().parse::<u32>().unwrap();
    let used = || {
        files(
            Run::new("df")
                .args(["--output=iused"])
                .args([&home])
                .ok()
                .text()
                .rsplit('\n')
                .next()
                .unwrap(),
        )
    };
    let (mut refusals, mut complaints) = (0, Vec::new());
    let begun = used();
    for more in 0..60 {
        mounted.remount(&format!("nr_inodes={}", begun + more));
        let start = coracle
            .run("start --disk-size 2500m")
            .env(BEFORE_THE_BOOT.0, BEFORE_THE_BOOT.1)
            .done();
        let done = start.code() == Some(130);
        if !done {
            refusals += 1;
            if start.code() != Some(26)
                || !start.stderr.contains("help: ")
                || start.stderr.contains("panicked")
            {
                complaints.push(format!("with room for {more} more files: {start}"));
            }
        }
        let delete = coracle.run("delete").done();
        if !matches!(delete.code(), Some(0 | 35)) {
            complaints.push(format!(
                "after a start with room for {more} more files: {delete}"
            ));
        }
        if done {
            break;
        }
    }
    assert!(refusals > 4, "the folder was full only {refusals} times");
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    assert_eq!(coracle.machines(), Vec::<String>::new());
    coracle.nothing_is_left();
    drop(coracle.run("list").ok());
    // The sandbox empties itself before the file system goes.
    let mut coracle = coracle;
    coracle.delete_all();
    drop(mounted);
}

#[test]
fn a_disk_larger_than_its_file_system_is_refused() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can mount the small file system");
        return;
    }
    let mut coracle = Coracle::new();
    let home = coracle.home();
    let mounted = Mounted::tmpfs(&home, "size=64m,mode=0700");
    small_image(&home);
    let refused = coracle
        .run("start")
        .done()
        .fails(26, "CORACLE_HOST_STORAGE");
    refused
        .says("does not fit")
        .says(&home.display().to_string())
        .advises("--disk-size");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    coracle.delete_all();
    drop(mounted);
}

#[test]
fn doctor_finds_what_is_there_and_says_it_as_data_too() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let text = coracle
        .run("doctor")
        .ok()
        .says("driver")
        .says("qemu")
        .says("image")
        .says("kubeconfig");
    assert!(text.stdout.lines().count() >= 4, "{text}");
    let findings = coracle.run("doctor -o json").ok().json();
    let checks: Vec<_> = findings
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Check"].as_str().unwrap())
        .collect();
    assert!(
        ["driver", "host", "image", "kubeconfig"]
            .iter()
            .all(|check| checks.contains(check)),
        "{checks:?}"
    );
    assert_eq!(coracle.run("doctor -o yaml").ok().yaml(), findings);
}

/// `/dev/kvm` may be there and be of no use: then software emulation is chosen, and said once.
#[test]
fn software_emulation_is_said_in_one_line_with_its_reason() {
    let coracle = Coracle::new();
    small_image(&coracle.home());
    let done = coracle
        .run("start")
        .env("CORACLE_FAULT", "interrupt:machine")
        .done()
        .fails(130, "CORACLE_INTERRUPTED");
    let usable = Run::new("sh")
        .args(["-c", "grep -qwE 'vmx|svm' /proc/cpuinfo && : <> /dev/kvm"])
        .done()
        .code()
        .is_some_and(|code| code == 0);
    let told = done
        .stderr
        .lines()
        .filter(|line| line.contains("emulation"))
        .count();
    assert_eq!(told, usize::from(!usable), "{done}");
    // Not the exit code of a signal either: the program ended by itself.
    assert_eq!(
        std::process::ExitStatus::from_raw(130 << 8).code(),
        done.code()
    );
}
