//! What the clusters of a driver can do, as the program itself says.

use crate::Coracle;
use serde_json::Value;

/// A driver as `coracle doctor` shows it. Tests ask this, and never which driver it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Abilities {
    /// What the driver is called.
    pub driver: String,
    /// Whether a cluster can be paused.
    pub can_pause: bool,
    /// Whether a cluster can be saved, so that a start goes on with what ran.
    pub can_save: bool,
    /// Whether a cluster can begin as a copy of another one that runs.
    pub can_copy: bool,
}

impl Coracle {
    /// Those of the driver that `CORACLE_DRIVER` names in this sandbox; without it of the first that works.
    #[track_caller]
    pub fn abilities(&self) -> Abilities {
        let doctor = self.run("doctor -o json").ok();
        let findings = doctor.json();
        let mut drivers = findings
            .as_array()
            .expect("a list")
            .iter()
            .map(|finding| &finding["Driver"]);
        let wanted = self.variable("CORACLE_DRIVER");
        let is_it = |driver: &&Value| match wanted {
            Some(name) => driver["Name"] == name,
            None => driver.is_object(),
        };
        let found = drivers
            .find(is_it)
            .unwrap_or_else(|| panic!("doctor does not know {wanted:?}: {doctor}"));
        let can = |what: &str| {
            let said = found[what].as_bool();
            said.unwrap_or_else(|| panic!("it does not say {what}: {doctor}"))
        };
        Abilities {
            driver: found["Name"].as_str().expect("it has a name").to_owned(),
            can_pause: can("CanPause"),
            can_save: can("CanSave"),
            can_copy: can("CanCopy"),
        }
    }
}
