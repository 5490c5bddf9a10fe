//! The driver against a real QEMU that boots only its firmware.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod machine;

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use coracle_vm::address::check_free;
use coracle_vm::spec::{DiskFormat, Protocol};
use coracle_vm::{
    Accelerator, AcceleratorChoice, Driver, DriverError, GuestPort, MachineState, Size,
};
use machine::{LIMIT, TestMachine, signal};
use rustix::process::Signal;

#[tokio::test]
async fn the_probe_tells_program_version_and_accelerator() {
    let machine = TestMachine::new();
    let facts = machine
        .driver
        .probe(AcceleratorChoice::Auto, machine.spec.architecture)
        .await
        .unwrap();
    assert!(facts.place.ends_with("/qemu-system-x86_64"), "{facts:?}");
    assert!(
        facts
            .version
            .split('.')
            .all(|part| part.parse::<u32>().is_ok()),
        "{facts:?}"
    );
    let tcg = facts.verdict.accelerator == Accelerator::Tcg;
    assert_eq!(
        facts.verdict.reason.contains("software emulation"),
        tcg,
        "{facts:?}"
    );
}

#[tokio::test]
async fn a_machine_lives_through_its_states() {
    let machine = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    let (driver, dir) = (&machine.driver, &machine.dir);
    assert_eq!(machine.state().await, MachineState::Off);
    driver.prepare(dir, &machine.spec).await.unwrap();
    let mut process = machine.launch().await.unwrap();
    assert_eq!(machine.state().await, MachineState::Running);

    machine.obeys().await;
    driver.quit(dir, LIMIT).await.unwrap();
    assert_eq!(machine.state().await, MachineState::Off);
    assert!(process.wait().await.unwrap().success());
    assert!(!machine.socket().exists() && !dir.qemu_pid().exists());
    driver.quit(dir, LIMIT).await.unwrap();
    driver.wait_off(dir, LIMIT).await.unwrap();
    assert!(matches!(
        driver.pause(dir).await,
        Err(DriverError::NotRunning)
    ));
}

#[tokio::test]
async fn qemu_outlives_its_handle_and_has_a_session_of_its_own() {
    let machine = TestMachine::new();
    let process = machine.launch().await.unwrap();
    let pid = process.pid;
    let session = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let after_name = stat.rsplit_once(") ").unwrap().1.to_owned();
        after_name
            .split(' ')
            .nth(3)
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!(session(pid), pid);
    drop(process);
    assert_eq!(machine.state().await, MachineState::Running);
    machine.quit().await;
    assert_eq!(machine.state().await, MachineState::Off);
}

#[tokio::test]
async fn a_killed_qemu_is_seen_at_once_and_can_be_launched_again_at_once() {
    let machine = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    machine
        .driver
        .prepare(&machine.dir, &machine.spec)
        .await
        .unwrap();
    let mut process = machine.launch().await.unwrap();
    for _ in 0..5 {
        signal(process.pid, Signal::KILL);
        let begun = Instant::now();
        assert_eq!(machine.state().await, MachineState::Off);
        assert!(
            begun.elapsed() < Duration::from_secs(2),
            "{:?}",
            begun.elapsed()
        );
        // The disk's lock must be free by now.
        let next = machine.launch().await.unwrap();
        process.wait().await.unwrap();
        process = next;
    }
    machine.quit().await;
}

#[tokio::test]
async fn what_a_killed_qemu_left_behind_is_not_a_running_machine() {
    let machine = TestMachine::new();
    let mut process = machine.launch().await.unwrap();
    signal(process.pid, Signal::KILL);
    process.wait().await.unwrap();
    // Nothing was cleared: the socket and the pid file are still there.
    assert!(machine.socket().exists() && machine.dir.qemu_pid().exists());
    assert_eq!(machine.state().await, MachineState::Off);

    // A socket that somebody else left, and a pid file that names somebody else.
    std::fs::remove_file(machine.socket()).unwrap();
    drop(UnixListener::bind(machine.socket()).unwrap());
    let own = format!("{}\n", std::process::id());
    coracle_vm::store::atomic::write(&machine.dir.qemu_pid(), own.as_bytes()).unwrap();
    assert_eq!(machine.state().await, MachineState::Off);
    machine.quit().await;
    let _again = machine.launch().await.unwrap();
    machine.quit().await;
}

#[tokio::test]
async fn a_hung_qemu_is_broken_in_time_and_quit_ends_it() {
    let machine = TestMachine::new();
    let process = machine.launch().await.unwrap();
    signal(process.pid, Signal::STOP);
    let begun = Instant::now();
    let state = machine.state().await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    let expected = format!("broken: QEMU (process {}) does not answer", process.pid);
    assert_eq!(state.to_string(), expected);
    machine
        .driver
        .quit(&machine.dir, Duration::from_millis(200))
        .await
        .unwrap();
    assert_eq!(machine.state().await, MachineState::Off);
}

#[tokio::test]
async fn a_lost_socket_is_told_and_quit_still_ends_the_machine() {
    let machine = TestMachine::new();
    let _process = machine.launch().await.unwrap();
    std::fs::remove_file(machine.socket()).unwrap();
    let touch = |time| {
        let pid_file = std::fs::OpenOptions::new()
            .append(true)
            .open(machine.dir.qemu_pid());
        pid_file.unwrap().set_modified(time).unwrap();
    };
    let now = std::time::SystemTime::now();
    // So soon after its start, QEMU could still be about to open it.
    touch(now);
    assert_eq!(machine.state().await, MachineState::Starting);
    touch(now - Duration::from_secs(3600));
    let state = machine.state().await.to_string();
    assert!(
        state.ends_with("runs, but its monitor's socket is gone"),
        "{state}"
    );
    machine
        .driver
        .quit(&machine.dir, Duration::from_millis(200))
        .await
        .unwrap();
    assert_eq!(machine.state().await, MachineState::Off);
}

#[tokio::test]
async fn many_may_ask_at_the_same_time() {
    let machine = TestMachine::new();
    let _process = machine.launch().await.unwrap();
    let observe = || machine.driver.observe(&machine.dir);
    let states = tokio::join!(observe(), observe(), observe());
    let expected = MachineState::Running;
    for state in [states.0, states.1, states.2] {
        assert_eq!(state, expected);
    }
    machine.quit().await;
}

#[tokio::test]
async fn a_forwarded_port_is_open_and_a_taken_one_is_named() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap();
    let machine = TestMachine::new().forwarding(address);
    let error = machine.launch().await.unwrap_err();
    let DriverError::PortTaken {
        address: named,
        detail,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(*named, address);
    assert!(
        detail.starts_with("-netdev") || detail.contains("host forwarding rule"),
        "{detail}"
    );
    assert_eq!(machine.state().await, MachineState::Off);

    drop(held);
    let _process = machine.launch().await.unwrap();
    assert!(check_free(address, Protocol::Tcp).is_err());
    machine.quit().await;
    check_free(address, Protocol::Tcp).unwrap();
}

#[tokio::test]
async fn disks_are_made_once_thin_and_private() {
    for format in [DiskFormat::Qcow2, DiskFormat::Raw] {
        let machine = TestMachine::new().with_data_disk(format);
        machine
            .driver
            .prepare(&machine.dir, &machine.spec)
            .await
            .unwrap();
        let made = machine.data_disk().metadata().unwrap();
        assert_eq!(made.mode() & 0o777, 0o600);
        assert!(made.blocks() * 512 < 1 << 20, "{} blocks", made.blocks());
        machine
            .driver
            .prepare(&machine.dir, &machine.spec)
            .await
            .unwrap();
        let kept = machine.data_disk().metadata().unwrap();
        assert_eq!(
            (made.ino(), made.mtime_nsec()),
            (kept.ino(), kept.mtime_nsec())
        );
        assert_eq!(
            std::fs::read_dir(machine.dir.path()).unwrap().count(),
            1,
            "something was left"
        );
    }
}

#[tokio::test]
async fn a_disk_is_never_given_to_two_machines() {
    let first = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    first.driver.prepare(&first.dir, &first.spec).await.unwrap();
    let _process = first.launch().await.unwrap();
    let mut second = TestMachine::new();
    second.spec.disks.clone_from(&first.spec.disks);
    let error = second.launch().await.unwrap_err();
    assert!(matches!(error, DriverError::DiskInUse { .. }), "{error:?}");
    first.quit().await;
}

#[tokio::test]
async fn early_ends_are_explained() {
    let machine = TestMachine::new().with_data_disk(DiskFormat::Qcow2);
    let missing = machine.launch().await.unwrap_err();
    assert!(
        matches!(&missing, DriverError::MissingFile { path } if *path == machine.data_disk()),
        "{missing}"
    );

    coracle_vm::store::atomic::write(&machine.data_disk(), &[7; 70_000]).unwrap();
    let error = machine.launch().await.unwrap_err();
    let DriverError::LaunchFailed {
        last_lines,
        command,
        ..
    } = &error
    else {
        panic!("{error:?}")
    };
    assert!(
        last_lines.iter().any(|line| line.contains("qcow2 format")),
        "{last_lines:?}"
    );
    assert!(
        command.contains("qemu-system-x86_64 -name guest=coracle-dev"),
        "{command}"
    );

    let mut huge = TestMachine::new();
    huge.spec.memory = Size::from_gib(64 << 10);
    let error = huge.launch().await.unwrap_err();
    assert!(matches!(error, DriverError::NoMemory { .. }), "{error:?}");
    assert_eq!(huge.state().await, MachineState::Off);
}

#[tokio::test]
async fn the_logs_are_private_and_the_former_ones_are_kept() {
    let machine = TestMachine::new();
    for _ in 0..2 {
        let _process = machine.launch().await.unwrap();
        machine.quit().await;
    }
    for log in [machine.dir.serial_log(), machine.dir.qemu_log()] {
        assert_eq!(
            log.metadata().unwrap().mode() & 0o777,
            0o600,
            "{}",
            log.display()
        );
        assert!(coracle_vm::log_file::former(&log).exists());
    }
}

#[tokio::test]
async fn ports_are_exposed_while_it_runs_and_concealed_again() {
    let spoken_for = TcpListener::bind("127.88.9.9:0").unwrap();
    let address = spoken_for.local_addr().unwrap();
    drop(spoken_for);
    let machine = TestMachine::new().forwarding(address);
    let (driver, dir) = (&machine.driver, &machine.dir);
    let tcp = GuestPort {
        protocol: Protocol::Tcp,
        port: 30_080,
    };
    let udp = GuestPort {
        protocol: Protocol::Udp,
        port: 30_053,
    };
    let off = driver.expose(dir, address.ip(), &[tcp]).await.unwrap_err();
    assert!(matches!(off, DriverError::NotRunning), "{off}");

    machine.launch().await.unwrap();
    let specified = driver.exposed(dir).await.unwrap();
    let [only] = specified[..] else {
        panic!("{specified:?}");
    };
    assert_eq!((only.host, only.guest.port), (address, 22));

    let exposed = driver.expose(dir, address.ip(), &[tcp, udp]).await.unwrap();
    assert_eq!([exposed[0].guest, exposed[1].guest], [tcp, udp]);
    assert!(exposed.iter().all(|one| one.host.ip() == address.ip()));
    std::net::TcpStream::connect(exposed[0].host).unwrap();
    assert!(check_free(exposed[1].host, Protocol::Udp).is_err());
    // Whoever asks again is told the same.
    let again = driver.expose(dir, address.ip(), &[udp, tcp]).await.unwrap();
    assert_eq!(
        again,
        exposed[..2].iter().rev().copied().collect::<Vec<_>>()
    );
    assert_eq!(driver.exposed(dir).await.unwrap().len(), 3);

    for _ in 0..2 {
        driver.conceal(dir, &exposed).await.unwrap();
        assert_eq!(driver.exposed(dir).await.unwrap(), specified);
    }
    check_free(exposed[0].host, Protocol::Tcp).unwrap();
    machine.quit().await;
}
