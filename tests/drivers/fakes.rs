//! Drivers whose hypervisors cannot run here, over programs that answer as those do (`vm/tests/fakes`). A
//! fake boots nothing: a start comes as far as the guest's agent, for which it waits in vain.

use coracle_tests::{Coracle, build, iso_image, repository, write};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

/// What a start says at its end whose guest says nothing.
const NO_ANSWER: (i32, &str) = (82, "CORACLE_GUEST_TIMEOUT");
/// What a start may wait for the agent, which is not there.
const WAIT: &str = "start --wait-timeout 8s";

/// VirtualBox, as far as the fake goes.
struct VirtualBox {
    coracle: Coracle,
    folder: PathBuf,
}

impl VirtualBox {
    fn new() -> Self {
        let fake = build_fake("fake-vboxmanage");
        let mut coracle = Coracle::new();
        iso_image(&coracle.home());
        // Not below the state folder: what is left there is told apart.
        let folder = coracle.folder().join("virtualbox");
        fs::create_dir(&folder).unwrap();
        symlink(fake, folder.join("VBoxManage")).unwrap();
        coracle.set("CORACLE_DRIVER", "virtualbox");
        coracle.set("VBOX_MSI_INSTALL_PATH", folder.display().to_string());
        Self { coracle, folder }
    }

    fn books(&self) -> Value {
        let bytes = fs::read(self.folder.join("vbox.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    /// The identifier and the state of the only machine there.
    #[track_caller]
    fn machine(&self) -> (String, String) {
        let books = self.books();
        let machines = books["machines"].as_object().unwrap();
        assert_eq!(machines.len(), 1, "{books:#}");
        let (id, machine) = machines.iter().next().unwrap();
        (id.clone(), machine["state"].as_str().unwrap().to_owned())
    }

    /// As where its process was killed.
    fn abort(&self) {
        let mut books = self.books();
        let machines = books["machines"].as_object_mut().unwrap();
        for machine in machines.values_mut() {
            machine["state"] = "aborted".into();
        }
        write(self.folder.join("vbox.json"), books.to_string());
    }

    #[track_caller]
    fn forgets_all(&self) {
        let books = self.books();
        assert_eq!(books["machines"], serde_json::json!({}), "{books:#}");
        assert_eq!(books["media"], serde_json::json!([]), "{books:#}");
    }

    /// A start that waits in vain.
    #[track_caller]
    fn starts(&self) {
        let start = self.coracle.run(WAIT).done();
        start.fails(NO_ANSWER.0, NO_ANSWER.1);
        assert_eq!(self.machine().1, "running");
    }

    #[track_caller]
    fn host_is(&self, state: &str) {
        let status = self.coracle.run("status").done();
        assert!(status.code().is_some_and(|code| code < 8), "{status}");
        status.says(&format!("host: {state}"));
        let rows = self.coracle.run("list -o json").ok().json();
        assert_eq!(rows[0]["Driver"], "virtualbox", "{rows}");
    }
}

/// One of the programs of `vm/tests/fakes`.
fn build_fake(name: &str) -> PathBuf {
    let arguments = ["-p", "coracle-vm", "--bin", name];
    build(name, &repository(), &arguments, name)
}

#[test]
#[ignore = "a program is built, and waited for in vain"]
fn a_cluster_of_virtualbox_is_made_found_stopped_recovered_and_deleted() {
    let mut virtualbox = VirtualBox::new();
    let can = virtualbox.coracle.abilities();
    assert_eq!(can.driver, "virtualbox");
    assert!(can.can_pause && can.can_save && !can.can_copy, "{can:?}");

    // Cut off before anything is made of it, and again when it runs.
    let coracle = &virtualbox.coracle;
    coracle.run(WAIT).killed_at("boot");
    assert_eq!(virtualbox.books()["machines"], serde_json::json!({}));
    coracle.run(WAIT).killed_at("agent");
    let (id, state) = virtualbox.machine();
    assert_eq!(state, "running");
    virtualbox.host_is("Running");

    // Nothing is begun anew.
    virtualbox.starts();
    assert_eq!(virtualbox.machine().0, id);
    coracle.run("pause").ok();
    assert_eq!(virtualbox.machine().1, "paused");
    virtualbox.host_is("Paused");
    coracle
        .run("clone other")
        .done()
        .fails(56, "CORACLE_DRIVER_UNSUPPORTED");

    // Its process is killed.
    virtualbox.abort();
    virtualbox.host_is("Stopped");
    virtualbox.starts();
    assert_eq!(virtualbox.machine().0, id);

    // Nobody inside ends it.
    let stop = coracle.run("stop").ok();
    stop.says("switched off").says("coracle stopped after");
    assert_eq!(virtualbox.machine(), (id.clone(), "poweroff".to_owned()));
    virtualbox.host_is("Stopped");
    coracle.no_process_is_left();

    // Started again, and deleted while it runs.
    virtualbox.starts();
    assert_eq!(virtualbox.machine().0, id);
    coracle.run("delete").ok();
    virtualbox.forgets_all();
    coracle.nothing_is_left();
    virtualbox.coracle.delete_all();
}

/// The fake's guests have no network, and neither would real ones: Hyper-V gives addresses, and no guest asks.
#[test]
#[ignore = "a program is built"]
fn a_cluster_of_hyperv_is_refused_before_anything_is_made() {
    let fake = build_fake("fake-powershell");
    let mut coracle = Coracle::new();
    iso_image(&coracle.home());
    let folder = coracle.folder().join("hyperv");
    fs::create_dir(&folder).unwrap();
    symlink(fake, folder.join("powershell")).unwrap();
    coracle.set("CORACLE_DRIVER", "hyperv");
    let powershell = folder.join("powershell").display().to_string();
    coracle.set("CORACLE_POWERSHELL", powershell);

    assert_eq!(coracle.abilities().driver, "hyperv");
    let refused = coracle.run("start").done();
    refused
        .fails(56, "CORACLE_DRIVER_UNSUPPORTED")
        .says("hyperv")
        .advises("--driver");
    assert_eq!(coracle.machines(), Vec::<String>::new());
    let was_asked = fs::read_to_string(folder.join("log")).unwrap();
    assert!(was_asked.contains("Get-CoracleHost"), "{was_asked}");
    assert!(!folder.join("vms.json").exists(), "{was_asked}");
    let violation = fs::read_to_string(folder.join("violation")).unwrap_or_default();
    assert_eq!(violation, "");
    coracle.delete_all();
}
