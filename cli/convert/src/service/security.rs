//! Who the container runs as, and what it may do.

use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, SeccompProfile, Sysctl};

use super::pod::Pod;
use crate::at::At;
use crate::fault::Result;
use crate::keys;
use crate::report::Report;

/// Kernel parameters that the kubelet lets every pod set. It refuses pods with any other, unless its
/// `--allowed-unsafe-sysctls` names it.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Puts all of it into the pod.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    user(at, pod, report)?;
    groups(at, pod, report)?;
    if at.flag("privileged")? {
        pod.security.privileged = Some(true);
    } else if let Some(devices) = at.get("devices").filter(|devices| !devices.is_idle()) {
        report.warn(&devices, format!("not mapped: {}", keys::DEVICE));
    }
    if at.flag("read_only")? {
        pod.security.read_only_root_filesystem = Some(true);
    }
    let capabilities = Capabilities {
        add: capabilities(at, "cap_add")?,
        drop: capabilities(at, "cap_drop")?,
    };
    if capabilities != Capabilities::default() {
        pod.security.capabilities = Some(capabilities);
    }
    if let Some(options) = at.get("security_opt") {
        for option in options.items()? {
            security_option(&option, pod, report)?;
        }
    }
    sysctls(at, pod, report)?;
    namespaces(at, pod, report)
}

/// The number of a user or group; the name of root is known everywhere.
fn number(name: &str) -> Option<i64> {
    match name {
        "root" => Some(0),
        name => name.parse().ok().filter(|number| *number >= 0),
    }
}

fn user(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let Some(user) = at.get("user") else {
        return Ok(());
    };
    let text = user.text()?;
    let (name, group) = match text.split_once(':') {
        Some((name, group)) => (name, Some(group)),
        None => (text, None),
    };
    if name.is_empty() {
        return Ok(());
    }
    let Some(number_of_user) = number(name) else {
        let message = format!(
            "not mapped: Kubernetes takes the number of a user, and {name} is only known in the image"
        );
        report.warn(&user, message);
        return Ok(());
    };
    pod.security.run_as_user = Some(number_of_user);
    match group.filter(|group| !group.is_empty()) {
        None => {}
        Some(group) => match number(group) {
            Some(number) => pod.security.run_as_group = Some(number),
            None => {
                let message = format!(
                    "the group is not mapped: Kubernetes takes a number, and {group} is only known in \
                     the image"
                );
                report.warn(&user, message);
            }
        },
    }
    Ok(())
}

fn groups(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let Some(groups) = at.get("group_add") else {
        return Ok(());
    };
    let mut numbers = Vec::new();
    for group in groups.items()? {
        match number(group.text()?) {
            Some(number) => numbers.push(number),
            None => report.warn(&group, "not mapped: Kubernetes takes the number of a group"),
        }
    }
    pod.pod_security.supplemental_groups = (!numbers.is_empty()).then_some(numbers);
    Ok(())
}

fn capabilities(at: &At<'_>, key: &str) -> Result<Option<Vec<String>>> {
    let Some(list) = at.get(key) else {
        return Ok(None);
    };
    let names = list.texts()?.into_iter().map(|name| {
        let name = name.to_ascii_uppercase();
        name.strip_prefix("CAP_").unwrap_or(&name).to_owned()
    });
    let names: Vec<_> = names.collect();
    Ok((!names.is_empty()).then_some(names))
}

fn security_option(option: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let text = option.text()?;
    let (name, value) = text.split_once([':', '=']).unwrap_or((text, "true"));
    match (name, value) {
        ("no-new-privileges", "true") => {
            // The API server refuses both at once.
            if pod.security.privileged != Some(true) {
                pod.security.allow_privilege_escalation = Some(false);
            }
        }
        ("no-new-privileges", "false") => {}
        ("seccomp", "unconfined") => {
            pod.security.seccomp_profile = Some(SeccompProfile {
                type_: "Unconfined".to_owned(),
                ..SeccompProfile::default()
            });
        }
        ("apparmor", "unconfined") => {
            pod.security.app_armor_profile = Some(AppArmorProfile {
                type_: "Unconfined".to_owned(),
                ..AppArmorProfile::default()
            });
        }
        // The machine has no SELinux.
        ("label", _) => {}
        _ => report.warn(option, "not mapped: the node has no such profile"),
    }
    Ok(())
}

fn sysctls(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let Some(sysctls) = at.get("sysctls") else {
        return Ok(());
    };
    let mut kept = Vec::new();
    for entry in sysctls.pairs_or_list()? {
        if SAFE_SYSCTLS.contains(&entry.key.as_str()) {
            kept.push(Sysctl {
                name: entry.key,
                value: entry.value.unwrap_or_default(),
            });
        } else {
            let message = format!(
                "not mapped: the kubelet refuses pods that set {}, unless its \
                 --allowed-unsafe-sysctls names it",
                entry.key
            );
            report.warn(&entry.at, message);
        }
    }
    pod.pod_security.sysctls = (!kept.is_empty()).then_some(kept);
    Ok(())
}

/// Namespaces of the kernel: `pid`, `ipc`, and `init`, for which the pod's own first process stands.
fn namespaces(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    if at.flag("init")? {
        // The pod's first process takes the place of an init: it reaps what nobody waits for.
        pod.spec.share_process_namespace = Some(true);
    }
    if let Some(pid) = at.get("pid") {
        match pid.text()? {
            "host" => {
                pod.spec.host_pid = Some(true);
                // The API server refuses both at once.
                pod.spec.share_process_namespace = None;
            }
            "" => {}
            _ => report.warn(&pid, "not mapped: processes are shared within a pod only"),
        }
    }
    if let Some(ipc) = at.get("ipc") {
        match ipc.text()? {
            "host" => pod.spec.host_ipc = Some(true),
            "" | "private" | "shareable" | "none" => {}
            _ => report.warn(&ipc, "not mapped: memory is shared within a pod only"),
        }
    }
    Ok(())
}
