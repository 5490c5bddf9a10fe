//! A host that runs out of space: the guest is paused, told so, and goes on after space was made.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod machine;

use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use coracle_vm::program::Programs;
use coracle_vm::spec::DiskFormat;
use coracle_vm::{Driver, MachineState};
use machine::{LIMIT, TestMachine, WRITER, programs};

/// What stands in front of QEMU: a file system of 256 MiB, seen by it alone, over the folder of the
/// test's disk. A file in it takes nearly all of the space, to be removed later: the guest then needs a while to
/// fill it again.
fn small_file_system(home: &Path, folder: &Path) -> Programs {
    let qemu = programs()
        .find("qemu-system-x86_64")
        .expect("qemu-system-x86_64 must be installed");
    let script = home.join("qemu-system-x86_64");
    let (folder, qemu) = (folder.display(), qemu.display());
    let text = format!(
        "#!/bin/sh\nif [ \"$1\" = -name ]; then exec unshare --user --map-root-user --mount /bin/sh -c \
         'cp {folder}/data.img {home}/kept && mount -t tmpfs -o size=256m none {folder} && \
         cp --sparse=always {home}/kept {folder}/data.img && head -c 268000000 /dev/zero > {folder}/filler && \
         exec {qemu} \"$@\"' sh \"$@\"; fi\nexec {qemu} \"$@\"\n",
        home = home.display(),
    );
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o700)
        .open(&script)
        .unwrap();
    file.write_all(text.as_bytes()).unwrap();
    Programs {
        qemu: Some(script),
        ..programs()
    }
}

#[tokio::test]
async fn a_full_host_pauses_the_guest_until_space_was_made() {
    let home = tempfile::Builder::new()
        .prefix("vm-test-")
        .tempdir()
        .unwrap();
    let folder = home.path().join("disks");
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    let mut machine = TestMachine::with_programs(small_file_system(home.path(), &folder))
        .with_data_disk(DiskFormat::Raw);
    machine.spec.disks[0].path = folder.join("data.img");
    machine
        .driver
        .prepare(&machine.dir, &machine.spec)
        .await
        .unwrap();
    let mut sector = [0; 512];
    sector[..WRITER.len()].copy_from_slice(&WRITER);
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    let mut disk = std::fs::OpenOptions::new()
        .write(true)
        .open(folder.join("data.img"))
        .unwrap();
    disk.write_all(&sector).unwrap();
    drop(disk);

    let process = machine.launch().await.unwrap();
    assert_eq!(
        wait_for(&machine, MachineState::PausedDiskFull).await,
        MachineState::PausedDiskFull
    );

    // Without space it is paused again.
    machine.driver.resume(&machine.dir).await.unwrap();
    assert_eq!(
        wait_for(&machine, MachineState::PausedDiskFull).await,
        MachineState::PausedDiskFull
    );

    let inside = Path::new("/proc")
        .join(process.pid.to_string())
        .join("root");
    let filler = inside
        .join(folder.strip_prefix("/").unwrap())
        .join("filler");
    std::fs::remove_file(filler).unwrap();
    // A write that was tried again just before the space was made pauses it once more.
    let mut state = MachineState::PausedDiskFull;
    for _ in 0..5 {
        machine.driver.resume(&machine.dir).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        state = machine.state().await;
        if state == MachineState::Running {
            break;
        }
    }
    assert_eq!(state, MachineState::Running);
    machine.quit().await;
}

/// Looks until the machine is in a state, and gives the last one seen.
async fn wait_for(machine: &TestMachine, wanted: MachineState) -> MachineState {
    let begun = Instant::now();
    loop {
        let state = machine.state().await;
        if state == wanted || begun.elapsed() > LIMIT {
            return state;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
