//! `volumes`, `tmpfs` and `shm_size`: what is mounted into the container.

mod entry;

use k8s_openapi::api::core::v1::{
    EmptyDirVolumeSource, HostPathVolumeSource, ImageVolumeSource,
    PersistentVolumeClaimVolumeSource, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use self::entry::{BOTH_WAYS, Entry, INTO, Source};
use super::pod::Pod;
use crate::at::At;
use crate::convert::{FileKind, HostPath, Member, Project};
use crate::definitions::Storage;
use crate::fault::Result;
use crate::paths;
use crate::units;

/// Options of a `tmpfs` that a volume in memory has anyway.
const OF_MEMORY: &[&str] = &[
    "rw",
    "exec",
    "mode=777",
    "mode=0777",
    "mode=1777",
    "mode=01777",
];

/// Mounts all of it.
pub(super) fn put(member: &Member<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    let at = &member.at;
    if let Some(volumes) = at.get("volumes") {
        for item in volumes.items()? {
            if let Some(entry) = Entry::read(&item, &mut project.report)? {
                mount(&entry, &item, member, pod, project)?;
            }
        }
    }
    if let Some(tmpfs) = at.get("tmpfs") {
        for item in tmpfs.items_or_one()? {
            let text = item.text()?;
            let (target, options) = text.split_once(':').unwrap_or((text, ""));
            let mut size = None;
            let mut others = Vec::new();
            for option in options.split(',').filter(|option| !option.is_empty()) {
                match option.strip_prefix("size=") {
                    Some(bytes) => {
                        let bytes = units::bytes(bytes);
                        size = Some(bytes.ok_or_else(|| item.expected("a size, such as 64m,"))?);
                    }
                    None if OF_MEMORY.contains(&option) => {}
                    None => others.push(option),
                }
            }
            if !others.is_empty() {
                let others = others.join(", ");
                let message = format!("not mapped: a volume in memory has no option {others}");
                project.report.warn(&item, message);
            }
            pod.mount("memory", true, memory(size), place(target, &item)?);
        }
    }
    if let Some(size) = at.get("shm_size") {
        let bytes = units::bytes(size.text()?);
        let bytes = bytes.ok_or_else(|| size.expected("a size, such as 64m,"))?;
        pod.mount("shm", true, memory(Some(bytes)), place("/dev/shm", &size)?);
    }
    Ok(())
}

fn mount(
    entry: &Entry,
    item: &At<'_>,
    member: &Member<'_>,
    pod: &mut Pod,
    project: &mut Project<'_>,
) -> Result<()> {
    let mut place = place(&entry.target, item)?;
    place.read_only = entry.read_only.then_some(true);
    place.sub_path = entry.subpath.clone();
    match &entry.source {
        Source::Nothing => {
            let message = format!(
                "{} begins empty with every pod; Docker would copy into it what the image has there",
                entry.target
            );
            if entry.copied {
                project.report.warn(item, message);
            }
            pod.mount("empty", true, empty(EmptyDirVolumeSource::default()), place);
        }
        Source::Memory(size) => pod.mount("memory", true, memory(*size), place),
        Source::Image(reference) => {
            let image = ImageVolumeSource {
                reference: Some(reference.clone()),
                pull_policy: Some("IfNotPresent".to_owned()),
            };
            let volume = Volume {
                image: Some(image),
                ..Volume::default()
            };
            place.read_only = Some(true);
            pod.mount("image", false, volume, place);
        }
        Source::Path(path) => bind(path, entry, item, member, place, pod, project)?,
        Source::Named(key) => match project.volume(key, member.key, entry.copied, item)? {
            Storage::Claim(claim_name) => {
                pod.alone |= !entry.read_only;
                let claim = PersistentVolumeClaimVolumeSource {
                    claim_name,
                    ..PersistentVolumeClaimVolumeSource::default()
                };
                let volume = Volume {
                    persistent_volume_claim: Some(claim),
                    ..Volume::default()
                };
                pod.mount(key, false, volume, place);
            }
            Storage::Path(path) => bind(&path, entry, item, member, place, pod, project)?,
            Storage::Memory(size) => pod.mount("memory", true, memory(size), place),
        },
    }
    Ok(())
}

/// Mounts a path of the machine.
fn bind(
    written: &str,
    entry: &Entry,
    item: &At<'_>,
    member: &Member<'_>,
    mut place: VolumeMount,
    pod: &mut Pod,
    project: &mut Project<'_>,
) -> Result<()> {
    let Some(path) = paths::in_machine(project.source, written) else {
        let message = format!("left out: it is not known where the machine has {written}");
        project.report.warn(item, message);
        return Ok(());
    };
    let own = written.starts_with('/') && paths::is_own(&path);
    let kind = project.source.files.kind(written).filter(|_| !own);
    let (type_, message) = match kind {
        _ if own => (
            None,
            format!("{path} is the machine's own, not that of this computer"),
        ),
        Some(FileKind::Folder) => (
            Some("Directory"),
            format!("the machine has to have this folder: `coracle mount {written}:{path}`"),
        ),
        Some(FileKind::File) => {
            let (folder, of_machine) = (parent(written), parent(&path));
            (
                Some("File"),
                format!(
                    "the machine has to have the folder of this file: `coracle mount \
                     {folder}:{of_machine}`"
                ),
            )
        }
        None => (
            entry.created.then_some("DirectoryOrCreate"),
            format!(
                "{written} is not there: a folder {path} is made in the machine, unless it is made \
                 here and mounted, `coracle mount {written}:{path}`"
            ),
        ),
    };
    if own || kind.is_none() || !project.source.files.is_mounted(&path) {
        project.report.warn(item, message);
    }
    if !own {
        project.host_paths.push(HostPath {
            written: written.to_owned(),
            path: path.clone(),
            kind,
            read_only: entry.read_only,
            service: member.key.to_owned(),
            line: item.line,
        });
    }
    pod.alone |= !entry.read_only && !own;
    place.mount_propagation = match entry.propagation {
        // The API server refuses it elsewhere.
        Some(BOTH_WAYS) if pod.security.privileged != Some(true) => {
            let message = "what this container mounts is not seen outside: it is not privileged";
            project.report.warn(item, message);
            Some(INTO.to_owned())
        }
        propagation => propagation.map(str::to_owned),
    };
    let name = path.rsplit('/').find(|part| !part.is_empty());
    let hint = format!("host-{}", name.unwrap_or("root"));
    let volume = Volume {
        host_path: Some(HostPathVolumeSource {
            path,
            type_: type_.map(str::to_owned),
        }),
        ..Volume::default()
    };
    pod.mount(&hint, false, volume, place);
    Ok(())
}

fn parent(path: &str) -> &str {
    match path.rsplit_once('/') {
        Some(("", _)) => "/",
        Some((folder, _)) => folder,
        None => ".",
    }
}

fn empty(source: EmptyDirVolumeSource) -> Volume {
    Volume {
        empty_dir: Some(source),
        ..Volume::default()
    }
}

fn memory(size: Option<i64>) -> Volume {
    empty(EmptyDirVolumeSource {
        medium: Some("Memory".to_owned()),
        size_limit: size
            .filter(|size| *size > 0)
            .map(|size| Quantity(units::quantity(size))),
        ..EmptyDirVolumeSource::default()
    })
}

fn place(target: &str, item: &At<'_>) -> Result<VolumeMount> {
    if !target.starts_with('/') || target.contains(':') {
        return Err(item.fault(format!(
            "{target:?} is no place in a container: an absolute path is expected"
        )));
    }
    let mount_path = match target.trim_end_matches('/') {
        "" => return Err(item.fault("nothing can be mounted over the root of a container")),
        target => target.to_owned(),
    };
    Ok(VolumeMount {
        mount_path,
        ..VolumeMount::default()
    })
}
