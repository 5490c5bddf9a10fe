//! Saves that must not be used: each is told in one line, and the same disk boots cold.

use super::cluster::{Cluster, copy_save};
use coracle_tests::{damage, replace_in, write};
use std::fs::{self, File};
use std::path::Path;

/// What is done to a save.
type Damage = fn(&Path);

/// What can be seen before anything runs, and what is said about it.
const SEEN_AT_ONCE: [(&str, Damage); 8] = [
    ("it has format 2", |save| {
        replace_in(save.join("save.json"), "\"format\": 1", "\"format\": 2");
    }),
    ("save.json is damaged", |save| {
        let text = fs::read(save.join("save.json")).unwrap();
        write(save.join("save.json"), &text[..text.len() / 2]);
    }),
    ("save.json", |save| {
        fs::remove_file(save.join("save.json")).unwrap()
    }),
    ("its file pages has", |save| cut_off(&save.join("pages"))),
    ("its file devices has", |save| {
        cut_off(&save.join("devices"));
    }),
    ("its file devices was changed", |save| {
        damage(save.join("devices"));
    }),
    ("this host's cpus is not what it was then", |save| {
        replace_in(save.join("save.json"), "\"cpus\": \"2\"", "\"cpus\": \"3\"");
    }),
    ("the host went down before it was written whole", |save| {
        fs::remove_file(save.join("durable")).unwrap();
        another_boot(save);
    }),
];

/// What only shows when it is used: each part of the memory has a checksum of its own, and so has
/// the list of them.
const SEEN_IN_USE: [(&str, Damage); 2] = [
    ("a part", |save| damage(save.join("pages"))),
    ("the list", |save| {
        change(&save.join("pages"), |length| length - 30)
    }),
];

fn cut_off(file: &Path) {
    let file = File::options().write(true).open(file).unwrap();
    file.set_len(file.metadata().unwrap().len() / 2).unwrap();
}

fn change(file: &Path, place: fn(usize) -> usize) {
    let mut bytes = fs::read(file).unwrap();
    let place = place(bytes.len());
    bytes[place] ^= 0x55;
    write(file, bytes);
}

/// As if the host had been booted since it was saved.
pub(super) fn another_boot(save: &Path) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    replace_in(save.join("save.json"), boot.trim(), &"0".repeat(36));
}

/// A cluster that is asleep, and stays so: no start comes as far as its machine.
pub(super) fn is_seen_at_once(cluster: Cluster<'_>) {
    let boot = cluster.boot_id();
    cluster.stop();
    cluster.until_durable();
    let good = cluster.coracle.work().join("good-save");
    copy_save(&cluster.save(), &good);
    let refused = |said: &str| {
        let start = cluster.start_until("machine");
        let lines = start
            .stderr
            .lines()
            .filter(|line| line.contains("cold"))
            .count();
        assert_eq!(lines, 1, "{start}");
        start
            .says("booting cold: the saved memory cannot be used")
            .says(said);
        cluster.has_no_save();
        copy_save(&good, &cluster.save());
    };
    for (said, damage) in SEEN_AT_ONCE {
        damage(&cluster.save());
        refused(said);
    }
    // The disk of another moment; its content is not looked at, and is not changed here.
    let disk = File::options()
        .append(true)
        .open(cluster.folder().join("data.qcow2"))
        .unwrap();
    let changed = disk.metadata().unwrap().modified().unwrap();
    disk.set_modified(changed + std::time::Duration::from_nanos(1))
        .unwrap();
    refused("was changed after it");
    disk.set_modified(changed).unwrap();
    // It was the damage that was refused: what was copied before is good.
    cluster.wake();
    cluster.still_runs(&boot);
}

/// Such a machine runs at once, so it takes a cluster each.
pub(super) fn is_seen_in_use(cluster: Cluster<'_>) {
    for (what, damage) in SEEN_IN_USE {
        cluster.used_for(|cluster| {
            cluster.stop();
            damage(&cluster.save());
            let start = cluster.start_until("agent");
            let lines = start
                .stderr
                .lines()
                .filter(|line| line.contains("booting cold"));
            assert_eq!(lines.count(), 1, "{what}: {start}");
            cluster.hypervisor();
            cluster.has_no_save();
        });
    }
}
