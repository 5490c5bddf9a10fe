//! Environment variables as the shells write them.

use super::Access;

/// A shell whose way to set variables is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "lower")]
pub enum Shell {
    /// Bash.
    Bash,
    /// Z shell.
    Zsh,
    /// Any other POSIX shell.
    Sh,
    /// fish.
    Fish,
    /// Windows PowerShell and PowerShell.
    Powershell,
    /// The Windows command prompt.
    Cmd,
    /// tcsh and csh.
    Tcsh,
    /// No shell: `NAME=value` lines, for files of variables.
    None,
}

/// What Docker's clients read.
const VARIABLES: [&str; 3] = ["DOCKER_TLS_VERIFY", "DOCKER_HOST", "DOCKER_CERT_PATH"];

/// The shell of a user, from what the environment says of it: `SHELL`, or on Windows whether PowerShell's
/// own variable is there.
pub fn of_environment(shell: Option<&str>, powershell: bool) -> Shell {
    let name = shell.map(|path| path.rsplit(['/', '\\']).next().unwrap_or(path));
    match name.map(|name| name.trim_end_matches(".exe")) {
        Some("bash") => Shell::Bash,
        Some("zsh") => Shell::Zsh,
        Some("fish") => Shell::Fish,
        Some("tcsh" | "csh") => Shell::Tcsh,
        Some("pwsh" | "powershell") => Shell::Powershell,
        Some(_) => Shell::Sh,
        None if powershell => Shell::Powershell,
        None if cfg!(windows) => Shell::Cmd,
        None => Shell::Sh,
    }
}

impl Shell {
    /// Sets the variables; the last lines are a comment that says how to have it read by the shell.
    /// `command` is what printed them.
    pub fn set(self, access: &Access, command: &str) -> String {
        let certificates = access.certificates.to_string_lossy();
        let values = ["1", &access.host, &certificates];
        let lines = VARIABLES.iter().zip(values);
        let lines: String = lines
            .map(|(name, value)| self.assignment(name, value))
            .collect();
        lines + &self.hint("have your shell use this cluster's Docker", command)
    }

    /// Takes the variables away again.
    pub fn unset(self, command: &str) -> String {
        let lines = VARIABLES.map(|name| self.removal(name));
        lines.concat() + &self.hint("have your shell use its former Docker", command)
    }

    fn assignment(self, name: &str, value: &str) -> String {
        match self {
            Self::Bash | Self::Zsh | Self::Sh => format!("export {name}={}\n", posix(value)),
            // Inside of single quotes only these two have a meaning.
            Self::Fish => {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                format!("set -gx {name} '{value}';\n")
            }
            Self::Powershell => format!("$Env:{name} = '{}'\n", value.replace('\'', "''")),
            Self::Cmd => format!("SET {name}={value}\n"),
            Self::Tcsh => format!("setenv {name} {};\n", posix(value).replace('!', "\\!")),
            Self::None => format!("{name}={value}\n"),
        }
    }

    fn removal(self, name: &str) -> String {
        match self {
            Self::Bash | Self::Zsh | Self::Sh => format!("unset {name}\n"),
            Self::Fish => format!("set -e {name};\n"),
            Self::Powershell => format!("Remove-Item -ErrorAction Ignore Env:\\{name}\n"),
            Self::Cmd => format!("SET {name}=\n"),
            Self::Tcsh => format!("unsetenv {name};\n"),
            Self::None => format!("{name}=\n"),
        }
    }

    fn hint(self, what: &str, command: &str) -> String {
        let (mark, how) = match self {
            Self::Bash | Self::Zsh | Self::Sh => ("#", format!("eval \"$({command})\"")),
            Self::Fish => ("#", format!("{command} | source")),
            Self::Powershell => ("#", format!("& {command} | Invoke-Expression")),
            Self::Cmd => (
                "REM",
                format!("@FOR /f \"tokens=*\" %i IN ('{command}') DO @%i"),
            ),
            Self::Tcsh => (":", format!("eval `{command}`")),
            Self::None => return String::new(),
        };
        match self {
            // It knows no comments where it evaluates; a colon takes words and does nothing.
            Self::Tcsh => format!("{mark} 'To {what}: {}'\n", how.replace('\'', "")),
            _ => format!("{mark} To {what}:\n{mark} {how}\n"),
        }
    }
}

/// A word of a POSIX shell that is this text, whatever is in it.
fn posix(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access {
            host: "tcp://127.88.0.1:2376".into(),
            certificates: "/home/o'neil/100% $x/docker".into(),
        }
    }

    #[test]
    fn each_shell_has_its_own_way() {
        let third = |shell: Shell| {
            let text = shell.set(&access(), "coracle docker-env");
            text.lines().nth(2).unwrap().to_owned()
        };
        let posix = r"export DOCKER_CERT_PATH='/home/o'\''neil/100% $x/docker'";
        for shell in [Shell::Bash, Shell::Zsh, Shell::Sh] {
            assert_eq!(third(shell), posix);
        }
        assert_eq!(
            third(Shell::Fish),
            r"set -gx DOCKER_CERT_PATH '/home/o\'neil/100% $x/docker';"
        );
        assert_eq!(
            third(Shell::Powershell),
            "$Env:DOCKER_CERT_PATH = '/home/o''neil/100% $x/docker'"
        );
        assert_eq!(
            third(Shell::Cmd),
            "SET DOCKER_CERT_PATH=/home/o'neil/100% $x/docker"
        );
        assert_eq!(
            third(Shell::Tcsh),
            r"setenv DOCKER_CERT_PATH '/home/o'\''neil/100% $x/docker';"
        );
        assert_eq!(
            third(Shell::None),
            "DOCKER_CERT_PATH=/home/o'neil/100% $x/docker"
        );
    }

    #[test]
    fn the_hint_names_the_command_and_is_no_command() {
        for shell in [
            Shell::Bash,
            Shell::Fish,
            Shell::Powershell,
            Shell::Cmd,
            Shell::Tcsh,
        ] {
            for text in [
                shell.set(&access(), "coracle docker-env"),
                shell.unset("coracle docker-env"),
            ] {
                let hint: Vec<&str> = text.lines().skip(3).collect();
                assert!(
                    hint.last().unwrap().contains("coracle docker-env"),
                    "{text}"
                );
                for line in hint {
                    assert!(
                        line.starts_with(['#', ':']) || line.starts_with("REM"),
                        "{text}"
                    );
                }
            }
        }
        assert_eq!(Shell::None.unset("x").lines().count(), 3);
    }

    #[test]
    fn the_shell_is_the_users() {
        for (path, shell) in [
            ("/bin/bash", Shell::Bash),
            ("/usr/bin/zsh", Shell::Zsh),
            ("/usr/bin/fish", Shell::Fish),
            ("/bin/dash", Shell::Sh),
            ("/bin/csh", Shell::Tcsh),
            (r"C:\Git\bash.exe", Shell::Bash),
        ] {
            assert_eq!(of_environment(Some(path), true), shell, "{path}");
        }
        assert_eq!(of_environment(None, true), Shell::Powershell);
    }
}
