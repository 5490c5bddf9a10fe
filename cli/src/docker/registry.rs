//! Who somebody is at a registry, as the docker command keeps it: in its settings, or with a helper program
//! that these name.

use crate::error::{Context as _, Error, ErrorId, Result};
use crate::settings::Settings;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use coracle_protocol::image_name::ImageName;
use serde_json::{Value, json};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// How long a helper may take: somebody may have to unlock a keyring for it.
const HELPER: Duration = Duration::from_secs(120);
/// What helpers say of a registry where nobody has logged in (docker-credential-helpers, `credentials/error.go`).
const UNKNOWN: &str = "credentials not found";
/// How the docker command calls Docker's own registry.
const HUB: &str = "https://index.docker.io/v1/";

/// The registry of an image's name, as the docker command calls it.
fn registry(image: &str) -> &str {
    match ImageName::of(image).registry() {
        None | Some("docker.io" | "index.docker.io") => HUB,
        Some(other) => other,
    }
}

/// The header `X-Registry-Auth` for an image's registry; empty credentials where nobody has logged in.
pub async fn header(settings: &Settings, image: &str) -> Result<String> {
    let kept = read(&settings.docker_config.join("config.json"))?;
    let registry = registry(image);
    let found = match helper(&kept, registry) {
        Some(helper) => {
            let program = format!("docker-credential-{helper}");
            let path = settings.find_program(&program).ok_or_else(|| {
                Error::new(
                    ErrorId::ConfigInvalid,
                    format!("{program} is not installed, which keeps who you are at {registry}"),
                )
            })?;
            ask(&path, registry).await?
        }
        None => from_settings(&kept, registry),
    };
    Ok(URL_SAFE.encode(found.unwrap_or_else(|| json!({})).to_string()))
}

fn read(file: &Path) -> Result<Value> {
    let invalid = || format!("{} is not the docker command's settings", file.display());
    match std::fs::read_to_string(file) {
        Ok(text) if text.trim().is_empty() => Ok(Value::Null),
        Ok(text) => serde_json::from_str(&text).context(ErrorId::ConfigInvalid, invalid),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(error) => Err(Error::caused_by(ErrorId::ConfigInvalid, invalid(), &error)),
    }
}

/// The program that keeps a registry's credentials.
fn helper<'a>(kept: &'a Value, registry: &str) -> Option<&'a str> {
    let own = kept["credHelpers"][registry].as_str();
    own.or_else(|| kept["credsStore"].as_str())
        .filter(|name| !name.is_empty())
}

/// A registry's host, of its name or URL.
fn host(name: &str) -> &str {
    let rest = name
        .strip_prefix("https://")
        .or_else(|| name.strip_prefix("http://"));
    let rest = rest.unwrap_or(name);
    rest.split_once('/').map_or(rest, |(host, _)| host)
}

fn from_settings(kept: &Value, registry: &str) -> Option<Value> {
    let auths = kept["auths"].as_object()?;
    // Older logins are kept under a URL.
    let entry = auths.get(registry).or_else(|| {
        let mut entries = auths.iter();
        let same = entries.find(|(name, _)| host(name) == host(registry));
        same.map(|(_, entry)| entry)
    })?;
    if let Some(token) = entry["identitytoken"].as_str() {
        return Some(json!({ "identitytoken": token, "serveraddress": registry }));
    }
    let decoded = STANDARD.decode(entry["auth"].as_str()?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    let password = password.trim_end_matches('\0');
    Some(json!({ "username": user, "password": password, "serveraddress": registry }))
}

/// Asks a helper, by the protocol of docker-credential-helpers.
async fn ask(program: &Path, registry: &str) -> Result<Option<Value>> {
    let failed = || format!("{} does not answer", program.display());
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context(ErrorId::ConfigInvalid, failed)?;
    if let Some(mut input) = child.stdin.take() {
        let written = input.write_all(registry.as_bytes()).await;
        written.context(ErrorId::ConfigInvalid, failed)?;
    }
    let output = tokio::time::timeout(HELPER, child.wait_with_output()).await;
    let output = output.map_err(|_| Error::new(ErrorId::ConfigInvalid, failed()))?;
    let output = output.context(ErrorId::ConfigInvalid, failed)?;
    if !output.status.success() {
        // They say it on either stream.
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).trim().to_owned();
        return match said.contains(UNKNOWN) {
            true => Ok(None),
            false => Err(Error::new(ErrorId::ConfigInvalid, failed()).because(said)),
        };
    }
    let said: Value =
        serde_json::from_slice(&output.stdout).context(ErrorId::ConfigInvalid, failed)?;
    let (user, secret) = (said["Username"].as_str(), said["Secret"].as_str());
    Ok(match (user, secret) {
        (Some("<token>"), Some(secret)) => {
            Some(json!({ "identitytoken": secret, "serveraddress": registry }))
        }
        (Some(user), Some(secret)) => {
            Some(json!({ "username": user, "password": secret, "serveraddress": registry }))
        }
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_are_called_as_docker_calls_them() {
        for (image, called) in [
            ("app:1", HUB),
            ("me/app", HUB),
            ("docker.io/me/app", HUB),
            ("a.example:5000/app", "a.example:5000"),
            ("localhost/app", "localhost"),
        ] {
            assert_eq!(registry(image), called, "{image}");
        }
    }

    #[test]
    fn credentials_are_those_of_the_docker_command() {
        let kept = json!({
            "auths": {
                "a.example": { "auth": STANDARD.encode("me:pass:word") },
                "b.example": { "identitytoken": "token" },
                "https://e.example/v1/": { "auth": STANDARD.encode("old:login") },
            },
            "credHelpers": { "c.example": "secretservice" },
        });
        let found = from_settings(&kept, "a.example").unwrap();
        assert_eq!(
            (&found["username"], &found["password"]),
            (&json!("me"), &json!("pass:word"))
        );
        assert_eq!(
            from_settings(&kept, "b.example").unwrap()["identitytoken"],
            "token"
        );
        assert_eq!(from_settings(&kept, "d.example"), None);
        assert_eq!(
            from_settings(&kept, "e.example").unwrap()["username"],
            "old"
        );
        assert_eq!(helper(&kept, "c.example"), Some("secretservice"));
        assert_eq!(helper(&kept, "a.example"), None);
        let all = json!({ "credsStore": "desktop" });
        assert_eq!(helper(&all, "a.example"), Some("desktop"));
    }
}
