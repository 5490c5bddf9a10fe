//! What is done to a mounted folder without the host: the kernel carries out what the host has done
//! already, so that it tells who watches.
//!
//! The kernel tells watchers (inotify) only of what goes through it. So one thread of the agent does
//! through the mounted folder what was done to the host's, and the file system, which knows that thread,
//! says yes to it and asks nobody.

use coracle_protocol::folders::Attributes;
use nix::unistd::gettid;
use std::ffi::{OsStr, OsString};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A name in a folder, by that folder's number.
pub(super) type Name = (u64, OsString);

/// One act, as the kernel is to find things while it is carried out.
#[derive(Debug, Default)]
pub(super) struct Act {
    /// A name that is still there.
    pub(super) there: Option<(Name, Attributes)>,
    /// A name that is not there yet.
    pub(super) missing: Option<Name>,
    /// What is made under that name.
    pub(super) made: Option<Attributes>,
}

/// What a name leads to in an act.
#[derive(Debug, PartialEq)]
pub(super) enum Pretended {
    There(Attributes),
    Missing,
}

/// The act that goes on, and the thread whose it is.
#[derive(Debug, Default)]
pub(super) struct Pretence(Mutex<Option<(u32, Act)>>);

impl Pretence {
    fn now(&self) -> MutexGuard<'_, Option<(u32, Act)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something through the mounted folder, in this thread.
    pub(super) fn act<T>(&self, act: Act, work: impl FnOnce() -> T) -> T {
        let thread = u32::try_from(gettid().as_raw()).unwrap_or(0);
        *self.now() = Some((thread, act));
        let done = work();
        *self.now() = None;
        done
    }

    /// Whether a request of the kernel's is a part of an act.
    pub(super) fn is_by(&self, thread: u32) -> bool {
        matches!(&*self.now(), Some((by, _)) if *by == thread)
    }

    /// What a name leads to, for the thread of an act.
    pub(super) fn lookup(&self, thread: u32, parent: u64, name: &OsStr) -> Option<Pretended> {
        let now = self.now();
        let (_, act) = now.as_ref().filter(|(by, _)| *by == thread)?;
        let is = |one: &Name| one.0 == parent && one.1 == name;
        match &act.there {
            Some((there, attributes)) if is(there) => Some(Pretended::There(*attributes)),
            _ => act
                .missing
                .as_ref()
                .filter(|missing| is(missing))
                .map(|_| Pretended::Missing),
        }
    }

    /// What is made under a name, for the thread of an act.
    pub(super) fn made(&self, thread: u32, parent: u64, name: &OsStr) -> Option<Attributes> {
        let now = self.now();
        let (_, act) = now.as_ref().filter(|(by, _)| *by == thread)?;
        let is_it = act.missing.as_ref()? == &(parent, name.to_owned());
        act.made.filter(|_| is_it)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_thread_of_an_act_finds_what_it_pretends() {
        let pretence = Pretence::default();
        let thread = u32::try_from(gettid().as_raw()).unwrap();
        let act = Act {
            missing: Some((1, "new".into())),
            made: Some(Attributes::default()),
            ..Act::default()
        };
        pretence.act(act, || {
            let missing = pretence.lookup(thread, 1, "new".as_ref());
            assert_eq!(missing, Some(Pretended::Missing));
            assert_eq!(pretence.lookup(thread, 1, "other".as_ref()), None);
            assert_eq!(pretence.lookup(thread + 1, 1, "new".as_ref()), None);
            assert!(pretence.made(thread, 1, "new".as_ref()).is_some());
            assert!(pretence.is_by(thread) && !pretence.is_by(thread + 1));
        });
        assert!(!pretence.is_by(thread));
    }
}
