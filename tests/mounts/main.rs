//! Folders of the host in pods: both ways, with everything that file names and sizes can be, watched, and
//! over whatever ends and begins again.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "test code: a panic is a failed test"
)]

mod site;

use coracle_tests::{Coracle, Profile, Sections, append, kill_pid, until, write};
use site::{LIMIT, Site};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

/// Appended one by one, so that each is a call of its own.
const LINES: usize = 300;

#[test]
fn folders_of_the_host_are_in_pods() {
    let mut coracle = Coracle::with_template();
    let mut test = Sections::new("mounts");
    let site = test.must("a cluster with folders of the host", || {
        Site::open(&coracle, "coracle", "site")
    });
    test.run("an ordinary user of a pod reads and writes", || {
        an_ordinary_user_writes(&site);
    });
    test.run("whatever a file may be", || whatever_a_file_may_be(&site));
    test.run("a change is shown at once, and told as what it is", || {
        changes_are_told(&site);
    });
    test.run("read-only means that nothing changes", || {
        read_only_changes_nothing(&site);
    });
    test.run("what cannot be mounted is explained", || {
        what_cannot_be_mounted_is_explained(&site);
    });
    test.run("a mount comes and goes while the cluster runs", || {
        comes_and_goes(&site);
    });
    test.run("a folder that vanishes harms nobody", || {
        vanishes(&site);
    });
    test.run("a host agent killed under writes loses none", || {
        outlives_its_host_agent(&site);
    });
    test.run("a stop and a start", || goes_on_after_a_stop(&site));
    test.run_long("a second cluster beside it, and a copy", || {
        several_share_a_folder(&coracle, &site);
    });
    coracle.delete_all();
    test.finish();
}

fn an_ordinary_user_writes(site: &Site<'_>) {
    site.in_pod("id -u; cat /site/page")
        .ok()
        .says("1000\nfirst");
    site.in_pod(
        "mkdir /site/made && echo from the pod > /site/made/file && chmod 640 /site/made/file",
    )
    .ok();
    let made = site.pages.join("made/file");
    assert_eq!(fs::read_to_string(&made).unwrap(), "from the pod\n");
    let meta = made.metadata().unwrap();
    assert_eq!(meta.permissions().mode() & 0o777, 0o640);
    // It belongs to who runs the cluster.
    assert_eq!(meta.uid(), rustix::process::geteuid().as_raw());
    site.in_pod("cd /site/made && mv file other && ln other same && ln -s other link && cat link")
        .ok()
        .says("from the pod");
    assert_eq!(
        fs::metadata(site.pages.join("made/same")).unwrap().nlink(),
        2
    );
    // Who appends on either side loses nothing of the other's.
    let both = site.pages.join("made/both");
    let script = "(exec 3>>/site/made/both; echo pod >&3; \
        until [ -e /site/made/go ]; do sleep 0.2; done; echo pod again >&3) > /dev/null 2>&1 &";
    site.in_pod(script).ok();
    let has = |text: &str| fs::read_to_string(&both).is_ok_and(|both| both.ends_with(text));
    until("the pod has written", LIMIT, || has("pod\n"));
    append(&both, "host\n");
    write(site.pages.join("made/go"), "");
    until("the pod has written again", LIMIT, || has("again\n"));
    assert_eq!(fs::read_to_string(&both).unwrap(), "pod\nhost\npod again\n");
    assert_eq!(
        site.in_pod("cat /site/made/both").ok().text(),
        "pod\nhost\npod again"
    );
    site.in_pod("rm -r /site/made").ok();
    assert!(!site.pages.join("made").exists());
}

fn whatever_a_file_may_be(site: &Site<'_>) {
    let folder = site.pages.join("kinds");
    fs::create_dir(&folder).unwrap();
    let odd = OsStr::from_bytes(b"\xff\xfe odd\n");
    write(folder.join(odd), "odd\n");
    symlink("/etc/hostname", folder.join("out")).unwrap();
    symlink("../../../../../../../../etc/shadow", folder.join("up")).unwrap();
    let size = 5 << 30;
    File::create(folder.join("huge"))
        .unwrap()
        .set_len(size)
        .unwrap();
    let pipe = folder.join("pipe");
    coracle_tests::Run::new("mkfifo").args([&pipe]).ok();

    assert_eq!(site.inside("cat /mnt/site/kinds/*odd*"), "odd");
    let bytes = site.inside("cd /mnt/site/kinds && printf %s *odd* | od -An -tx1");
    assert!(bytes.contains("ff fe 20 6f 64 64 0a"), "{bytes}");
    // A link is followed where it is looked at: in the machine.
    let name = site.inside("cat /mnt/site/kinds/out");
    assert_eq!(name, site.inside("cat /etc/hostname"));
    let inside = "sudo sh -c 'cmp /mnt/site/kinds/up /etc/shadow && echo same'";
    assert_eq!(site.inside(inside), "same");
    assert_eq!(
        site.inside("stat -c %s /mnt/site/kinds/huge"),
        size.to_string()
    );
    let written =
        "printf end | dd of=/mnt/site/kinds/huge bs=1 seek=4800000000 conv=notrunc status=none";
    site.inside(written);
    let mut at = [0; 3];
    let huge = File::open(folder.join("huge")).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&huge, &mut at, 4_800_000_000).unwrap();
    assert_eq!(&at, b"end");
    // Nobody waits for the other end of a pipe that is on another machine.
    site.ssh("timeout 10 cat /mnt/site/kinds/pipe")
        .done()
        .code_is(1);
    // Thousands of entries take more than one message.
    let many = site.pages.join("many");
    fs::create_dir(&many).unwrap();
    for number in 0..5000 {
        write(many.join(format!("entry-{number}")), "");
    }
    assert_eq!(site.inside("ls /mnt/site/many | sort -u | wc -l"), "5000");
    fs::remove_dir_all(&many).unwrap();
    fs::remove_dir_all(&folder).unwrap();
    until("the machine sees that they are gone", LIMIT, || {
        site.inside("ls /mnt/site") == "page"
    });
}

fn changes_are_told(site: &Site<'_>) {
    for text in ["second\n", "third, and longer\n", "4\n"] {
        site.shows_a_change(text);
    }
    // As editors save: a new file takes the old one's name.
    write(site.pages.join(".page.new"), "by an editor\n");
    fs::rename(site.pages.join(".page.new"), site.pages.join("page")).unwrap();
    until("the server shows the new file", LIMIT, || {
        site.get("page").as_deref() == Some("by an editor\n")
    });
    // A page is read before its event is noted.
    until("all of it is noted", LIMIT, || {
        site.seen().ends_with("moved-to page\n")
    });
    let before = site.seen().len();
    let done: [(&dyn Fn(), &[&str]); 6] = [
        (
            &|| write(site.pages.join("a"), ""),
            &["create a", "close-write a"],
        ),
        (
            &|| append(site.pages.join("a"), "x"),
            &["modify a", "close-write a"],
        ),
        (
            &|| fs::rename(site.pages.join("a"), site.pages.join("b")).unwrap(),
            &["moved-from a", "moved-to b"],
        ),
        (
            &|| append(site.pages.join("b"), "y"),
            &["modify b", "close-write b"],
        ),
        (
            &|| fs::remove_file(site.pages.join("b")).unwrap(),
            &["delete b"],
        ),
        (
            &|| fs::create_dir(site.pages.join("c")).unwrap(),
            &["create c"],
        ),
    ];
    let mut wanted = String::new();
    for (deed, events) in done {
        deed();
        for event in events {
            wanted += &format!("{event}\n");
        }
        until("it is told", LIMIT, || {
            site.seen()[before..].contains(&wanted)
        });
    }
    // Nothing else, and nothing twice.
    assert_eq!(site.seen()[before..], wanted);
    // What is done in the machine is told once.
    let before = site.seen().len();
    site.inside("sudo rmdir /mnt/site/c; echo mine > /mnt/site/own; rm /mnt/site/own; sleep 1");
    let own = "delete c\ncreate own\nmodify own\nclose-write own\ndelete own\n";
    assert_eq!(site.seen()[before..], *own);
}

fn read_only_changes_nothing(site: &Site<'_>) {
    let before = fs::read_dir(site.coracle.work().join("tools"))
        .unwrap()
        .count();
    for command in [
        "echo x > /opt/tools/new",
        "rm /opt/tools/loader",
        "mkdir /opt/tools/folder",
        "chmod 777 /opt/tools/loader",
        "mv /opt/tools/loader /opt/tools/other",
    ] {
        let tried = site.ssh(&format!("sudo sh -c '{command}'")).done();
        assert!(
            tried.code() != Some(0) && tried.stderr.contains("Read-only"),
            "{tried}"
        );
    }
    let after = fs::read_dir(site.coracle.work().join("tools"))
        .unwrap()
        .count();
    assert_eq!(before, after);
}

fn what_cannot_be_mounted_is_explained(site: &Site<'_>) {
    let mount = |what: &str| {
        site.coracle
            .coracle(["mount", "-p", site.name, what])
            .done()
    };
    let work = site.coracle.work();
    let work = work.display();
    mount(&format!("{work}/missing:/mnt/missing"))
        .fails(14, "CORACLE_USAGE")
        .advises("make the folder first");
    mount(&format!("{work}/site/page:/mnt/page"))
        .fails(14, "CORACLE_USAGE")
        .advises("folder that it is in");
    mount(&format!("{work}/site:/etc/site"))
        .fails(14, "CORACLE_USAGE")
        .advises("/mnt");
    mount(&format!("{work}/site"))
        .fails(14, "CORACLE_USAGE")
        .advises("HOST:GUEST");
    let remove = ["mount", "-p", site.name, "--remove", "/mnt/nothing"];
    site.coracle
        .coracle(remove)
        .done()
        .fails(14, "CORACLE_USAGE")
        .advises("coracle mount");
    // A start that names a folder which is not there makes no cluster.
    let start = format!("start -p none --mount {work}/missing:/mnt/missing");
    site.coracle.run(&start).done().fails(14, "CORACLE_USAGE");
    assert!(!site.coracle.machine("none").exists());
}

fn comes_and_goes(site: &Site<'_>) {
    let folder = site.coracle.work().join("guest");
    write(folder.join("file"), "here\n");
    let what = format!("{}:/data/deep/down", folder.display());
    site.coracle.coracle(["mount", "-p", site.name, &what]).ok();
    assert_eq!(site.inside("cat /data/deep/down/file"), "here");
    site.command("mount").ok().says(&what);
    let listed = site.command("mount -o json").ok().json();
    assert_eq!(listed.as_array().unwrap().len(), 3, "{listed}");
    site.command("mount --remove /data/deep/down").ok();
    site.ssh("cat /data/deep/down/file").done().code_is(1);
    assert!(!site.command("mount").ok().stdout.contains("/data"));
    fs::remove_dir_all(&folder).unwrap();
}

fn vanishes(site: &Site<'_>) {
    let folder = site.coracle.work().join("passing");
    write(folder.join("file"), "here\n");
    let what = format!("{}:/mnt/passing", folder.display());
    site.coracle.coracle(["mount", "-p", site.name, &what]).ok();
    assert_eq!(site.inside("cat /mnt/passing/file"), "here");
    fs::remove_dir_all(&folder).unwrap();
    site.ssh("timeout 60 cat /mnt/passing/file")
        .done()
        .code_is(1);
    site.ssh("timeout 60 sh -c 'echo x > /mnt/passing/new'")
        .done()
        .code_is(1);
    // The others go on, and it is there again when it is.
    site.shows_a_change("beside one that vanished\n");
    write(folder.join("file"), "again\n");
    until("the new folder is seen", LIMIT, || {
        site.ssh("cat /mnt/passing/file").done().text() == "again"
    });
    site.command("mount --remove /mnt/passing").ok();
}

fn outlives_its_host_agent(site: &Site<'_>) {
    let log = site.pages.join("log");
    let boot = site.boot_id();
    site.in_pod(&format!(
        "(for i in $(seq {LINES}); do echo $i >> /site/log; done; echo end >> /site/log) > /dev/null 2>&1 &"
    ))
    .ok();
    for round in 1..=3 {
        let grown = round * LINES / 10;
        let lines = || fs::read_to_string(&log).map_or(0, |text| text.lines().count());
        until("lines are written", LIMIT, || lines() >= grown);
        kill_pid(site.host_agent().expect("it has a host agent"));
        until("another one is there", LIMIT, || {
            site.host_agent().is_some()
        });
    }
    let mut wanted: Vec<String> = (1..=LINES).map(|line| line.to_string()).collect();
    wanted.push("end".to_owned());
    let written = || fs::read_to_string(&log).unwrap_or_default();
    until("all lines are written", LIMIT, || {
        written().ends_with("end\n")
    });
    assert_eq!(written().lines().collect::<Vec<_>>(), wanted);
    fs::remove_file(&log).unwrap();
    site.shows_a_change("after the kills\n");
    assert_eq!(site.boot_id(), boot, "it booted");
}

fn goes_on_after_a_stop(site: &Site<'_>) {
    let restarts = "get pod site -o jsonpath={.status.containerStatuses[0].restartCount}";
    let before = site.kubectl(restarts);
    site.inside("cat /mnt/site/page > /dev/null");
    site.command("stop").ok();
    // While nobody looks: one is changed, one is new, one is gone.
    write(site.pages.join("page"), "changed while it slept\n");
    write(site.pages.join("new"), "new\n");
    site.command("start").ok();
    assert_eq!(site.inside("cat /mnt/site/page"), "changed while it slept");
    assert_eq!(site.inside("ls /mnt/site"), "new\npage");
    fs::remove_file(site.pages.join("new")).unwrap();
    site.shows_a_change("changed after it woke\n");
    assert_eq!(site.kubectl(restarts), before, "the pod was restarted");
    // A boot mounts them before pods need them.
    site.command("stop --shutdown").ok();
    site.command("start").ok();
    until("the pod is back", LIMIT, || {
        site.get("page").as_deref() == Some("changed after it woke\n")
    });
    site.shows_a_change("changed after a boot\n");
}

fn several_share_a_folder(coracle: &Coracle, site: &Site<'_>) {
    let second = Site::open(coracle, "second", "site");
    second.inside("echo from the second > /mnt/site/page");
    for one in [&second, site] {
        until("both show it", LIMIT, || {
            one.get("page").as_deref() == Some("from the second\n")
        });
    }
    second.command("delete").ok();
    site.command("clone copy").ok();
    let copy = Profile {
        coracle,
        name: "copy",
    };
    assert_eq!(copy.inside("cat /mnt/site/page"), "from the second");
    copy.inside("echo from the copy > /mnt/site/page");
    until("the first shows it", LIMIT, || {
        site.get("page").as_deref() == Some("from the copy\n")
    });
    copy.command("delete").ok();
}
