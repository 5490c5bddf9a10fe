//! What of dockerd's settings a start is asked to change: `--docker-opt`, `--insecure-registry`,
//! `--registry-mirror`. They stay with the machine, as if they had been written there by hand.

use crate::error::{Error, ErrorId, Result};
use crate::options::ClusterOptions;
use coracle_protocol::client::AgentClient;
use coracle_protocol::{is_mirror, is_registry};
use serde_json::{Map, Value};

/// Settings by their names in `daemon.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DaemonSettings(Map<String, Value>);

impl DaemonSettings {
    /// Those of a command line or cluster file.
    pub fn new(options: &ClusterOptions) -> Result<Self> {
        let mut settings = Map::new();
        for option in options.docker_opt.iter().flatten() {
            let (name, value) = option.split_once('=').unwrap_or((option, "true"));
            put(&mut settings, name.trim_start_matches('-'), parsed(value)).ok_or_else(|| {
                usage("docker-opt", option, "write KEY=VALUE, such as debug=true")
            })?;
        }
        let list = |texts: &[String]| texts.iter().cloned().map(Value::String).collect();
        if let Some(registries) = options.insecure_registry.as_deref() {
            if let Some(text) = registries.iter().find(|text| !is_registry(text)) {
                let help = "write HOST:PORT, or a range of addresses such as 10.0.0.0/8";
                return Err(usage("insecure-registry", text, help));
            }
            settings.insert("insecure-registries".into(), Value::Array(list(registries)));
        }
        if let Some(mirrors) = options.registry_mirror.as_deref() {
            if let Some(text) = mirrors.iter().find(|text| !is_mirror(text)) {
                let help = "write a URL, such as https://mirror.example.com";
                return Err(usage("registry-mirror", text, help));
            }
            settings.insert("registry-mirrors".into(), Value::Array(list(mirrors)));
        }
        Ok(Self(settings))
    }

    /// Has the machine's engine take them, which asks nothing of it where there are none. Whether it had others.
    pub async fn give(&self, agent: &AgentClient) -> Result<bool> {
        if self.0.is_empty() {
            return Ok(false);
        }
        let patch = Value::Object(self.0.clone()).to_string();
        Ok(agent.configure_docker(patch).await?)
    }

    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn usage(flag: &str, value: &str, help: &str) -> Error {
    Error::new(ErrorId::Usage, format!("--{flag} {value:?} is wrong")).help(help)
}

/// A value as JSON where it is that, else as text.
fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// Puts a value under a name whose dots lead into objects; None for a name that is none.
fn put(settings: &mut Map<String, Value>, name: &str, value: Value) -> Option<()> {
    let (first, rest) = match name.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (name, None),
    };
    if first.is_empty() {
        return None;
    }
    let Some(rest) = rest else {
        settings.insert(first.to_owned(), value);
        return Some(());
    };
    let within = settings
        .entry(first)
        .or_insert_with(|| Value::Object(Map::new()));
    put(within.as_object_mut()?, rest, value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(docker_opt: &[&str], insecure: &[&str], mirrors: &[&str]) -> Result<Value> {
        let list = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|&text| text.to_owned()).collect();
            Some(texts).filter(|texts| !texts.is_empty())
        };
        let settings = DaemonSettings::new(&ClusterOptions {
            docker_opt: list(docker_opt),
            insecure_registry: list(insecure),
            registry_mirror: list(mirrors),
            ..ClusterOptions::default()
        });
        settings.map(|DaemonSettings(settings)| Value::Object(settings))
    }

    #[test]
    fn flags_are_settings_of_the_file() {
        let options = [
            "debug",
            "log-opts.max-size=10m",
            "max-concurrent-downloads=5",
            "--mtu=1400",
        ];
        let settings = of(&options, &["a:5000"], &["https://m.example"]).unwrap();
        let expected = json!({
            "debug": true,
            "log-opts": {"max-size": "10m"},
            "max-concurrent-downloads": 5,
            "mtu": 1400,
            "insecure-registries": ["a:5000"],
            "registry-mirrors": ["https://m.example"],
        });
        assert_eq!(settings, expected);
        assert_eq!(of(&[], &[], &[]).unwrap(), json!({}));
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_is_asked() {
        for wrong in [
            of(&["=x"], &[], &[]),
            of(&["a=1", "a.b=2"], &[], &[]),
            of(&[], &["http://a"], &[]),
            of(&[], &[], &["m.example"]),
        ] {
            assert_eq!(wrong.unwrap_err().id(), ErrorId::Usage);
        }
    }
}
