//! `secrets` and `configs` of a service: files in its container.

use k8s_openapi::api::core::v1::{ConfigMapVolumeSource, SecretVolumeSource, Volume, VolumeMount};

use super::pod::Pod;
use crate::at::At;
use crate::convert::Project;
use crate::definitions::Kind;
use crate::fault::Result;
use crate::keys;
use crate::yaml;

/// Everybody reads them, as in Compose.
const MODE: i32 = 0o444;

/// Mounts the files.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    for kind in [Kind::Config, Kind::Secret] {
        if let Some(grants) = at.get(kind.section()) {
            for grant in grants.items()? {
                mount(kind, &grant, pod, project)?;
            }
        }
    }
    Ok(())
}

fn mount(kind: Kind, grant: &At<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    let mut mode = MODE;
    let (source, target) = match grant.node.kind {
        yaml::Kind::Mapping(_) => {
            keys::check(grant, keys::GRANT, &mut project.report)?;
            if let Some(written) = grant.get("mode") {
                mode = octal(&written)?;
            }
            let Some(source) = grant.get("source") else {
                return Err(grant.expected("a mapping with `source`"));
            };
            let target = grant.get("target");
            let target = target.map(|target| target.text()).transpose()?;
            (source, target)
        }
        _ => (grant.clone(), None),
    };
    let key = source.text()?;
    let granted = project.granted(kind, key, &source)?;
    let target = target.filter(|target| !target.is_empty()).unwrap_or(key);
    let path = match (target.starts_with('/'), kind) {
        (true, _) => target.to_owned(),
        (false, Kind::Secret) => format!("/run/secrets/{target}"),
        (false, Kind::Config) => format!("/{target}"),
    };
    let mut volume = Volume::default();
    let hint = match kind {
        Kind::Secret => {
            volume.secret = Some(SecretVolumeSource {
                secret_name: Some(granted.object),
                default_mode: Some(mode),
                ..SecretVolumeSource::default()
            });
            format!("secret-{key}")
        }
        Kind::Config => {
            volume.config_map = Some(ConfigMapVolumeSource {
                name: granted.object,
                default_mode: Some(mode),
                ..ConfigMapVolumeSource::default()
            });
            format!("config-{key}")
        }
    };
    let file = VolumeMount {
        mount_path: path,
        // One file, so that what the image has beside it stays.
        sub_path: Some(granted.key),
        read_only: Some(true),
        ..VolumeMount::default()
    };
    pod.mount(&hint, false, volume, file);
    Ok(())
}

/// A mode: `0440`, `0o440`, `"440"`. Compose reads an unquoted number without a zero first as decimal.
fn octal(at: &At<'_>) -> Result<i32> {
    let text = at.text()?;
    let is_decimal = matches!(at.node.kind, yaml::Kind::Scalar { plain: true, .. })
        && !text.starts_with('0')
        && text.parse::<i32>().is_ok();
    let mode = match is_decimal {
        true => text.parse().ok(),
        false => {
            let digits = text.strip_prefix("0o").unwrap_or(text);
            i32::from_str_radix(digits, 8).ok()
        }
    };
    mode.filter(|mode| (0..=0o777).contains(mode))
        .ok_or_else(|| at.expected("a mode, such as 0440,"))
}
