//! Templates to objects: minijinja, then YAML documents, then labels.

use kube::api::DynamicObject;
use kube::core::GroupVersionKind;
use minijinja::{AutoEscape, Environment, UndefinedBehavior};

use crate::addon::Addon;
use crate::kinds;
use crate::values::{Values, ValuesError};

/// Label that says who manages an object.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";
/// What [`MANAGED_BY_LABEL`] says.
pub const MANAGED_BY: &str = "coracle";
/// Label that names the add-on an object belongs to.
pub const ADDON_LABEL: &str = "coracle.dev/addon";
/// Annotation with the add-on's version.
pub const VERSION_ANNOTATION: &str = "coracle.dev/addon-version";

/// Why an add-on cannot be rendered.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The values do not fit.
    #[error(transparent)]
    Values(#[from] ValuesError),
    /// A template failed, for one because it names a value that is not there.
    #[error("add-on {addon}: {reason}")]
    Template {
        /// The add-on.
        addon: String,
        /// What is wrong, with file and line.
        reason: String,
    },
    /// What a template gave is not an object of Kubernetes.
    #[error("add-on {addon}: {file}, line {line} of what it renders to: {reason}")]
    Manifest {
        /// The add-on.
        addon: String,
        /// File, relative to the add-on's folder.
        file: String,
        /// Line of the rendered text, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
}

/// The objects of an add-on, in the order in which they are applied. Nothing is asked of a cluster.
///
/// # Errors
/// A value is missing or unknown, or a manifest is not an object: file and line are named.
pub fn render(addon: &Addon, values: &Values) -> Result<Vec<DynamicObject>, RenderError> {
    let context = values.context(addon)?;
    let environment = environment();
    let mut objects = Vec::new();
    for (file, template) in &addon.manifests {
        let text = environment
            .render_named_str(file, template, &context)
            .map_err(|error| RenderError::Template {
                addon: addon.name.clone(),
                reason: describe(file, &error),
            })?;
        for (line, document) in documents(&text) {
            let failed = |(offset, reason)| RenderError::Manifest {
                addon: addon.name.clone(),
                file: file.clone(),
                line: line + offset,
                reason,
            };
            objects.extend(decode(document).map_err(failed)?);
        }
    }
    for object in &mut objects {
        label(object, addon);
    }
    objects.sort_by_key(|object| kinds::order(&gvk(object)));
    Ok(objects)
}

/// Says whether `text` is a template; the error names file and line.
pub(crate) fn check_template(file: &str, text: &str) -> Result<(), String> {
    environment()
        .template_from_named_str(file, text)
        .map(|_| ())
        .map_err(|error| describe(file, &error))
}

/// Group, version and kind of an object that [`render`] made, or that the API server sent.
pub(crate) fn gvk(object: &DynamicObject) -> GroupVersionKind {
    let types = object.types.clone().unwrap_or_default();
    GroupVersionKind::try_from(&types)
        .unwrap_or_else(|_| GroupVersionKind::gvk("", &types.api_version, &types.kind))
}

/// A value that is not there is an error; nothing is escaped, as a manifest quotes what it has to.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_keep_trailing_newline(true);
    environment
}

fn describe(file: &str, error: &minijinja::Error) -> String {
    let place = error
        .line()
        .map_or_else(String::new, |line| format!(", line {line}"));
    format!(
        "{file}{place}: {}: {}",
        error.kind(),
        error.detail().unwrap_or("no more is known")
    )
}

/// The documents of a YAML stream, each with its first line, from 1. A line that begins with `---`
/// always starts a document: inside a block it would be indented.
fn documents(text: &str) -> Vec<(usize, &str)> {
    let mut documents = Vec::new();
    let (mut start, mut first, mut offset) = (0, 1, 0);
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let marker = line.trim_end();
        if marker == "---" || line.starts_with("--- ") {
            documents.push((first, &text[start..offset]));
            (start, first) = (offset, index + 1);
        }
        offset += line.len();
    }
    documents.push((first, &text[start..]));
    documents
}

/// The objects of one document: none when it is empty, all items of a `List`. An error comes with
/// the line inside the document, from 0.
fn decode(document: &str) -> Result<Vec<DynamicObject>, (usize, String)> {
    let value: serde_yaml::Value = serde_yaml::from_str(document).map_err(|error| {
        let line = error
            .location()
            .map_or(0, |location| location.line().saturating_sub(1));
        (line, error.to_string())
    })?;
    if value.is_null() {
        return Ok(Vec::new());
    }
    let first = document
        .lines()
        .position(|line| !line.trim().is_empty() && !line.starts_with(['#', '-']))
        .unwrap_or_default();
    objects(&value).map_err(|reason| (first, reason))
}

fn objects(value: &serde_yaml::Value) -> Result<Vec<DynamicObject>, String> {
    let is_list = value.get("kind").and_then(serde_yaml::Value::as_str) == Some("List");
    if let (true, Some(items)) = (
        is_list,
        value.get("items").and_then(|items| items.as_sequence()),
    ) {
        return Ok(items
            .iter()
            .map(objects)
            .collect::<Result<Vec<_>, _>>()?
            .concat());
    }
    let json = serde_json::to_value(value).map_err(|error| error.to_string())?;
    if !json.is_object() {
        return Err("it is not an object with apiVersion, kind and metadata".to_owned());
    }
    for field in ["/apiVersion", "/kind", "/metadata/name"] {
        let text = json
            .pointer(field)
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default();
        if text.is_empty() {
            return Err(format!("it has no {}", field[1..].replace('/', ".")));
        }
    }
    let object: DynamicObject = serde_json::from_value(json).map_err(|error| error.to_string())?;
    Ok(vec![object])
}

fn label(object: &mut DynamicObject, addon: &Addon) {
    let labels = object.metadata.labels.get_or_insert_default();
    labels.insert(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned());
    labels.insert(ADDON_LABEL.to_owned(), addon.name.clone());
    let annotations = object.metadata.annotations.get_or_insert_default();
    annotations.insert(VERSION_ANNOTATION.to_owned(), addon.version.clone());
}
