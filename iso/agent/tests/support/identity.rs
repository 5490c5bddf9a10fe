//! Authorities and certificates for tests and for working by hand.

#![allow(unreachable_pub)]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};

/// An authority and what it signs with.
pub struct Authority {
    /// Its certificate.
    pub pem: String,
    /// Its key.
    #[allow(dead_code)]
    pub key: String,
    issuer: Issuer<'static, KeyPair>,
}

/// Makes an authority.
pub fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok(Authority {
        pem,
        key: key.serialize_pem(),
        issuer: Issuer::new(params, key),
    })
}

impl Authority {
    /// A certificate and its key. `names` are host names and addresses.
    pub fn issue(
        &self,
        name: &str,
        group: &str,
        names: &[&str],
    ) -> Result<(String, String), rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        if !group.is_empty() {
            params
                .distinguished_name
                .push(DnType::OrganizationName, group);
        }
        for name in names {
            params.subject_alt_names.push(match name.parse() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        let key = KeyPair::generate()?;
        Ok((
            params.signed_by(&key, &self.issuer)?.pem(),
            key.serialize_pem(),
        ))
    }
}
