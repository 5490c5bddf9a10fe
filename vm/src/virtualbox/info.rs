//! What VirtualBox tells of a machine: `showvminfo --machinereadable` and `list vms`.
//!
//! Each line is `key=value`. Strings are in quotation marks, in which a backslash stands before a
//! quotation mark or a backslash; a key that may hold spaces has quotation marks too. The keys are those
//! of `src/VBox/Frontends/VBoxManage/VBoxManageInfo.cpp` in VirtualBox's source, 6.1 to 7.2.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use uuid::Uuid;

use super::configure::CONTROLLER;
use super::failure::{Cause, Failure};
use super::manage::{Manage, words};
use super::network::Rule;
use crate::driver::{Exposed, GuestPort};
use crate::spec::Protocol;

/// What a machine does, in VirtualBox's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum VmState {
    /// Off: `poweroff`, `aborted`, `teleported`.
    Off,
    /// Off, and its memory is kept: `saved`, `aborted-saved`.
    Saved,
    /// `starting`, `restoring`, `settingup`.
    Starting,
    /// `running`, or something is done to it while it runs.
    Running,
    /// `paused`, or something is done to it while it is paused.
    Paused,
    /// `stopping`.
    Stopping,
    /// `gurumeditation`: VirtualBox or the guest failed, and the processors are stopped.
    Stuck,
    /// A state that this program does not know.
    Other(String),
}

impl VmState {
    fn of(word: &str) -> Self {
        match word {
            "poweroff" | "aborted" | "teleported" => Self::Off,
            "saved" | "aborted-saved" => Self::Saved,
            "starting" | "restoring" | "settingup" | "teleportingin" => Self::Starting,
            "running"
            | "livesnapshotting"
            | "onlinesnapshotting"
            | "teleporting"
            | "deletingsnapshotlive" => Self::Running,
            "paused" | "saving" | "teleportingpausedvm" | "deletingsnapshotlivepaused" => {
                Self::Paused
            }
            // Nothing runs, and it is busy with its disks.
            "restoringsnapshot" | "deletingsnapshot" | "snapshotting" => Self::Off,
            "stopping" => Self::Stopping,
            "gurumeditation" => Self::Stuck,
            other => Self::Other(other.to_owned()),
        }
    }

    /// Whether no process runs the machine.
    pub(super) const fn is_off(&self) -> bool {
        matches!(self, Self::Off | Self::Saved)
    }
}

/// What a place of the disk controller holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Medium {
    /// The file.
    pub(super) path: PathBuf,
    /// VirtualBox's identifier of it.
    pub(super) id: Option<Uuid>,
}

/// A machine that VirtualBox knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Info {
    /// Whether its settings could be read. Nothing else is known of one whose file is gone.
    pub(super) is_accessible: bool,
    /// The file of its settings.
    pub(super) settings: PathBuf,
    /// The log of its last run.
    pub(super) log: PathBuf,
    /// What it does.
    pub(super) state: VmState,
    /// The ports of the host that lead into it.
    pub(super) rules: Vec<Rule>,
    /// Whether it has our disk controller.
    pub(super) has_controller: bool,
    /// What the controller's places hold.
    pub(super) media: BTreeMap<usize, Medium>,
}

/// The machine of an identifier; `None` where VirtualBox knows none.
pub(super) async fn find(
    manage: &Manage,
    id: &str,
    limit: std::time::Duration,
) -> Result<Option<Info>, Failure> {
    let words = words(["showvminfo", id, "--machinereadable"]);
    match manage.once(&words, limit).await.map(|output| output.stdout) {
        Ok(text) => Ok(Some(Info::parse(&text))),
        Err(failure) if failure.cause == Cause::NotFound => Ok(None),
        // Some versions tell at least its identifier, which is no more.
        Err(failure) if failure.cause == Cause::Inaccessible => Ok(Some(Info::parse(""))),
        Err(failure) => Err(failure),
    }
}

impl Info {
    /// Reads the answer to `showvminfo --machinereadable`.
    pub(super) fn parse(text: &str) -> Self {
        let values = Values::parse(text);
        let path = |key: &str| PathBuf::from(values.get(key));
        let controllers = |key: &str| values.get(key) == CONTROLLER;
        Self {
            is_accessible: !values.get("VMState").is_empty(),
            settings: path("CfgFile"),
            log: path("LogFldr").join("VBox.log"),
            state: match values.get("VMState") {
                // Its settings are gone, so nothing can run it.
                "" => VmState::Off,
                word => VmState::of(word),
            },
            rules: values.rules(),
            has_controller: (0..8).any(|n| controllers(&format!("storagecontrollername{n}"))),
            media: values.media(),
        }
    }
}

/// The lines of an answer. What people wrote, such as a description of many lines, comes last: the first
/// line of a key counts.
struct Values(BTreeMap<String, String>);

impl Values {
    fn parse(text: &str) -> Self {
        let mut values = BTreeMap::new();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            values
                .entry(unquoted(key))
                .or_insert_with(|| unquoted(value));
        }
        Self(values)
    }

    fn get(&self, key: &str) -> &str {
        self.0.get(key).map_or("", String::as_str)
    }

    fn rules(&self) -> Vec<Rule> {
        let keys = self.0.iter();
        let forwardings = keys.filter(|(key, _)| key.starts_with("Forwarding("));
        forwardings
            .filter_map(|(_, value)| parse_rule(value))
            .collect()
    }

    fn media(&self) -> BTreeMap<usize, Medium> {
        let prefix = format!("{CONTROLLER}-");
        let medium = |(key, value): (&String, &String)| {
            let place = key.strip_prefix(&prefix)?.strip_suffix("-0")?;
            let place: usize = place.parse().ok()?;
            if matches!(value.as_str(), "none" | "emptydrive") {
                return None;
            }
            let id = self.get(&format!("{prefix}ImageUUID-{place}-0"));
            let path = PathBuf::from(value);
            Some((
                place,
                Medium {
                    path,
                    id: id.parse().ok(),
                },
            ))
        };
        self.0.iter().filter_map(medium).collect()
    }
}

/// A string without its quotation marks.
fn unquoted(text: &str) -> String {
    let text = text.trim_end();
    let inner = text
        .strip_prefix('"')
        .and_then(|rest| rest.strip_suffix('"'));
    let Some(inner) = inner else {
        return text.to_owned();
    };
    let mut read = String::with_capacity(inner.len());
    let mut characters = inner.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            // 6.1 leaves out the second backslash of a path of Windows.
            ('\\', Some('\\' | '"')) => read.extend(characters.next()),
            _ => read.push(character),
        }
    }
    read
}

/// A rule: its name, protocol, address and port of the host, address and port of the guest. An address
/// that is left out is any.
fn parse_rule(text: &str) -> Option<Rule> {
    let fields: Vec<&str> = text.split(',').collect();
    let [name, protocol, host, host_port, _, guest_port] = fields[..] else {
        return None;
    };
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return None,
    };
    let host: IpAddr = match host {
        "" => Ipv4Addr::UNSPECIFIED.into(),
        host => host.parse().ok()?,
    };
    Some(Rule {
        name: name.to_owned(),
        exposed: Exposed {
            guest: GuestPort {
                protocol,
                port: guest_port.parse().ok()?,
            },
            host: SocketAddr::new(host, host_port.parse().ok()?),
        },
    })
}

/// The identifier of the machine of a name, of the answer to `list vms`: `"NAME" {ID}` each.
pub(super) fn of_name(list: &str, name: &str) -> Option<String> {
    let quoted = format!("\"{name}\"");
    let found = list.lines().find_map(|line| {
        let (named, id) = line.trim_end().rsplit_once(' ')?;
        (named == quoted).then_some(id)
    })?;
    Some(found.trim_matches(['{', '}']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As VirtualBox 7.2.22 of Debian wrote it.
    const RECORDED: &str = include_str!("../../tests/fakes/showvminfo-7.2.22.txt");

    #[test]
    fn a_machine_is_read() {
        let info = Info::parse(RECORDED);
        assert!(info.is_accessible && info.has_controller);
        // Not what somebody wrote into the description.
        assert_eq!(info.state, VmState::Off);
        let folder = PathBuf::from("/home/me/a \"b\" ü");
        let own = folder.join("coracle-dev");
        assert_eq!(info.settings, own.join("coracle-dev.vbox"));
        assert_eq!(info.log, own.join("Logs/VBox.log"));
        let media = info.media.iter();
        let media: Vec<_> = media
            .map(|(place, one)| (*place, one.path.clone()))
            .collect();
        assert_eq!(
            media,
            [(0, folder.join("root.iso")), (1, folder.join("data.vdi"))]
        );
        assert!(info.media.values().all(|one| one.id.is_some()));
        let rules = info.rules.iter();
        let rules: Vec<_> = rules
            .map(|rule| (rule.name.as_str(), rule.exposed.host))
            .collect();
        assert_eq!(
            rules,
            [
                (
                    "coracle-tcp-127.88.0.1-7443",
                    "127.88.0.1:7443".parse().unwrap()
                ),
                ("mine", "0.0.0.0:5353".parse().unwrap()),
            ]
        );
        let ours: Vec<_> = info.rules.iter().map(Rule::is_ours).collect();
        assert_eq!(ours, [true, false]);
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_left_out() {
        for text in ["odd,unk,,1,,2", "short,tcp,,1", "name,tcp,nowhere,1,,2"] {
            assert_eq!(parse_rule(text), None, "{text}");
        }
    }

    #[test]
    fn one_whose_settings_are_gone_is_off() {
        let info = Info::parse("name=\"<inaccessible>\"\nUUID=\"x\"\n");
        assert!(!info.is_accessible);
        assert!(info.state.is_off());
    }

    #[test]
    fn strings_of_every_version_are_read() {
        for (written, read) in [
            (r#""C:\\Users\\me""#, r"C:\Users\me"),
            (r#""C:\Users\me""#, r"C:\Users\me"),
            (r#""a \"b\" = c""#, r#"a "b" = c"#),
            ("4096", "4096"),
        ] {
            assert_eq!(unquoted(written), read);
        }
    }

    #[test]
    fn a_machine_is_found_by_its_whole_name() {
        let list =
            "\"a\" b\" {1}\n\"coracle-dev2\" {2}\n\"<inaccessible>\" {3}\n\"coracle-dev\" {4}\r\n";
        assert_eq!(of_name(list, "coracle-dev"), Some("4".to_owned()));
        assert_eq!(of_name(list, "dev"), None);
    }
}
