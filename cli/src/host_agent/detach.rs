//! What makes a process one that nobody waits for.

/// A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
#[cfg(unix)]
pub fn leave_terminal() {
    // Fails only where it leads a group already, and then it has left.
    let _ = rustix::process::setsid();
}

#[cfg(not(unix))]
pub fn leave_terminal() {}

/// As many connections as the system lets a user have: each takes a file here and one in the hypervisor,
/// which inherits the limit.
#[cfg(unix)]
pub fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // macOS may refuse: then there are as many as before.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(not(unix))]
pub fn raise_file_limit() {}
