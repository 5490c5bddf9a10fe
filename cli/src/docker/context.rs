//! Contexts of the docker command: where it keeps them, and which it uses.
//!
//! ```text
//! ~/.docker/contexts/meta/ID/meta.json          its name, and where its engine is
//! ~/.docker/contexts/tls/ID/docker/*.pem        what lets it in
//! ~/.docker/config.json: currentContext         the one in use
//! ```
//!
//! ID is the SHA-256 of the name. The files are the docker command's own: what others keep there stays, and
//! what has the name and leads elsewhere is not ours.

use super::Access;
use crate::cluster::identity::{self, make_private_dirs as make, write};
use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_vm::store::atomic;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const CURRENT: &str = "currentContext";
/// The context that the docker command has without any.
const DEFAULT: &str = "default";

/// What is kept of a context that a cluster was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Kept {
    /// The docker command used it last.
    pub used: bool,
    /// What it used before; None for the one that is there without any.
    pub former: Option<String>,
}

/// What is there under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    None,
    /// What leads to the machine.
    Own,
    /// What leads elsewhere.
    Others,
}

/// The folder of the docker command's settings.
#[derive(Debug, Clone)]
pub struct Contexts {
    folder: PathBuf,
}

impl Contexts {
    /// Those in a folder, `~/.docker` by default.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// What is there under a name, asked for an engine.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn find(&self, name: &str, access: &Access) -> Result<Presence> {
        let path = self.meta(name).join("meta.json");
        let Some(text) = read(&path)? else {
            return Ok(Presence::None);
        };
        let meta: Value = serde_json::from_str(&text).unwrap_or_default();
        let host = &meta["Endpoints"]["docker"]["Host"];
        Ok(match host == &json!(access.host) {
            true => Presence::Own,
            false => Presence::Others,
        })
    }

    /// Makes a context, or writes it anew.
    ///
    /// # Errors
    /// Somebody else's has the name; a file cannot be read or written.
    pub fn create(&self, name: &str, access: &Access) -> Result<()> {
        // The docker command takes names of two characters or more, and has a meaning for one.
        if name == DEFAULT || name.len() < 2 {
            let message = format!("Docker cannot have a context \"{name}\"");
            let help =
                "`coracle docker-env` leads a shell there; a cluster of another name can have one";
            return Err(Error::new(ErrorId::Unsupported, message).help(help));
        }
        if self.find(name, access)? == Presence::Others {
            let message = format!("Docker has a context \"{name}\" already, which leads elsewhere");
            let help = format!(
                "`docker context rm {name}` removes it; another cluster name is another way (-p)"
            );
            return Err(Error::new(ErrorId::ContextTaken, message).help(help));
        }
        let tls = self.tls(name).join("docker");
        make(&tls)?;
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            let path = access.certificates.join(file);
            let text = identity::read(&path)?;
            write(&tls.join(file), &text)?;
        }
        let meta = json!({
            "Name": name,
            "Metadata": { "Description": "Coracle" },
            "Endpoints": { "docker": { "Host": access.host, "SkipTLSVerify": false } },
        });
        make(&self.meta(name))?;
        write(&self.meta(name).join("meta.json"), &meta.to_string())
    }

    /// Removes a context that leads to the engine. Whoever used it uses `former`, if that is still there.
    ///
    /// # Errors
    /// A file cannot be read or written.
    pub fn remove(&self, name: &str, access: &Access, former: Option<&str>) -> Result<bool> {
        if self.find(name, access)? != Presence::Own {
            return Ok(false);
        }
        if self.current()?.as_deref() == Some(name) {
            let there = |one: &&str| self.meta(one).join("meta.json").exists();
            self.choose(former.filter(there))?;
        }
        for folder in [self.meta(name), self.tls(name)] {
            atomic::remove_dir(&folder).context(ErrorId::Write, || {
                format!("cannot remove {}", folder.display())
            })?;
        }
        Ok(true)
    }

    /// The context in use; None for the one that is there without any.
    ///
    /// # Errors
    /// The file cannot be read, or is no JSON.
    pub fn current(&self) -> Result<Option<String>> {
        let settings = self.settings()?;
        let current = settings.get(CURRENT).and_then(Value::as_str);
        let named = current.filter(|name| !name.is_empty() && *name != DEFAULT);
        Ok(named.map(str::to_owned))
    }

    /// Has the docker command use a context, or none.
    ///
    /// # Errors
    /// The file cannot be read or written, or is no JSON: it is left as it is.
    pub fn choose(&self, name: Option<&str>) -> Result<()> {
        let mut settings = self.settings()?;
        match name {
            Some(name) => settings.insert(CURRENT.into(), json!(name)),
            None => settings.shift_remove(CURRENT),
        };
        // As the docker command writes it.
        let mut text = Vec::new();
        let indented = serde_json::ser::PrettyFormatter::with_indent(b"\t");
        let mut writer = serde_json::Serializer::with_formatter(&mut text, indented);
        Serialize::serialize(&settings, &mut writer).context(ErrorId::Internal, || {
            "cannot write Docker's settings".into()
        })?;
        make(&self.folder)?;
        // A link leads to the file that is meant.
        let path = self.config();
        let path = std::fs::canonicalize(&path).unwrap_or(path);
        write(&path, &String::from_utf8_lossy(&text))
    }

    fn settings(&self) -> Result<Map<String, Value>> {
        let path = self.config();
        let text = read(&path)?.unwrap_or_default();
        if text.trim().is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_str(&text).map_err(|error| {
            let message = format!("Docker's settings cannot be read: {}", path.display());
            Error::caused_by(ErrorId::ConfigInvalid, message, &error)
        })
    }

    fn config(&self) -> PathBuf {
        self.folder.join("config.json")
    }

    fn meta(&self, name: &str) -> PathBuf {
        self.folder.join("contexts/meta").join(id(name))
    }

    fn tls(&self, name: &str) -> PathBuf {
        self.folder.join("contexts/tls").join(id(name))
    }
}

fn id(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => {
            let message = format!("cannot read {}", path.display());
            Err(Error::caused_by(ErrorId::Write, message, &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Place {
        _folder: tempfile::TempDir,
        contexts: Contexts,
        access: Access,
    }

    fn place() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let certificates = folder.path().join("identity");
        make(&certificates).unwrap();
        for file in ["ca.pem", "cert.pem", "key.pem"] {
            write(&certificates.join(file), file).unwrap();
        }
        Place {
            contexts: Contexts::new(folder.path().join(".docker")),
            access: Access {
                host: "tcp://127.88.0.1:2376".into(),
                certificates,
            },
            _folder: folder,
        }
    }

    #[test]
    fn a_context_comes_and_goes_and_leaves_what_others_have() {
        let Place {
            contexts,
            access,
            _folder,
        } = place();
        make(&contexts.folder).unwrap();
        let before = "{\n\t\"auths\": {},\n\t\"currentContext\": \"work\",\n\t\"zeta\": 1\n}";
        write(&contexts.config(), before).unwrap();
        write_meta(&contexts, "work", "tcp://10.0.0.1:1");
        contexts.create("dev", &access).unwrap();
        assert_eq!(contexts.find("dev", &access).unwrap(), Presence::Own);
        let former = contexts.current().unwrap();
        contexts.choose(Some("dev")).unwrap();
        assert_eq!(contexts.current().unwrap().as_deref(), Some("dev"));
        let key = contexts.tls("dev").join("docker/key.pem");
        assert_eq!(std::fs::read_to_string(key).unwrap(), "key.pem");
        assert!(contexts.remove("dev", &access, former.as_deref()).unwrap());
        assert_eq!(contexts.find("dev", &access).unwrap(), Presence::None);
        assert_eq!(std::fs::read_to_string(contexts.config()).unwrap(), before);
        assert!(!contexts.tls("dev").exists());
        assert!(!contexts.remove("dev", &access, None).unwrap());
    }

    fn write_meta(contexts: &Contexts, name: &str, host: &str) {
        let meta = json!({"Name": name, "Endpoints": {"docker": {"Host": host}}});
        make(&contexts.meta(name)).unwrap();
        write(&contexts.meta(name).join("meta.json"), &meta.to_string()).unwrap();
    }

    #[test]
    fn a_context_of_somebody_else_is_left_alone() {
        let Place {
            contexts,
            access,
            _folder,
        } = place();
        write_meta(&contexts, "dev", "tcp://10.0.0.1:1");
        let refused = contexts.create("dev", &access).unwrap_err();
        assert_eq!(refused.id(), ErrorId::ContextTaken);
        assert!(!contexts.remove("dev", &access, None).unwrap());
        assert_eq!(contexts.find("dev", &access).unwrap(), Presence::Others);
    }

    #[test]
    fn names_that_docker_does_not_take_are_refused() {
        let Place {
            contexts,
            access,
            _folder,
        } = place();
        for name in ["default", "a"] {
            let refused = contexts.create(name, &access).unwrap_err();
            assert_eq!(refused.id(), ErrorId::Unsupported);
        }
    }

    #[test]
    fn settings_that_cannot_be_read_are_left_alone() {
        let Place {
            contexts,
            access,
            _folder,
        } = place();
        contexts.create("dev", &access).unwrap();
        write(&contexts.config(), "{ not json").unwrap();
        let refused = contexts.choose(Some("dev")).unwrap_err();
        assert_eq!(refused.id(), ErrorId::ConfigInvalid);
        assert_eq!(
            std::fs::read_to_string(contexts.config()).unwrap(),
            "{ not json"
        );
    }

    #[test]
    fn a_former_context_that_is_gone_does_not_come_back() {
        let Place {
            contexts,
            access,
            _folder,
        } = place();
        contexts.create("dev", &access).unwrap();
        contexts.choose(Some("dev")).unwrap();
        assert!(contexts.remove("dev", &access, Some("gone")).unwrap());
        assert_eq!(contexts.current().unwrap(), None);
    }

    #[test]
    fn folders_are_named_as_the_docker_command_names_them() {
        assert_eq!(
            id("default"),
            "37a8eec1ce19687d132fe29051dca629d164e2c4958ba141d5f4133a33f0688f"
        );
    }
}
