//! From a text to a text.

use crate::draft::{Draft, Object, Path, Step, keys};
use crate::note::{Note, Weight};
use crate::table::{self, Fate};
use coracle_yaml::{Stream, YamlError};

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migration {
    /// The text, with the changes.
    pub text: String,
    /// What was changed and what has to be looked at, by lines.
    pub notes: Vec<Note>,
}

impl Migration {
    /// Whether something of the text was changed.
    #[must_use]
    pub fn is_changed(&self) -> bool {
        self.notes.iter().any(|note| note.weight == Weight::Changed)
    }
}

/// Whether a text holds objects of Kubernetes: a document with a kind and a version.
///
/// # Errors
/// It is not YAML.
pub fn is_manifest(text: &str) -> Result<bool, YamlError> {
    let stream = Stream::parse(text)?;
    let has = |key: &str| {
        let mut roots = stream.documents.iter().map(|document| &document.root);
        roots.any(|root| root.get(key).is_some())
    };
    Ok(has("apiVersion") && has("kind"))
}

/// Brings every object of a text, YAML or JSON, to a version that is served.
///
/// # Errors
/// It is not YAML, or written in a way that cannot be edited in place; with the line.
pub fn migrate(text: &str) -> Result<Migration, YamlError> {
    let (mut whole, mut notes, mut lines) = (String::new(), Vec::new(), 0);
    // Each edit is followed by another reading: of its own document, not of them all.
    for part in coracle_yaml::parts(text)? {
        let (now, said) = bring_part(part, lines).map_err(|error| error.below(lines))?;
        whole += &now;
        notes.extend(said);
        lines += part.matches('\n').count();
    }
    Ok(Migration { text: whole, notes })
}

/// One part of a text, which so many lines are before.
fn bring_part(part: &str, lines: usize) -> Result<(String, Vec<Note>), YamlError> {
    let mut draft = Draft::new(part, lines)?;
    for document in 0..draft.documents() {
        let root = Path::new();
        let list = items(&mut draft, document, &root);
        match list {
            None => bring(&mut Object::new(&mut draft, document, root))?,
            Some(count) => {
                for index in 0..count {
                    let root = vec![Step::Key("items"), Step::Index(index)];
                    bring(&mut Object::new(&mut draft, document, root))?;
                }
            }
        }
    }
    Ok(draft.finish())
}

/// How many items a list has; None for any other object.
fn items(draft: &mut Draft, document: usize, root: &Path) -> Option<usize> {
    let list = Object::new(draft, document, root.clone());
    let is_list = list.text(&keys(["kind"])).as_deref() == Some("List");
    let items = list.get(&keys(["items"])).filter(|_| is_list)?;
    Some(items.items().len())
}

fn bring(object: &mut Object<'_>) -> Result<(), YamlError> {
    let version = object.text(&keys(["apiVersion"])).unwrap_or_default();
    let kind = object.text(&keys(["kind"])).unwrap_or_default();
    let Some(row) = table::find(&version, &kind) else {
        return Ok(());
    };
    match row.fate {
        Fate::Gone(advice) => {
            object.look(
                &keys(["kind"]),
                &format!("there is no {kind} any more; {advice}"),
            );
            return Ok(());
        }
        Fate::ByHand(now, advice) => {
            object.look(
                &keys(["apiVersion"]),
                &format!(
                    "{version} is not served any more; {now} is written differently: {advice}"
                ),
            );
            return Ok(());
        }
        Fate::Now {
            version: now,
            kind: name,
        } => {
            if version != now {
                object.set(&[], "apiVersion", now)?;
                object.changed(&keys(["apiVersion"]), &format!("{version} is {now}"));
            }
            if let Some(name) = name.filter(|&name| name != kind) {
                object.set(&[], "kind", name)?;
                object.changed(&keys(["kind"]), &format!("{kind} is called {name}"));
            }
        }
    }
    for step in row.steps {
        step(object, &version)?;
    }
    Ok(())
}
