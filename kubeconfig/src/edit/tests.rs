//! Damaged and strange texts: an edit is either refused or exact, and never a panic.

// Helpers of tests may fail like tests.
#![allow(clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;

use super::{EditError, Parts, remove, set};
use crate::entry::{ContextEntry, Identity, List};
use crate::former::FormerFile;

const NAME: &str = "coracle";

fn entry() -> ContextEntry {
    ContextEntry {
        name: NAME.to_owned(),
        server: "https://127.88.0.1:6443".to_owned(),
        identity: Identity::Embedded {
            authority_pem: "authority".to_owned(),
            client_certificate_pem: "client".to_owned(),
            client_key_pem: "key".to_owned(),
        },
        namespace: None,
        extensions: Vec::new(),
    }
}

/// Sets and removes a context; gives whether that was possible.
fn round(text: &str) -> bool {
    let entry = entry();
    let parts = Parts {
        entry: &entry,
        lists: List::ALL.to_vec(),
        current: true,
    };
    let mut record = FormerFile::new(Path::new("config"), true);
    let edited = match set(text, &parts, &mut record) {
        Ok(edited) => edited,
        Err(error) => {
            assert!(!matches!(error, EditError::Encoding { .. }));
            return false;
        }
    };
    let removed = remove(&edited, NAME, Some(&record), &|_| true)
        .unwrap_or_else(|error| panic!("{error}\n{text}\n=>\n{edited}"));
    assert_eq!(removed, text, "set was\n{edited}");
    true
}

fn fixtures() -> Vec<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let files = fs::read_dir(folder).expect("fixtures");
    let texts = files.map(|file| fs::read_to_string(file.expect("a fixture").path()));
    texts.map(|text| text.expect("text")).collect()
}

#[test]
fn a_text_cut_off_anywhere_is_refused_or_comes_back() {
    let mut possible = 0;
    for text in fixtures() {
        for end in (0..text.len()).step_by(3) {
            possible += usize::from(round(&text[..end]));
        }
    }
    assert!(possible > 500, "only {possible} texts could be edited");
}

#[test]
fn a_text_without_one_of_its_lines_is_refused_or_comes_back() {
    let mut possible = 0;
    for text in fixtures() {
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for left_out in 0..lines.len() {
            let (before, after) = (&lines[..left_out], &lines[left_out + 1..]);
            possible += usize::from(round(&[before, after].concat().concat()));
        }
    }
    assert!(possible > 100, "only {possible} texts could be edited");
}

#[test]
fn a_text_with_a_strange_character_anywhere_is_refused_or_comes_back() {
    let mut possible = 0;
    for text in fixtures() {
        for (turn, place) in (0..text.len()).step_by(11).enumerate() {
            let strange = ["é", "\u{2028}", "\t", "#", "\"", "- ", "\r", "&a ", "日"];
            let mut text = text.clone();
            text.insert_str(place, strange[turn % strange.len()]);
            possible += usize::from(round(&text));
        }
    }
    assert!(possible > 300, "only {possible} texts could be edited");
}

/// A line end for YAML 1.1, none for 1.2: the two readers see different indentation.
#[test]
fn a_text_that_readers_take_differently_is_refused() {
    let text = "contexts:\n- context:\n    user: a\n \u{2028} name: x\n";
    let clean = text.replace('\u{2028}', "");
    assert!(round(&clean));
    assert!(!round(text));
}
