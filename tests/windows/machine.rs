//! A machine from its start to its end, which VirtualBox's fake runs and nobody is in.

use crate::host::Windows;
use crate::under_wine;
use coracle_tests::iso_image;

/// Started as far as it goes: its agent is waited for in vain.
fn started() -> Windows {
    let windows = Windows::with_virtualbox();
    iso_image(&windows.home());
    let start = windows.run("start --driver virtualbox --memory 2g").done();
    start.fails(82, "CORACLE_GUEST_TIMEOUT");
    windows
}

fn host_says(windows: &Windows) -> String {
    let status = windows.run("status -o json").done().json();
    status["Host"].as_str().unwrap().to_owned()
}

under_wine! {
    fn a_machine_is_launched_paused_and_deleted() {
        let windows = started();
        assert_eq!(windows.machines(), [("coracle-coracle".into(), "running".into())]);
        assert_eq!(host_says(&windows), "Running");
        let listed = windows.run("list -o json").ok().json();
        assert_eq!(listed[0]["Name"], "coracle");
        windows.run("pause").ok();
        assert_eq!(windows.machines()[0].1, "paused");
        assert_eq!(host_says(&windows), "Paused");
        // It goes on, and nobody inside says so.
        windows.run("unpause").done().fails(82, "CORACLE_GUEST_TIMEOUT");
        assert_eq!(windows.machines()[0].1, "running");
        windows.run("delete").ok();
        assert_eq!(windows.machines(), []);
        let left = std::fs::read_dir(windows.home().join("machines")).unwrap();
        let left: Vec<_> = left.flatten().map(|entry| entry.file_name()).collect();
        assert!(left.iter().all(|name| name == ".locks"), "{left:?}");
    }

    /// Its host agent outlives the start, answers over its pipe, and ends when it is told to.
    fn a_host_agent_is_there_as_long_as_its_machine_is_not_stopped() {
        let windows = started();
        let lock = windows.home().join("machines/coracle/host-agent.lock");
        assert!(lock.is_file());
        let status = windows.run("status").done();
        status.says("hostagent: Running");
        windows.run("stop --shutdown").ok();
        assert_eq!(windows.machines()[0].1, "poweroff");
        windows.run("status").done().says("hostagent: Stopped");
        windows.run("delete").ok();
    }
}
