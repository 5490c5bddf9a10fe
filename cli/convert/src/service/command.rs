//! `entrypoint` and `command`.

use super::pod::{Pod, literal};
use crate::at::At;
use crate::fault::Result;
use crate::report::Report;
use crate::words;
use crate::yaml::Kind;

/// Puts the command into the container.
pub(super) fn put(at: &At<'_>, pod: &mut Pod, report: &mut Report) -> Result<()> {
    let entrypoint = at.get("entrypoint");
    let command = at.get("command");
    let words_of = |at: &Option<At<'_>>, report: &mut Report| match at {
        Some(at) => Ok(Some(words(at, report)?)),
        None => Ok(None),
    };
    let (program, arguments) = match (words_of(&entrypoint, report)?, words_of(&command, report)?) {
        // Without an entrypoint, the command is the program.
        (Some(program), Some(command)) if is_none(&program) => (Some(command), None),
        (program, arguments) => (program, arguments),
    };
    for (at, words) in [(&entrypoint, &program), (&command, &arguments)] {
        if let (Some(at), Some(words)) = (at, words)
            && is_none(words)
            && !(at.path.ends_with("command") && program.as_ref().is_some_and(|one| !is_none(one)))
        {
            report.warn(
                at,
                "not mapped: where it is empty, the image's own is taken",
            );
        }
    }
    let kept = |words: Option<Vec<String>>| {
        let words = words.filter(|words| !is_none(words))?;
        Some(words.iter().map(|word| literal(word)).collect())
    };
    pod.container.command = kept(program);
    pod.container.args = kept(arguments);
    Ok(())
}

fn is_none(words: &[String]) -> bool {
    words.iter().all(String::is_empty)
}

/// The words of a command: a list, or a text that is split.
pub(super) fn words(at: &At<'_>, report: &mut Report) -> Result<Vec<String>> {
    if let Kind::Sequence(_) = at.node.kind {
        return at.texts();
    }
    let text = at.text()?;
    let Some(split) = words::split(text) else {
        return Err(at.fault(format!("a quote in {text:?} does not end")));
    };
    if let Some(left) = split.left {
        report.warn(
            at,
            format!("{left:?} is left out: a command is not run by a shell, in Compose neither"),
        );
    }
    Ok(split.words)
}
