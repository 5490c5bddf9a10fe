//! The key pair that signs and verifies service account tokens.

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};

use super::PkiError;

/// An ECDSA P-256 key pair in the two forms that Kubernetes reads.
#[derive(Clone)]
pub struct ServiceAccountKey {
    /// The private key, PKCS#8 in PEM (`PRIVATE KEY`).
    pub private_pem: String,
    /// The public key, SubjectPublicKeyInfo in PEM (`PUBLIC KEY`).
    pub public_pem: String,
}

impl ServiceAccountKey {
    /// Makes a new key pair.
    ///
    /// # Errors
    /// [`PkiError::Issue`] when the key cannot be made.
    pub fn generate() -> Result<Self, PkiError> {
        let pair =
            KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Issue {
                common_name: "service account key".to_owned(),
                source,
            })?;
        Ok(Self {
            private_pem: pair.serialize_pem(),
            public_pem: pair.public_key_pem(),
        })
    }
}

impl std::fmt::Debug for ServiceAccountKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ServiceAccountKey")
            .field("public_pem", &self.public_pem)
            .finish_non_exhaustive()
    }
}
