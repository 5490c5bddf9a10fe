//! A unit of systemd's user manager (systemd.service(5)).

use super::Job;

/// The unit's file.
pub fn unit(job: &Job) -> String {
    let environment: String = job
        .environment
        .iter()
        .map(|(name, value)| format!("Environment={}\n", quoted(&format!("{name}={value}"))))
        .collect();
    let (start, stop) = (line(&job.start()), line(&job.stop()));
    format!(
        "[Unit]\n\
         Description=The Kubernetes cluster {profile}, by Coracle\n\
         \n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         {environment}\
         ExecStart={start}\n\
         ExecStop={stop}\n\
         TimeoutStartSec=600\n\
         TimeoutStopSec=180\n\
         \n\
         [Install]\n\
         WantedBy=default.target\n",
        profile = job.profile,
    )
}

/// A command line; in its arguments, and not in the program's path, variables are filled in too.
fn line(words: &[String]) -> String {
    let quoted = words.iter().enumerate().map(|(index, word)| match index {
        0 => quoted(word),
        _ => quoted(&word.replace('$', "$$")),
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// A word as systemd.syntax(7) has it, with specifiers taken for what they are.
fn quoted(word: &str) -> String {
    let escaped = word
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('%', "%%")
        .replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_say() {
        let job = Job {
            profile: "dev".into(),
            program: "/home/me/my \"tools\"/100%/$x/coracle".into(),
            environment: vec![("CORACLE_HOME", "/data/50% full".into())],
        };
        let unit = unit(&job);
        let program = r#""/home/me/my \"tools\"/100%%/$x/coracle""#;
        let start = format!(
            "ExecStart={program} \"start\" \"--keep-context\" \"--unattended\" \"--quiet\" \"-p\" \"dev\""
        );
        assert!(unit.lines().any(|line| line == start), "{unit}");
        let environment = r#"Environment="CORACLE_HOME=/data/50%% full""#;
        assert!(unit.lines().any(|line| line == environment), "{unit}");
    }
}
