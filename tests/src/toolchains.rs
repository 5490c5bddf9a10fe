//! Rust and Go of whoever runs the tests, for commands in a sandbox that compile.

use crate::{Coracle, Run};
use std::path::PathBuf;

/// What tells a toolchain where its registries and certificates are.
const REGISTRIES: [&str; 8] = [
    "CARGO_NET_GIT_FETCH_WITH_CLI",
    "GONOSUMDB",
    "GOPROXY",
    "GOSUMDB",
    "HTTPS_PROXY",
    "HTTP_PROXY",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
];

impl Coracle {
    /// Lets every later command use both toolchains. Only what they download is shared: not what they
    /// compile.
    pub fn use_toolchains(&mut self) {
        for (name, folder) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            let value = std::env::var_os(name).map_or_else(|| home().join(folder), PathBuf::from);
            self.set(name, value);
        }
        self.set("GOENV", go_env("GOENV"));
        if let Some(name) = std::env::var_os("RUSTUP_TOOLCHAIN") {
            self.set("RUSTUP_TOOLCHAIN", name);
        }
        self.use_registries();
    }

    /// Lets every later command reach the registries as whoever runs the tests does.
    pub fn use_registries(&mut self) {
        for name in REGISTRIES {
            if let Some(value) = std::env::var_os(name) {
                self.set(name, value);
            }
        }
    }
}

fn home() -> PathBuf {
    PathBuf::from(std::env::var_os("HOME").expect("a home folder"))
}

/// A setting of Go.
#[track_caller]
pub fn go_env(name: &str) -> String {
    let asked = Run::new("go").args(["env", name]).env("HOME", home());
    asked.ok().text().to_owned()
}

/// The folder of the Rust toolchain.
#[track_caller]
pub fn rust_sysroot() -> PathBuf {
    let asked = Run::new("rustc").args(["--print", "sysroot"]);
    PathBuf::from(asked.env("HOME", home()).ok().text())
}
