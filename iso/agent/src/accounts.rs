//! Users and groups, read from /etc/passwd and /etc/group.
//!
//! The agent is linked statically, and the C library's own lookups load shared objects.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// All groups, the primary one first.
    pub groups: Vec<u32>,
    /// Home folder.
    pub home: PathBuf,
    /// Login shell.
    pub shell: PathBuf,
}

/// Looks a user up below `etc`; None when there is none of this name.
pub fn find(etc: &Path, name: &str) -> io::Result<Option<Account>> {
    let passwd = fs::read_to_string(etc.join("passwd"))?;
    let group = fs::read_to_string(etc.join("group"))?;
    Ok(parse(&passwd, &group, name))
}

/// The id of a group; None when there is none of this name.
pub fn group_id(etc: &Path, name: &str) -> io::Result<Option<u32>> {
    let group = fs::read_to_string(etc.join("group"))?;
    let mut found = group
        .lines()
        .map(|line| line.split(':').collect::<Vec<_>>());
    Ok(found
        .find(|row| row.first() == Some(&name))
        .and_then(|row| row.get(2)?.parse().ok()))
}

fn parse(passwd: &str, group: &str, name: &str) -> Option<Account> {
    let row: Vec<&str> = passwd
        .lines()
        .map(|line| line.split(':').collect())
        .find(|row: &Vec<&str>| row.len() >= 7 && row.first() == Some(&name))?;
    let gid = row[3].parse().ok()?;
    let mut groups = vec![gid];
    for line in group.lines() {
        let row: Vec<&str> = line.split(':').collect();
        if let [_, _, id, members, ..] = row.as_slice()
            && members.split(',').any(|member| member == name)
            && let Ok(id) = id.parse()
            && !groups.contains(&id)
        {
            groups.push(id);
        }
    }
    let shell = if row[6].is_empty() { "/bin/sh" } else { row[6] };
    Some(Account {
        name: name.to_owned(),
        uid: row[2].parse().ok()?,
        gid,
        groups,
        home: row[5].into(),
        shell: shell.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\n\
        # a comment\nbroken:x\ncoracle:x:1000:1000::/home/coracle:\n";
    const GROUP: &str =
        "root:x:0:\nsudo:x:27:other,coracle\ncoracle:x:1000:coracle\ndocker:x:998:coracle2\n";

    #[test]
    fn supplementary_groups_are_found_and_not_doubled() {
        let account = parse(PASSWD, GROUP, "coracle").unwrap();
        assert_eq!(
            (account.uid, account.groups.as_slice()),
            (1000, &[1000, 27][..])
        );
        assert_eq!(account.shell, Path::new("/bin/sh"));
    }

    #[test]
    fn unknown_and_malformed_users_are_none() {
        assert_eq!(parse(PASSWD, GROUP, "nobody"), None);
        assert_eq!(parse(PASSWD, GROUP, "broken"), None);
        assert_eq!(parse(PASSWD, GROUP, ""), None);
    }
}
