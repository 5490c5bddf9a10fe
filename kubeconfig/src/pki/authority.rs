//! A certificate authority, and the server and client certificates that it issues.

use std::net::IpAddr;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType, SerialNumber,
};
use ring::rand::{SecureRandom, SystemRandom};
use time::OffsetDateTime;
use x509_parser::pem::parse_x509_pem;

use super::{PkiError, expiry, unreadable};

/// How far back a certificate's validity starts, so that a guest whose clock is behind the host's
/// accepts it.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// A certificate and its private key, both in PEM.
#[derive(Clone)]
pub struct Credentials {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// Which side of a TLS connection a certificate may be shown by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// The server's side.
    Server,
    /// The client's side.
    Client,
    /// Either side.
    Both,
}

/// A certificate that is wanted from an authority.
#[derive(Debug, Clone)]
pub struct LeafRequest {
    /// The subject's common name; for a client of Kubernetes the user's name.
    pub common_name: String,
    /// The subject's organization; for a client of Kubernetes the user's group. At most one,
    /// because rcgen writes no attribute of a subject twice.
    pub organization: Option<String>,
    /// DNS names that a server certificate is good for.
    pub dns_names: Vec<String>,
    /// IP addresses that a server certificate is good for.
    pub addresses: Vec<IpAddr>,
    /// What it may be used for.
    pub usage: Usage,
    /// How long it lives from now on; never longer than the authority itself.
    pub validity: Duration,
}

/// A certificate authority with its private key.
pub struct Authority {
    certificate_pem: String,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new self-signed authority. `common_name` is its subject, `validity` how long it
    /// lives from now on.
    ///
    /// # Errors
    /// [`PkiError`] when `validity` is out of range or the key cannot be made.
    pub fn generate(common_name: &str, validity: Duration) -> Result<Self, PkiError> {
        let mut parameters = parameters(common_name, None, validity)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let key = new_key(common_name)?;
        let not_after = parameters.not_after;
        let certificate = parameters
            .self_signed(&key)
            .map_err(|source| issue_error(common_name, source))?;
        Ok(Self {
            certificate_pem: certificate.pem(),
            not_after,
            issuer: Issuer::new(parameters, key),
        })
    }

    /// Takes up an authority that was made before, from its certificate and private key in PEM.
    ///
    /// # Errors
    /// [`PkiError`] when one of them cannot be read, when they do not belong together, or when the
    /// certificate is not one of an authority.
    pub fn from_pem(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem).map_err(PkiError::Key)?;
        let (_, pem) = parse_x509_pem(certificate_pem.as_bytes()).map_err(unreadable)?;
        let certificate = pem.parse_x509().map_err(unreadable)?;
        if !certificate.is_ca() {
            return Err(PkiError::NotAnAuthority);
        }
        if certificate.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(PkiError::Mismatch);
        }
        let issuer =
            Issuer::from_ca_cert_pem(certificate_pem, key).map_err(|error| unreadable(&error))?;
        Ok(Self {
            certificate_pem: certificate_pem.to_owned(),
            not_after: expiry(certificate_pem)?,
            issuer,
        })
    }

    /// The authority's certificate in PEM.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The authority's private key, PKCS#8 in PEM.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// Issues a certificate for a new key.
    ///
    /// # Errors
    /// [`PkiError`] when a name or the validity cannot be expressed, or the key cannot be made.
    pub fn issue(&self, request: &LeafRequest) -> Result<Credentials, PkiError> {
        let mut parameters = parameters(
            &request.common_name,
            request.organization.as_deref(),
            request.validity,
        )?;
        parameters.not_after = parameters.not_after.min(self.not_after);
        parameters.is_ca = IsCa::ExplicitNoCa;
        parameters.use_authority_key_identifier_extension = true;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = match request.usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        };
        for name in &request.dns_names {
            let invalid = || PkiError::DnsName { name: name.clone() };
            if name.is_empty() || name.contains(char::is_whitespace) {
                return Err(invalid());
            }
            let value = name.as_str().try_into().map_err(|_| invalid())?;
            parameters.subject_alt_names.push(SanType::DnsName(value));
        }
        let addresses = request.addresses.iter().copied().map(SanType::IpAddress);
        parameters.subject_alt_names.extend(addresses);
        let key = new_key(&request.common_name)?;
        let certificate = parameters
            .signed_by(&key, &self.issuer)
            .map_err(|source| issue_error(&request.common_name, source))?;
        Ok(Credentials {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// What all certificates have in common: subject, serial number, time.
fn parameters(
    common_name: &str,
    organization: Option<&str>,
    validity: Duration,
) -> Result<CertificateParams, PkiError> {
    let out_of_range = || PkiError::Validity {
        days: validity.as_secs() / 86_400,
    };
    let now = OffsetDateTime::now_utc();
    let now = now.replace_nanosecond(0).unwrap_or(now);
    let mut parameters = CertificateParams::default();
    parameters.not_before = now - CLOCK_TOLERANCE;
    parameters.not_after = time::Duration::try_from(validity)
        .ok()
        .and_then(|validity| now.checked_add(validity))
        .ok_or_else(out_of_range)?;
    parameters.serial_number = Some(serial_number()?);
    let mut subject = DistinguishedName::new();
    if let Some(organization) = organization {
        subject.push(DnType::OrganizationName, organization);
    }
    subject.push(DnType::CommonName, common_name);
    parameters.distinguished_name = subject;
    Ok(parameters)
}

/// A positive random number of 127 bits, as RFC 5280 section 4.1.2.2 allows.
fn serial_number() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0_u8; 16];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| PkiError::Random)?;
    // A leading byte between 0x40 and 0x7f: neither negative nor padded with zeros.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

/// A new ECDSA P-256 key; `common_name` says whose, for the error.
fn new_key(common_name: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
        .map_err(|source| issue_error(common_name, source))
}

fn issue_error(common_name: &str, source: rcgen::Error) -> PkiError {
    PkiError::Issue {
        common_name: common_name.to_owned(),
        source,
    }
}
