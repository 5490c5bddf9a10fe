//! `env_file` and `environment`.

use std::io::ErrorKind;

use k8s_openapi::api::core::v1::EnvVar;

use super::pod::{Pod, literal};
use crate::at::At;
use crate::convert::Project;
use crate::env_file::EnvFile;
use crate::fault::{Fault, Result};
use crate::keys;
use crate::yaml::Kind;

/// Puts the variables into the container: those of the files, then those of the service, each once,
/// where it came first.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, project: &mut Project<'_>) -> Result<()> {
    let mut variables: Vec<(String, String)> = Vec::new();
    if let Some(files) = at.get("env_file") {
        let items = match files.node.kind {
            Kind::Mapping(_) => vec![files],
            _ => files.items_or_one()?,
        };
        for file in items {
            let read = read(&file, &variables, project)?;
            for (name, value) in read.variables {
                set(&mut variables, name, value);
            }
        }
    }
    if let Some(environment) = at.get("environment") {
        for entry in environment.pairs_or_list()? {
            if entry.key.is_empty() || entry.key.contains(['=', '\0']) {
                return Err(entry
                    .at
                    .fault(format!("{:?} is no name of a variable", entry.key)));
            }
            match entry.value {
                Some(value) => set(&mut variables, entry.key, value),
                // A name alone is the shell's variable, and not there where the shell has none.
                None => match project.source.variables.get(&entry.key) {
                    Some(value) => set(&mut variables, entry.key, value.clone()),
                    None => variables.retain(|(name, _)| *name != entry.key),
                },
            }
        }
    }
    let variables: Vec<_> = variables
        .into_iter()
        .map(|(name, value)| EnvVar {
            name,
            value: Some(literal(&value)),
            ..EnvVar::default()
        })
        .collect();
    pod.container.env = (!variables.is_empty()).then_some(variables);
    Ok(())
}

fn set(variables: &mut Vec<(String, String)>, name: String, value: String) {
    match variables.iter_mut().find(|(known, _)| *known == name) {
        Some((_, known)) => *known = value,
        None => variables.push((name, value)),
    }
}

/// One file of variables.
fn read(file: &At<'_>, before: &[(String, String)], project: &mut Project<'_>) -> Result<EnvFile> {
    let (path, required, raw) = match file.node.kind {
        Kind::Mapping(_) => {
            keys::check(file, keys::ENV_FILE, &mut project.report)?;
            let path = file.get("path");
            let path = path.ok_or_else(|| file.expected("a mapping with `path`"))?;
            let required = file.get("required").map_or(Ok(true), |at| at.boolean())?;
            let raw = match file.get("format") {
                Some(format) if format.text()? == "raw" => true,
                Some(format) if !format.text()?.is_empty() => {
                    return Err(format.expected("the format `raw`"));
                }
                _ => false,
            };
            (path, required, raw)
        }
        _ => (file.clone(), true, false),
    };
    let bytes = match project.read(&path) {
        Ok(bytes) => bytes,
        Err(Fault::Unreadable { source, .. })
            if !required && source.kind() == ErrorKind::NotFound =>
        {
            return Ok(EnvFile::default());
        }
        Err(fault) => return Err(fault),
    };
    let name = path.text()?;
    let Ok(text) = String::from_utf8(bytes) else {
        return Err(path.fault(format!("{name} is no text in UTF-8")));
    };
    if raw {
        return Ok(EnvFile::parse_raw(&text));
    }
    let known = |variable: &str| {
        let outer = project.source.variables.get(variable).cloned();
        outer.or_else(|| {
            let earlier = before.iter().find(|(known, _)| known == variable);
            earlier.map(|(_, value)| value.clone())
        })
    };
    let read = EnvFile::parse(&text, &known);
    let read = read.map_err(|error| path.fault(format!("{name}: {error}")))?;
    for (line, variable) in &read.unset {
        let message = format!(
            "{name}, line {line}: the variable {variable} is not set; nothing is put in its place"
        );
        project.report.warn(&path, message);
    }
    Ok(read)
}
