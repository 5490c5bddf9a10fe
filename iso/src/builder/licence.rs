//! Licences, from what packages say of themselves.

/// SPDX identifiers that are recognised by themselves.
const SPDX: [&str; 16] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "GPL-2.0-only",
    "GPL-3.0-only",
    "ISC",
    "LGPL-3.0-only",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "WTFPL",
    "Zlib",
];

/// Whether a text is one SPDX identifier that CycloneDX takes as an id.
pub(crate) fn is_spdx(name: &str) -> bool {
    SPDX.contains(&name)
}

/// Whether a text is an SPDX expression.
pub(crate) fn is_expression(text: &str) -> bool {
    text.split([' ', '(', ')'])
        .filter(|word| !word.is_empty())
        .all(|word| matches!(word, "OR" | "AND" | "WITH" | "LLVM-exception") || is_spdx(word))
}

/// Sentences that only one licence has, in the order in which to look for them: licences that
/// quote others come first.
const SENTENCES: [(&str, &str); 9] = [
    ("Apache-2.0", "apache license version 2.0"),
    ("MPL-2.0", "mozilla public license version 2.0"),
    (
        "LGPL-3.0-only",
        "gnu lesser general public license version 3",
    ),
    ("BSD-3-Clause", "neither the name"),
    (
        "BSD-3-Clause",
        "may not be used to endorse or promote products",
    ),
    (
        "BSD-2-Clause",
        "redistributions in binary form must reproduce",
    ),
    ("MIT", "permission is hereby granted, free of charge"),
    (
        "ISC",
        "permission to use, copy, modify, and/or distribute this software for any purpose",
    ),
    (
        "Unlicense",
        "this is free and unencumbered software released into the public domain",
    ),
];

/// The licence of a `LICENSE` file, by a sentence of its text.
pub(crate) fn of_text(text: &str) -> Option<&'static str> {
    let words: Vec<_> = text.split_whitespace().collect();
    let text = words
        .join(" ")
        .to_lowercase()
        .replace("license, version", "license version");
    SENTENCES
        .iter()
        .find(|(_, sentence)| text.contains(sentence))
        .map(|(name, _)| *name)
}

/// The licence names in a Debian copyright file of the machine-readable form (DEP 5); none when
/// it is free text.
pub(crate) fn of_debian(text: &str) -> Vec<String> {
    if !text.contains("Format:") {
        return Vec::new();
    }
    let mut names: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("License:"))
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_told_apart() {
        let apache = "                Apache License\n          Version 2.0, January 2004";
        assert_eq!(of_text(apache), Some("Apache-2.0"));
        assert_eq!(
            of_text("Licensed under the Apache License, Version 2.0"),
            Some("Apache-2.0")
        );
        let bsd = "Redistributions in binary form must\nreproduce ...";
        assert_eq!(of_text(bsd), Some("BSD-2-Clause"));
        assert_eq!(
            of_text(&format!("{bsd} Neither the name of")),
            Some("BSD-3-Clause")
        );
        assert_eq!(
            of_text("Permission is hereby granted,\n free of charge, to"),
            Some("MIT")
        );
        assert_eq!(of_text("All rights reserved."), None);
    }

    #[test]
    fn debian_names_are_listed_once() {
        let text = "Format: https://x\n\nFiles: *\nLicense: GPL-3+\n text\n\nFiles: a\nLicense: MIT\n\nLicense: GPL-3+\n";
        assert_eq!(of_debian(text), ["GPL-3+", "MIT"]);
        assert!(of_debian("This is free software.").is_empty());
    }

    #[test]
    fn expressions_are_recognised() {
        assert!(is_expression("MIT OR Apache-2.0"));
        assert!(is_expression("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(!is_expression("GPL-2+ and more"));
    }
}
