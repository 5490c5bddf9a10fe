//! Authorities of the user's own: the certificates in a folder.

use crate::error::{Context as _, Error, ErrorId, Result};
use coracle_kubeconfig::pki;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// All of them together, as PEM: upstream's list is a tenth of it.
const MOST_BYTES: usize = 2 << 20;

/// The certificates of every `*.crt` and `*.pem` file in a folder, as PEM, in the order of the files'
/// names; none without the folder. Keys that stand beside them stay on the host.
///
/// # Errors
/// A file holds no certificate, or cannot be read: it is named.
pub fn authorities(folder: &Path) -> Result<Vec<String>> {
    let mut all: Vec<String> = Vec::new();
    for file in files(folder)? {
        let bytes = fs::read(&file).context(ErrorId::CertificateInvalid, || {
            format!("cannot read {}", file.display())
        })?;
        let found = pki::certificates(&bytes).context(ErrorId::CertificateInvalid, || {
            format!("{} is no certificate", file.display())
        })?;
        for certificate in found {
            if !all.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    if all.iter().map(String::len).sum::<usize>() > MOST_BYTES {
        let message = format!(
            "the certificates in {} are more than {} MiB",
            folder.display(),
            MOST_BYTES >> 20
        );
        return Err(Error::new(ErrorId::CertificateInvalid, message));
    }
    Ok(all)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", folder.display());
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(ErrorId::Write, failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context(ErrorId::Write, failed)?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        let named = path
            .extension()
            .is_some_and(|one| one.eq_ignore_ascii_case("crt") || one.eq_ignore_ascii_case("pem"));
        if named && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_kubeconfig::pki::Authority;
    use coracle_vm::store::atomic;
    use std::time::Duration;

    fn authority(name: &str) -> Authority {
        Authority::generate(name, Duration::from_secs(3600)).unwrap()
    }

    #[test]
    fn certificates_of_the_folder_are_taken_in_order_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            atomic::write(&folder.path().join(name), text.as_bytes()).unwrap();
        };
        let (one, two) = (authority("one"), authority("two"));
        let first = one.certificate_pem().to_owned();
        let both = format!(
            "a remark\n{}{}{}",
            two.key_pem(),
            two.certificate_pem(),
            one.certificate_pem()
        );
        put("b.CRT", &first);
        put("c.pem", &both);
        put("notes.txt", "no certificate");
        put(".hidden.pem", "nor this");
        fs::create_dir(folder.path().join("more")).unwrap();
        let found = authorities(folder.path()).unwrap();
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(
            pki::expiry(&found[0]).unwrap(),
            pki::expiry(one.certificate_pem()).unwrap()
        );
        assert!(found.iter().all(|one| one.ends_with("-----\n")));
        assert!(found.iter().all(|one| !one.contains("KEY")));
    }

    #[test]
    fn no_folder_is_no_certificate_and_no_error() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            authorities(&folder.path().join("certs"))
                .unwrap()
                .is_empty()
        );
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "hello", &authority("one").key_pem()] {
            atomic::write(&folder.path().join("proxy.crt"), text.as_bytes()).unwrap();
            let error = authorities(folder.path()).unwrap_err();
            assert_eq!(error.exit_code(), 18);
            assert!(error.message().contains("proxy.crt"), "{}", error.message());
        }
    }
}
