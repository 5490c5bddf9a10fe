//! Volumes, secrets and configs of the file, made when the first service uses them.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    ConfigMap, PersistentVolumeClaim, PersistentVolumeClaimSpec, Secret, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::at::At;
use crate::convert::Project;
use crate::fault::{Fault, Result};
use crate::keys;
use crate::names;
use crate::object::Object;
use crate::service::annotations;
use crate::units;

/// How large a claim is. Compose's volumes have no size, and the storage of a single machine holds
/// nobody to it.
const CLAIM_SIZE: &str = "1Gi";

/// The most bytes that a Secret or ConfigMap holds.
const MOST_BYTES: usize = 1024 * 1024;

/// What was used so far.
#[derive(Debug, Default)]
pub(crate) struct Definitions {
    /// Volumes, with the service that was the first to use them.
    volumes: BTreeMap<String, (Storage, String)>,
    /// Secrets and configs.
    granted: BTreeMap<(Kind, String), Granted>,
    /// Names of Services, with the service that each leads to.
    pub(crate) taken: BTreeMap<String, String>,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Storage {
    /// The claim of this name.
    Claim(String),
    /// A path as the file has it.
    Path(String),
    /// Memory, of so many bytes at the most.
    Memory(Option<i64>),
}

/// Which of the two a file is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// `secrets`.
    Secret,
    /// `configs`.
    Config,
}

impl Kind {
    /// The key at the top of the file.
    pub(crate) fn section(self) -> &'static str {
        match self {
            Self::Secret => "secrets",
            Self::Config => "configs",
        }
    }

    fn object(self) -> &'static str {
        match self {
            Self::Secret => "Secret",
            Self::Config => "ConfigMap",
        }
    }
}

/// Where the content of a secret or config is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Granted {
    /// The name of the Secret or ConfigMap.
    pub(crate) object: String,
    /// The key in it.
    pub(crate) key: String,
}

/// What `section` of the file says of `key`, which `used` asks for.
fn definition<'a>(
    project: &Project<'a>,
    section: &str,
    key: &str,
    used: &At<'_>,
) -> Result<At<'a>> {
    let section_at = project.top.get(section);
    let found = match &section_at {
        Some(section) => section
            .entries()?
            .into_iter()
            .find(|(name, _)| *name == key),
        None => None,
    };
    let fault = || used.fault(format!("`{section}` of the file has no {key}"));
    found.map(|(_, at)| at).ok_or_else(fault)
}

/// Whether something is managed elsewhere, and by which name: `external: true`, or the older
/// `external: {name: ...}`.
fn external<'a>(at: &At<'a>) -> Result<Option<Option<&'a str>>> {
    let Some(external) = at.get("external") else {
        return Ok(None);
    };
    let name = at.get("name").map(|name| name.text()).transpose()?;
    match external.get("name") {
        Some(older) => Ok(Some(Some(older.text()?))),
        None if matches!(external.node.kind, crate::yaml::Kind::Mapping(_)) => Ok(Some(name)),
        None => Ok(external.boolean()?.then_some(name)),
    }
}

impl Project<'_> {
    /// The volume `key`, which `service` mounts at `used`. `copied` says that Docker would put there
    /// what the image has.
    pub(crate) fn volume(
        &mut self,
        key: &str,
        service: &str,
        copied: bool,
        used: &At<'_>,
    ) -> Result<Storage> {
        if let Some((storage, first)) = self.definitions.volumes.get(key) {
            if copied && first != service && matches!(storage, Storage::Claim(_)) {
                let message = format!(
                    "{service} shares this volume with {first}: it begins empty, where Docker would \
                     copy into it what the image has there"
                );
                self.report.warn(used, message);
            }
            return Ok(storage.clone());
        }
        let at = definition(self, "volumes", key, used)?;
        let storage = self.define_volume(key, &at)?;
        let entry = (storage.clone(), service.to_owned());
        self.definitions.volumes.insert(key.to_owned(), entry);
        Ok(storage)
    }

    fn define_volume(&mut self, key: &str, at: &At<'_>) -> Result<Storage> {
        keys::check(at, keys::VOLUME, &mut self.report)?;
        if let Some(name) = external(at)? {
            let name = names::label(name.unwrap_or(key));
            let message = format!("the claim {name} has to be there: nothing makes it");
            self.report.warn(at, message);
            return Ok(Storage::Claim(name));
        }
        if let Some(options) = at.get("driver_opts")
            && let Some(storage) = self.driver_options(&options)?
        {
            return Ok(storage);
        }
        if let Some(driver) = at.get("driver")
            && !matches!(driver.text()?, "local" | "default" | "")
        {
            let message = "not mapped: the claim is of the cluster's own storage";
            self.report.warn(&driver, message);
        }
        let name = match at.get("name") {
            Some(name) => names::label(name.text()?),
            None => names::label(key),
        };
        let mut metadata = self.metadata(&name, None);
        metadata.annotations = annotations(at, "labels", &mut self.report)?;
        let size = Quantity(CLAIM_SIZE.to_owned());
        let claim = PersistentVolumeClaim {
            metadata,
            spec: Some(PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                resources: Some(VolumeResourceRequirements {
                    requests: Some([("storage".to_owned(), size)].into()),
                    ..VolumeResourceRequirements::default()
                }),
                ..PersistentVolumeClaimSpec::default()
            }),
            ..PersistentVolumeClaim::default()
        };
        let claim = Object::PersistentVolumeClaim(Box::new(claim));
        self.objects.push(claim);
        Ok(Storage::Claim(name))
    }

    /// The options of Docker's own driver, which are those of a mount.
    fn driver_options(&mut self, options: &At<'_>) -> Result<Option<Storage>> {
        let option = |key| {
            let at = options.get(key);
            at.map_or(Ok(""), |at| at.text())
        };
        let (kind, how, device) = (option("type")?, option("o")?, option("device")?);
        let mut how = how.split(',').map(str::trim);
        if how.clone().any(|word| word == "bind" || word == "rbind") && !device.is_empty() {
            return Ok(Some(Storage::Path(device.to_owned())));
        }
        if kind == "tmpfs" {
            let size = how.find_map(|word| word.strip_prefix("size="));
            return Ok(Some(Storage::Memory(size.and_then(units::bytes))));
        }
        if !options.is_idle() {
            let message = "not mapped: the claim is of the cluster's own storage";
            self.report.warn(options, message);
        }
        Ok(None)
    }

    /// Where the content of a secret or config is, which `used` asks for.
    pub(crate) fn granted(&mut self, kind: Kind, key: &str, used: &At<'_>) -> Result<Granted> {
        let place = (kind, key.to_owned());
        if let Some(granted) = self.definitions.granted.get(&place) {
            return Ok(granted.clone());
        }
        let at = definition(self, kind.section(), key, used)?;
        let granted = self.define_granted(kind, key, &at)?;
        self.definitions.granted.insert(place, granted.clone());
        Ok(granted)
    }

    fn define_granted(&mut self, kind: Kind, key: &str, at: &At<'_>) -> Result<Granted> {
        keys::check(at, keys::SOURCE, &mut self.report)?;
        let data_key = key.replace(
            |sign: char| !sign.is_ascii_alphanumeric() && !matches!(sign, '-' | '_' | '.'),
            "-",
        );
        if let Some(name) = external(at)? {
            let granted = Granted {
                object: names::label(name.unwrap_or(key)),
                key: data_key,
            };
            let message = format!(
                "the {} {} has to be there, with a key {}: nothing makes it",
                kind.object(),
                granted.object,
                granted.key
            );
            self.report.warn(at, message);
            return Ok(granted);
        }
        let content = self.content(at)?;
        if content.len() > MOST_BYTES {
            let (object, size) = (kind.object(), content.len());
            return Err(at.fault(format!("a {object} holds 1 MiB, and this has {size} bytes")));
        }
        let name = match at.get("name") {
            Some(name) => names::label(name.text()?),
            None => names::label(key),
        };
        let mut metadata = self.metadata(&name, None);
        metadata.annotations = annotations(at, "labels", &mut self.report)?;
        let key = data_key.clone();
        self.objects.push(match kind {
            Kind::Secret => Object::Secret(Box::new(Secret {
                metadata,
                data: Some([(key, ByteString(content))].into()),
                ..Secret::default()
            })),
            Kind::Config => {
                let mut map = ConfigMap {
                    metadata,
                    ..ConfigMap::default()
                };
                match String::from_utf8(content) {
                    Ok(text) => map.data = Some([(key, text)].into()),
                    Err(error) => {
                        map.binary_data = Some([(key, ByteString(error.into_bytes()))].into());
                    }
                }
                Object::ConfigMap(Box::new(map))
            }
        });
        let object = name;
        Ok(Granted {
            object,
            key: data_key,
        })
    }

    fn content(&self, at: &At<'_>) -> Result<Vec<u8>> {
        if let Some(file) = at.get("file") {
            return self.read(&file);
        }
        if let Some(content) = at.get("content") {
            return Ok(content.text()?.as_bytes().to_vec());
        }
        if let Some(variable) = at.get("environment") {
            let name = variable.text()?;
            let value = self.source.variables.get(name);
            let value = value.map(|value| value.as_bytes().to_vec());
            return value.ok_or_else(|| variable.fault(format!("the variable {name} is not set")));
        }
        Err(at.expected("`file`, `environment`, `content` or `external`"))
    }

    /// The bytes of the file that `at` names.
    pub(crate) fn read(&self, at: &At<'_>) -> Result<Vec<u8>> {
        let named = at.text()?;
        let read = self.source.files.read(named);
        read.map_err(|source| Fault::Unreadable {
            line: at.line,
            path: at.path.clone(),
            named: named.to_owned(),
            source,
        })
    }
}
