//! Processor architectures, by the names that each tool has for them.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The processor an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arch {
    /// x86-64.
    Amd64,
    /// 64-bit Arm.
    Arm64,
}

impl Arch {
    /// The architecture this program was compiled for, when images exist for it.
    pub fn host() -> Option<Self> {
        if cfg!(target_arch = "x86_64") {
            Some(Self::Amd64)
        } else if cfg!(target_arch = "aarch64") {
            Some(Self::Arm64)
        } else {
            None
        }
    }

    /// The name that Debian, Go, Docker and OCI all use.
    pub fn name(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Debian's folder of libraries, such as `x86_64-linux-gnu`.
    pub fn multiarch(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-linux-gnu",
            Self::Arm64 => "aarch64-linux-gnu",
        }
    }

    /// The C compiler for it on a host of another architecture, as Debian calls the program.
    pub fn cross_compiler(self) -> String {
        format!("{}-gcc", self.multiarch())
    }

    /// Debian's package of that compiler.
    pub fn cross_compiler_package(self) -> String {
        format!("gcc-{}", self.multiarch().replace('_', "-"))
    }

    /// Rust's target for the guest.
    pub fn rust_target(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64-unknown-linux-gnu",
            Self::Arm64 => "aarch64-unknown-linux-gnu",
        }
    }

    /// The dynamic loader of glibc, absolute.
    pub fn loader(self) -> &'static str {
        match self {
            Self::Amd64 => "/lib64/ld-linux-x86-64.so.2",
            Self::Arm64 => "/lib/ld-linux-aarch64.so.1",
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Operating system and processor of a host program, in Go's names (`linux`/`amd64`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPlatform {
    /// `linux`, `darwin` or `windows`.
    pub os: String,
    /// `amd64` or `arm64`.
    pub arch: String,
}

impl HostPlatform {
    /// The platform this program was compiled for.
    pub fn current() -> Self {
        let os = match std::env::consts::OS {
            "macos" => "darwin",
            other => other,
        };
        let arch = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self {
            os: os.into(),
            arch: arch.into(),
        }
    }

    /// The suffix of executables there.
    pub fn executable_suffix(&self) -> &'static str {
        if self.os == "windows" { ".exe" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_compilers_have_debians_names() {
        assert_eq!(Arch::Arm64.cross_compiler(), "aarch64-linux-gnu-gcc");
        let package = |arch: Arch| arch.cross_compiler_package();
        assert_eq!(package(Arch::Arm64), "gcc-aarch64-linux-gnu");
        assert_eq!(package(Arch::Amd64), "gcc-x86-64-linux-gnu");
    }
}
