//! What the scripts' functions answer.
//!
//! Windows PowerShell 5.1 may write a list as an object of its elements and their number, a list of one
//! as that one, and an empty one as nothing; PowerShell 7 writes lists. All of these are read.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What the host is and has, from `Get-CoracleHost`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Host {
    /// The kind of system, for example `Win32NT`.
    pub(super) system: String,
    /// Windows' version, for example `10.0.22631`.
    pub(super) version: String,
    /// Windows' edition, for example `Professional` or `Core`, which people know as Home.
    pub(super) edition: Option<String>,
    /// Whether this user may manage machines.
    pub(super) allowed: bool,
    /// The state of Hyper-V's service: `Running`, another one, or `Missing`.
    pub(super) service: String,
    /// Whether Hyper-V's commands for PowerShell are there.
    pub(super) module: bool,
    /// Whether the system runs on top of the hypervisor.
    pub(super) hypervisor: bool,
    /// The state of the feature Microsoft-Hyper-V: `enabled`, `disabled`, `absent` or `unknown`. Told only
    /// where something is missing.
    pub(super) feature: Option<String>,
    /// Whether the virtual switch is there. Told only where it could be asked for.
    pub(super) switch: Option<bool>,
}

/// What a saved machine depends on, from `Get-CoraclePlatform`.
#[derive(Debug, Deserialize)]
pub(super) struct Platform {
    pub(super) windows: String,
    pub(super) processor: String,
}

/// A virtual machine, from all functions that look at one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Facts {
    /// Hyper-V's own identifier.
    pub(super) vm: String,
    /// Its name now.
    pub(super) name: String,
    /// What it does, in Hyper-V's words.
    pub(super) state: String,
    /// What Hyper-V says of it, in the system's language.
    #[serde(default)]
    pub(super) status: String,
}

/// Where a machine is, from `Find-CoracleMachine`.
#[derive(Debug, Deserialize)]
pub(super) struct Found {
    found: bool,
    #[serde(flatten)]
    facts: Option<Facts>,
    /// The identifiers of machines of that name that are not ours.
    #[serde(default, deserialize_with = "texts")]
    pub(super) others: Vec<String>,
}

impl Found {
    /// The virtual machine, if there is one.
    pub(super) fn facts(self) -> Option<Facts> {
        self.facts.filter(|_| self.found)
    }
}

/// Where a guest is reached, from `Get-CoracleAddress`.
#[derive(Debug, Deserialize)]
pub(super) struct Addresses {
    /// What the machine does.
    pub(super) state: String,
    /// What the guest says of itself.
    #[serde(default, deserialize_with = "texts")]
    pub(super) reported: Vec<String>,
    /// What the host knows of its network card: a state, a space and an address.
    #[serde(default, deserialize_with = "texts")]
    pub(super) neighbours: Vec<String>,
}

/// A list of texts, however it is written.
fn texts<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    Ok(flat(Value::deserialize(from)?))
}

fn flat(value: Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(values) => values.into_iter().flat_map(flat).collect(),
        Value::Object(mut object) => object.remove("value").map(flat).unwrap_or_default(),
        Value::Number(number) => vec![number.to_string()],
        Value::Null | Value::Bool(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_as_both_powershells_write_them() {
        for (json, expected) in [
            (r#"["a","b"]"#, &["a", "b"][..]),
            (r#"{"value":["a","b"],"Count":2}"#, &["a", "b"]),
            (r#"{"value":"a","PSPath":"x"}"#, &["a"]),
            (r#""a""#, &["a"]),
            ("[]", &[]),
            ("null", &[]),
            (r#"{"value":[],"Count":0}"#, &[]),
        ] {
            let json = format!(r#"{{"state":"Running","reported":{json}}}"#);
            let addresses: Addresses = serde_json::from_str(&json).unwrap();
            assert_eq!(addresses.reported, expected, "{json}");
            assert!(addresses.neighbours.is_empty());
        }
    }

    #[test]
    fn a_machine_is_there_or_not() {
        let none: Found = serde_json::from_str(r#"{"found":false,"others":["x"]}"#).unwrap();
        assert_eq!(none.others, ["x"]);
        assert_eq!(none.facts(), None);
        let one =
            r#"{"status":"Wird ausgeführt","found":true,"vm":"v","name":"n","state":"Running"}"#;
        let one: Found = serde_json::from_str(one).unwrap();
        assert_eq!(one.facts().unwrap().state, "Running");
    }
}
