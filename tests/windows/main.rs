//! The program for Windows, run by Wine: paths, settings, kubeconfigs and errors as they are there, and a
//! machine of a VirtualBox that is a fake (`vm/tests/fakes/vboxmanage.rs`). No guest ever answers, so what
//! comes after a boot is not seen here, nor whatever Wine does otherwise than Windows.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod host;
mod machine;

use coracle_tests::{iso_image, small_image, write};
use host::{Windows, seen};
use serde_json::json;
use std::fs;

/// Why these are left out of the quick run.
macro_rules! under_wine {
    ($($(#[doc = $doc:literal])* fn $name:ident() $body:block)*) => {
        $(
            $(#[doc = $doc])*
            #[test]
            #[ignore = "needs Wine and the programs for Windows: `make test-full`"]
            fn $name() $body
        )*
    };
}
use under_wine;

under_wine! {
    fn it_tells_its_version_its_help_and_what_is_wrong_with_a_command() {
        let windows = Windows::new();
        let version = format!("v{}\n", env!("CARGO_PKG_VERSION"));
        assert_eq!(windows.run("version --short").ok().stdout, version);
        windows.run("--help").ok().says("docker-env");
        windows.run("strat").done().fails(14, "CORACLE_USAGE").says("start");
        windows.run("status -p A/B").done().fails(14, "CORACLE_USAGE");
    }

    fn settings_are_kept_in_the_state_folder() {
        let windows = Windows::new();
        windows.run("config set cpus 3").ok();
        windows.run("config set memory 3g").ok();
        assert_eq!(windows.run("config get cpus").ok().text(), "3");
        let view = windows.run("config view -o json").ok().json();
        assert_eq!(view["cpus"], json!(3));
        assert!(windows.home().join("config.yaml").is_file());
        windows.run("config unset cpus").ok();
        windows
            .run("config get cpus")
            .done()
            .fails(15, "CORACLE_CONFIG_NOT_FOUND");
        windows.run("profile other").ok();
        assert_eq!(windows.run("profile").ok().text(), "other");
        write(windows.home().join("config.yaml"), "cpus: [\n");
        let file = seen(&windows.home().join("config.yaml"));
        windows
            .run("config view")
            .done()
            .fails(18, "CORACLE_CONFIG_INVALID")
            .says(&file);
    }

    fn shells_are_given_what_they_read() {
        let windows = Windows::new();
        let unset = |shell: &str| windows.run(&format!("docker-env --unset --shell {shell}")).ok();
        unset("cmd").says("SET DOCKER_HOST=\n");
        unset("powershell").says("Remove-Item -ErrorAction Ignore Env:\\DOCKER_HOST\n");
        // Without a word the shell is one of Windows's.
        let own = windows.run("docker-env --unset").ok().stdout;
        assert!(own == unset("cmd").stdout.replace(" --shell cmd", "")
            || own == unset("powershell").stdout.replace(" --shell powershell", ""), "{own}");
        let bash = windows.run("docker-env --unset").env("SHELL", r"C:\Git\bin\bash.exe");
        bash.ok().says("unset DOCKER_HOST");
        windows
            .run("completion powershell")
            .ok()
            .says("Register-ArgumentCompleter -Native -CommandName 'coracle'");
        windows.run("completion bash").ok().says("complete -F");
    }

    fn where_there_is_no_cluster_that_is_said() {
        let windows = Windows::new();
        for command in ["status", "stop", "delete", "ip", "docker-env --shell cmd", "ssh", "pause"] {
            windows
                .run(command)
                .done()
                .fails(35, "CORACLE_MACHINE_NOT_FOUND")
                .advises("coracle start");
        }
        assert_eq!(windows.run("list -o json").ok().json(), json!([]));
        windows.run("delete --all").ok();
    }

    fn a_host_without_a_hypervisor_is_told_how_to_get_one() {
        let windows = Windows::new();
        iso_image(&windows.home());
        let doctor = windows.run("doctor").done();
        assert_ne!(doctor.code(), Some(0), "{doctor}");
        doctor.says("winget install").says("VBoxManage").says("qemu-system-");
        windows
            .run("start")
            .done()
            .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
            .says("winget install");
        windows
            .run("start --driver virtualbox")
            .done()
            .fails(55, "CORACLE_DRIVER_NOT_INSTALLED")
            .says("winget install Oracle.VirtualBox");
    }

    fn doctor_finds_what_is_there() {
        let windows = Windows::with_virtualbox();
        let powershell = windows.install("fake-powershell.exe", "powershell.exe");
        iso_image(&windows.home());
        let doctor = windows.run("doctor -o json").done();
        let findings = doctor.json();
        let found = |check: &str, words: &str| {
            let findings = findings.as_array().unwrap().iter();
            let mut of_check = findings.filter(|one| one["Check"] == check);
            of_check.any(|one| one["Finding"].as_str().unwrap().contains(words))
        };
        for (check, words) in [
            ("driver", "virtualbox 7.0.20"),
            ("driver", "hyperv 10.0.22631"),
            ("driver", &seen(&powershell)),
            ("host", "CPUs"),
            ("image", "with Kubernetes v1.37.2"),
            ("kubeconfig", "can be read"),
        ] {
            assert!(found(check, words), "{check}: {words}: {doctor}");
        }
        assert_eq!(doctor.code(), Some(0), "{doctor}");
    }

    fn a_driver_that_is_not_for_windows_says_so() {
        let windows = Windows::new();
        iso_image(&windows.home());
        windows
            .run("start --driver libvirt")
            .done()
            .fails(56, "CORACLE_DRIVER_UNSUPPORTED");
        windows
            .run("start --driver nothing")
            .done()
            .fails(54, "CORACLE_DRIVER_UNKNOWN");
    }

    fn an_image_is_missing_damaged_or_of_the_wrong_kind() {
        let windows = Windows::with_virtualbox();
        windows
            .run("start --driver virtualbox")
            .done()
            .fails(65, "CORACLE_IMAGE_NOT_FOUND");
        let image = small_image(&windows.home());
        windows
            .run("start --driver virtualbox")
            .done()
            .fails(65, "CORACLE_IMAGE_NOT_FOUND")
            .advises("--iso");
        write(image.join("image.json"), "{}");
        let damaged = windows.run("start --driver virtualbox").done();
        damaged.fails(68, "CORACLE_IMAGE_DAMAGED").says("image.json");
        assert_eq!(windows.machines(), []);
    }

    fn a_kubeconfig_that_cannot_be_edited_is_found_before_anything_boots() {
        let windows = Windows::with_virtualbox();
        iso_image(&windows.home());
        let config = windows.kubeconfig();
        write(&config, "contexts: 7\n");
        windows
            .run("start --driver virtualbox")
            .done()
            .fails(18, "CORACLE_KUBECONFIG_INVALID")
            .says(&seen(&config));
        assert_eq!(fs::read_to_string(&config).unwrap(), "contexts: 7\n");
        // A list is separated by semicolons, and drives have a colon.
        let (good, bad) = (windows.user().join("good"), windows.user().join("bad one"));
        write(&good, "apiVersion: v1\nkind: Config\n");
        write(&bad, "}{\n");
        windows
            .run("start --driver virtualbox")
            .env("KUBECONFIG", format!("{};{}", seen(&good), seen(&bad)))
            .done()
            .fails(18, "CORACLE_KUBECONFIG_INVALID")
            .says(&seen(&bad));
        // client-go's lock, of another program.
        write(&config, "apiVersion: v1\r\nkind: Config\r\n");
        let lock = config.with_file_name("config.lock");
        write(&lock, "");
        windows
            .run("start --driver virtualbox")
            .done()
            .fails(12, "CORACLE_KUBECONFIG_LOCKED")
            .says(&seen(&lock));
        assert!(lock.exists(), "a lock of somebody else was taken away");
        assert_eq!(windows.machines(), []);
    }

    fn under_the_name_of_kubectl_it_is_kubectl() {
        let windows = Windows::new();
        let kubectl = windows.install("coracle.exe", "kubectl.exe");
        windows
            .program(&kubectl)
            .args(["get", "nodes"])
            .done()
            .fails(105, "CORACLE_KUBECTL_NOT_FOUND");
    }

    fn a_compose_file_becomes_manifests() {
        let windows = Windows::new();
        let compose = windows.user().join("compose.yaml");
        write(&compose, "services:\r\n  web:\r\n    image: nginx\r\n    ports: [\"8080:80\"]\r\n");
        let converted = windows
            .run("convert")
            .args([seen(&compose)])
            .ok();
        converted.says("kind: Deployment").says("image: nginx");
    }
}
