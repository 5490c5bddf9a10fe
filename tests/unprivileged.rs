//! The life of a cluster in the hands of an ordinary user, whom the test makes: nothing on the way
//! may need root. What such a user is refused before a boot is in `without_a_machine`.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

use coracle_tests::{Account, Coracle, Sections, alive, kill_pid, replace_in};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

#[test]
fn an_ordinary_user_starts_uses_stops_and_deletes_a_cluster() {
    let Some(account) = Account::create() else {
        return;
    };
    let name = account.name().to_owned();
    let mut coracle = Coracle::with_machine_as(account);
    let mut life = Sections::new("unprivileged");

    life.must("start", || {
        coracle.run("start").ok();
        let nodes = coracle.kubectl("get nodes --no-headers");
        assert!(
            nodes.starts_with("coracle ") && nodes.contains(" Ready "),
            "{nodes}"
        );
    });
    life.run("every process and file is the user's own", || {
        let uid = fs::metadata(coracle.home()).unwrap().uid();
        let processes = coracle.processes();
        assert!(
            processes.len() >= 2,
            "a hypervisor and its parent: {processes:#?}"
        );
        for process in processes {
            let owner = fs::metadata(format!("/proc/{}", process.pid))
                .unwrap()
                .uid();
            assert_eq!(owner, uid, "{process:?} is not {name}'s");
        }
        let kubeconfig = fs::metadata(coracle.kubeconfig()).unwrap();
        assert_eq!(
            (kubeconfig.uid(), kubeconfig.permissions().mode() & 0o777),
            (uid, 0o600)
        );
    });
    life.run("ssh, files, images, logs", || {
        assert_eq!(coracle.inside("sudo id -u"), "0");
        coracle_tests::write(coracle.work().join("note"), "from the host");
        coracle.give_to_account(&coracle.work().join("note"));
        coracle.run("cp note :/home/coracle/").ok();
        assert_eq!(coracle.inside("cat note"), "from the host");
        coracle
            .run("image ls")
            .ok()
            .says("coracle.internal/busybox:1.37");
        coracle.run("logs --component etcd -n 1").ok();
    });
    life.run("a pod", || {
        coracle.kubectl(
            "run hello --image=coracle.internal/busybox:1.37 --restart=Never -- echo hello-there",
        );
        coracle.kubectl("wait pod/hello --for=jsonpath={.status.phase}=Succeeded --timeout=600s");
        assert_eq!(coracle.kubectl("logs hello"), "hello-there");
    });
    life.must(
        "a kubeconfig that became read-only is said, and nothing is lost",
        || {
            let mode = |mode| {
                fs::set_permissions(coracle.kubeconfig(), fs::Permissions::from_mode(mode)).unwrap()
            };
            replace_in(
                coracle.kubeconfig(),
                "current-context: coracle",
                "current-context: other",
            );
            mode(0o400);
            let refused = coracle
                .run("start")
                .done()
                .fails(17, "CORACLE_KUBECONFIG_PERMISSION");
            refused.says(&coracle.kubeconfig().display().to_string());
            coracle
                .run("update-context")
                .done()
                .fails(17, "CORACLE_KUBECONFIG_PERMISSION");
            coracle.run("status").ok();
            mode(0o600);
            coracle.run("start").ok();
            assert_eq!(coracle.kubectl("config current-context"), "coracle");
        },
    );
    life.must("stop and start", || {
        coracle.run("stop").ok();
        coracle.run("status").done().code_is(3);
        coracle.no_process_is_left();
        coracle.run("start").ok();
        assert_eq!(
            coracle.kubectl("get pod hello -o jsonpath={.status.phase}"),
            "Succeeded"
        );
        assert_eq!(coracle.inside("cat note"), "from the host");
    });
    life.run("a killed hypervisor is seen", || {
        let pid = coracle.hypervisor("coracle").pid;
        kill_pid(pid);
        coracle.run("status").done().code_is(3).says("Stopped");
        assert!(!alive(pid));
    });
    life.run("delete", || {
        coracle.delete("coracle");
        coracle.nothing_is_left();
        // Only the value that was typed into it above is left.
        let left = fs::read_to_string(coracle.kubeconfig()).unwrap_or_default();
        assert!(
            !left.contains("coracle") && !left.contains("server"),
            "{left}"
        );
    });
    coracle.delete_all();
    life.finish();
}
