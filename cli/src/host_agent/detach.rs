//! What makes a process one that nobody waits for.

use std::process::Command;

/// A session of its own: neither Ctrl-C nor the end of the terminal reaches it.
#[cfg(unix)]
pub fn leave_terminal() {
    // Fails only where it leads a group already, and then it has left.
    let _ = rustix::process::setsid();
}

#[cfg(not(unix))]
pub fn leave_terminal() {}

/// What is to be set before such a process is started. On Windows it gets a console of its own, without a
/// window, which its children share: neither Ctrl-C nor a window that is closed reaches it. Elsewhere
/// [`leave_terminal`] does that.
#[cfg(windows)]
pub fn start_apart(command: &mut Command) {
    use std::os::windows::process::CommandExt as _;
    /// CREATE_NO_WINDOW and CREATE_NEW_PROCESS_GROUP of CreateProcess.
    const FLAGS: u32 = 0x0800_0000 | 0x0000_0200;
    command.creation_flags(FLAGS);
}

#[cfg(not(windows))]
pub fn start_apart(_command: &mut Command) {}

/// Keeps the streams that this program was given from its children, but where they are handed on by name.
/// Windows passes on all that may be passed on, so whoever reads what `coracle start` prints would wait
/// for the end of the host agent.
#[cfg(windows)]
#[allow(unsafe_code, reason = "the standard library has no word for it")]
pub fn keep_streams() {
    use std::os::windows::io::AsRawHandle as _;
    use windows_sys::Win32::Foundation::{HANDLE_FLAG_INHERIT, SetHandleInformation};
    for stream in [
        std::io::stdin().as_raw_handle(),
        std::io::stdout().as_raw_handle(),
        std::io::stderr().as_raw_handle(),
    ] {
        // SAFETY: the handle is this process's own and stays open; only a flag of it is changed. Where a
        // stream is missing, or its flag cannot be changed, the call fails and that is all.
        unsafe { SetHandleInformation(stream, HANDLE_FLAG_INHERIT, 0) };
    }
}

#[cfg(not(windows))]
pub fn keep_streams() {}

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
