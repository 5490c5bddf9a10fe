//! An agent of launchd (launchd.plist(5)).

use super::Job;

/// The agent's file.
pub fn agent(label: &str, job: &Job) -> String {
    let words: String = job
        .start()
        .iter()
        .map(|word| format!("    <string>{}</string>\n", escaped(word)))
        .collect();
    let environment: String = job
        .environment
        .iter()
        .map(|(name, value)| format!("    <key>{name}</key><string>{}</string>\n", escaped(value)))
        .collect();
    let label = escaped(label);
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
         <!DOCTYPE plist PUBLIC \"-//Apple//DTD PLIST 1.0//EN\" \"http://www.apple.com/DTDs/PropertyList-1.0.dtd\">\n\
         <plist version=\"1.0\">\n\
         <dict>\n\
         \x20 <key>Label</key><string>{label}</string>\n\
         \x20 <key>ProgramArguments</key>\n\
         \x20 <array>\n{words}\x20 </array>\n\
         \x20 <key>EnvironmentVariables</key>\n\
         \x20 <dict>\n{environment}\x20 </dict>\n\
         \x20 <key>RunAtLoad</key><true/>\n\
         \x20 <key>AbandonProcessGroup</key><true/>\n\
         </dict>\n\
         </plist>\n"
    )
}

/// Text as XML has it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_mean_what_they_say() {
        let job = Job {
            profile: "dev".into(),
            program: "/Applications/R&D <x>/coracle".into(),
            environment: vec![("PATH", "/opt/homebrew/bin:/usr/bin".into())],
        };
        let agent = agent("coracle.dev", &job);
        for line in [
            "  <key>Label</key><string>coracle.dev</string>",
            "    <string>/Applications/R&amp;D &lt;x&gt;/coracle</string>",
            "    <string>--keep-context</string>",
            "    <string>--unattended</string>",
            "    <key>PATH</key><string>/opt/homebrew/bin:/usr/bin</string>",
        ] {
            assert!(agent.lines().any(|one| one == line), "{line} in {agent}");
        }
    }
}
