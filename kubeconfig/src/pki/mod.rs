//! Certificates and keys of a cluster: authorities, the certificates that they issue, and the
//! service account key. ECDSA P-256 throughout, made with rcgen and ring; nothing touches a disk.

mod authority;
mod service_account;

pub use authority::{Authority, Credentials, LeafRequest, Usage};
pub use service_account::ServiceAccountKey;

use base64::Engine as _;
use time::OffsetDateTime;
use x509_parser::parse_x509_certificate;
use x509_parser::pem::{Pem, parse_x509_pem};

/// How a certificate in DER begins: a sequence with a length of two bytes.
const DER_SEQUENCE: &[u8] = &[0x30, 0x82];
/// Characters in a line of PEM (RFC 7468).
const PEM_LINE: usize = 64;

/// What went wrong while a certificate or a key was made or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The system's random generator gave nothing.
    #[error("the system's random generator failed")]
    Random,
    /// A requested DNS name cannot stand in a certificate.
    #[error("{name:?} cannot be a DNS name of a certificate")]
    DnsName {
        /// The name as it was asked for.
        name: String,
    },
    /// The requested lifetime ends beyond the calendar that a certificate can express.
    #[error("a certificate cannot live for {days} days")]
    Validity {
        /// The lifetime that was asked for, in whole days.
        days: u64,
    },
    /// A key or a certificate could not be made.
    #[error("the certificate for {common_name:?} could not be made")]
    Issue {
        /// The subject's common name.
        common_name: String,
        /// What rcgen says.
        #[source]
        source: rcgen::Error,
    },
    /// PEM text is not a private key that can sign here.
    #[error("not a private key in PEM form")]
    Key(#[source] rcgen::Error),
    /// PEM text is not an X.509 certificate.
    #[error("not a certificate in PEM form: {reason}")]
    Certificate {
        /// What the parser says.
        reason: String,
    },
    /// The certificate of an authority belongs to another key than the one given.
    #[error("the certificate of the authority and its private key do not belong together")]
    Mismatch,
    /// The certificate given for an authority may not sign certificates.
    #[error("the certificate is not one of a certificate authority")]
    NotAnAuthority,
}

/// The time that a certificate is valid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetime {
    /// The first moment at which it is valid.
    pub not_before: OffsetDateTime,
    /// The last moment at which it is valid.
    pub not_after: OffsetDateTime,
}

/// Reads when the first certificate in `certificate_pem` is valid.
///
/// # Errors
/// [`PkiError::Certificate`] when the text holds no certificate.
pub fn lifetime(certificate_pem: &str) -> Result<Lifetime, PkiError> {
    let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(unreadable)?;
    let certificate = pem.parse_x509().map_err(unreadable)?;
    Ok(Lifetime {
        not_before: certificate.validity().not_before.to_datetime(),
        not_after: certificate.validity().not_after.to_datetime(),
    })
}

/// Reads when the first certificate in `certificate_pem` expires.
///
/// # Errors
/// [`PkiError::Certificate`] when the text holds no certificate.
pub fn expiry(certificate_pem: &str) -> Result<OffsetDateTime, PkiError> {
    Ok(lifetime(certificate_pem)?.not_after)
}

/// The certificates in the bytes of a file, which is PEM with anything else around them, or one in DER.
/// Each comes as PEM of its own, without what stood around it, and ends with a newline.
///
/// # Errors
/// [`PkiError::Certificate`] when there is none, or one cannot be read.
pub fn certificates(bytes: &[u8]) -> Result<Vec<String>, PkiError> {
    let mut found = Vec::new();
    for block in Pem::iter_from_buffer(bytes) {
        let block = block.map_err(unreadable)?;
        // OpenSSL's name for one with remarks on trust is left out: others do not read it.
        if block.label == "CERTIFICATE" {
            found.push(certificate_pem(&block.contents)?);
        }
    }
    match found.is_empty() {
        false => Ok(found),
        true if bytes.starts_with(DER_SEQUENCE) => Ok(vec![certificate_pem(bytes)?]),
        true => Err(unreadable(
            "it holds no block that begins with BEGIN CERTIFICATE",
        )),
    }
}

fn certificate_pem(der: &[u8]) -> Result<String, PkiError> {
    let (rest, _) = parse_x509_certificate(der).map_err(unreadable)?;
    if !rest.is_empty() {
        return Err(unreadable("there is something behind the certificate"));
    }
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(PEM_LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    Ok(pem)
}

/// Wraps an error of the X.509 parser.
fn unreadable(error: impl std::fmt::Display) -> PkiError {
    PkiError::Certificate {
        reason: error.to_string(),
    }
}
