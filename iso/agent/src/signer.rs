//! The API server's external signer of service account tokens (KEP-740), on a unix socket.
//!
//! The API server cannot take another signing key while it runs; this can. After [`Signer::replace`]
//! tokens are signed with the new key at once, and the former key is believed until
//! [`Signer::forget_former`]: pods that ran before still carry its tokens, until the kubelet has
//! fetched new ones for them. Tokens are ES256 (RFC 7518, section 3.4).

pub use coracle_protocol::signer::external_jwt_signer_server::ExternalJwtSignerServer;

use crate::place;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use coracle_protocol::signer::external_jwt_signer_server::ExternalJwtSigner;
use coracle_protocol::signer::{
    FetchKeysRequest, FetchKeysResponse, Key, MetadataRequest, MetadataResponse, SignJwtRequest,
    SignJwtResponse, Timestamp,
};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer};
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

/// How often the API server asks for the keys even when it knows them all: soon after this the
/// former key is forgotten there too.
const REFRESH_SECONDS: i64 = 60;
/// The longest life of a token: the API server's own limit (2^32 seconds).
const LONGEST_LIFE_SECONDS: i64 = 1 << 32;

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the service account key cannot be used: {0}")]
pub struct SignerError(String);

/// The signer. Clones share the keys.
#[derive(Debug, Clone)]
pub struct Signer(Arc<RwLock<Keys>>);

struct Keys {
    own: SigningKey,
    /// What tokens were signed with before, the last one last.
    former: Vec<PublicKey>,
    since: SystemTime,
}

struct SigningKey {
    pair: EcdsaKeyPair,
    public: PublicKey,
}

#[derive(Clone, PartialEq, Eq)]
struct PublicKey {
    /// As Kubernetes names keys: the hash of the key, in base64url. Tokens that the controller
    /// manager signs with the same key carry the same name.
    id: String,
    /// SubjectPublicKeyInfo, DER.
    der: Vec<u8>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Keys")
            .field("own", &self.own.public.id)
            .finish_non_exhaustive()
    }
}

impl SigningKey {
    fn from_pem(private: &str, public: &str) -> Result<Self, SignerError> {
        fn wrong<E: std::fmt::Display>(error: E) -> SignerError {
            SignerError(error.to_string())
        }
        let der = PrivatePkcs8KeyDer::from_pem_slice(private.as_bytes()).map_err(wrong)?;
        let pair = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            der.secret_pkcs8_der(),
            &SystemRandom::new(),
        )
        .map_err(wrong)?;
        let der = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes()).map_err(wrong)?;
        let public = PublicKey {
            id: URL_SAFE_NO_PAD.encode(digest(&SHA256, &der)),
            der: der.to_vec(),
        };
        Ok(Self { pair, public })
    }

    /// Header and signature of a token with these claims.
    fn sign(&self, claims: &str) -> Result<SignJwtResponse, Status> {
        let header = serde_json::json!({"alg": "ES256", "kid": self.public.id, "typ": "JWT"});
        let header = URL_SAFE_NO_PAD.encode(header.to_string());
        let signed = format!("{header}.{claims}");
        let signature = self
            .pair
            .sign(&SystemRandom::new(), signed.as_bytes())
            .map_err(|_| Status::internal("the system's random generator failed"))?;
        let signature = URL_SAFE_NO_PAD.encode(signature);
        Ok(SignJwtResponse { header, signature })
    }
}

impl Signer {
    /// From PEM texts: PKCS#8 and SubjectPublicKeyInfo of a P-256 key.
    pub fn new(private: &str, public: &str) -> Result<Self, SignerError> {
        Ok(Self(Arc::new(RwLock::new(Keys {
            own: SigningKey::from_pem(private, public)?,
            former: Vec::new(),
            since: SystemTime::now(),
        }))))
    }

    /// Signs with another key from now on, and gives the name of the one before, whose tokens are
    /// believed until it is [forgotten](Self::forget). None when it is the one in use.
    pub fn replace(&self, private: &str, public: &str) -> Result<Option<String>, SignerError> {
        let own = SigningKey::from_pem(private, public)?;
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.own.public == own.public {
            return Ok(None);
        }
        let former = std::mem::replace(&mut keys.own, own);
        let id = former.public.id.clone();
        keys.former.push(former.public);
        keys.since = SystemTime::now();
        Ok(Some(id))
    }

    /// Stops believing tokens of a former key.
    pub fn forget(&self, id: &str) {
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        keys.former.retain(|key| key.id != id);
        keys.since = SystemTime::now();
    }

    fn keys(&self) -> RwLockReadGuard<'_, Keys> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens on a socket that only root can use, and serves for as long as the process lives.
    pub fn serve(self, socket: &Path) -> io::Result<()> {
        let incoming = UnixListenerStream::new(place::socket(socket, 0o700)?);
        tokio::spawn(async move {
            let signer = ExternalJwtSignerServer::new(self);
            // It ends with the listener, and that is never dropped.
            let _ = Server::builder()
                .serve_with_incoming(signer, incoming)
                .await;
        });
        Ok(())
    }
}

#[tonic::async_trait]
impl ExternalJwtSigner for Signer {
    async fn sign(
        &self,
        request: Request<SignJwtRequest>,
    ) -> Result<Response<SignJwtResponse>, Status> {
        let claims = request.into_inner().claims;
        self.keys().own.sign(&claims).map(Response::new)
    }

    async fn fetch_keys(
        &self,
        _: Request<FetchKeysRequest>,
    ) -> Result<Response<FetchKeysResponse>, Status> {
        let keys = self.keys();
        let key = |public: &PublicKey, former| Key {
            key_id: public.id.clone(),
            key: public.der.clone(),
            exclude_from_oidc_discovery: former,
        };
        let own = std::iter::once(key(&keys.own.public, false));
        let former = keys.former.iter().map(|former| key(former, true));
        Ok(Response::new(FetchKeysResponse {
            keys: own.chain(former).collect(),
            data_timestamp: Some(timestamp(keys.since)),
            refresh_hint_seconds: REFRESH_SECONDS,
        }))
    }

    async fn metadata(
        &self,
        _: Request<MetadataRequest>,
    ) -> Result<Response<MetadataResponse>, Status> {
        Ok(Response::new(MetadataResponse {
            max_token_expiration_seconds: LONGEST_LIFE_SECONDS,
        }))
    }
}

fn timestamp(time: SystemTime) -> Timestamp {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: since.subsec_nanos().cast_signed(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    fn pair() -> (String, String) {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    }

    async fn keys(signer: &Signer) -> Vec<(String, bool)> {
        let answer = signer.fetch_keys(Request::new(FetchKeysRequest {})).await;
        let keys = answer.unwrap().into_inner().keys.into_iter();
        keys.map(|key| (key.key_id, key.exclude_from_oidc_discovery))
            .collect()
    }

    #[tokio::test]
    async fn tokens_are_signed_with_the_key_of_the_moment() {
        let (first, second) = (pair(), pair());
        let signer = Signer::new(&first.0, &first.1).unwrap();
        let before = keys(&signer).await;
        assert_eq!(signer.replace(&first.0, &first.1).unwrap(), None);
        let former = signer.replace(&second.0, &second.1).unwrap().unwrap();
        assert_eq!(former, before[0].0);
        let request = Request::new(SignJwtRequest {
            claims: "e30".into(),
        });
        let token = signer.sign(request).await.unwrap().into_inner();
        let signed = format!("{}.e30", token.header);
        let verified = |pem: &str| {
            let key = KeyPair::from_pem(pem).unwrap();
            let key = UnparsedPublicKey::new(
                &ECDSA_P256_SHA256_FIXED,
                rcgen::PublicKeyData::der_bytes(&key).to_vec(),
            );
            let signature = URL_SAFE_NO_PAD.decode(&token.signature).unwrap();
            key.verify(signed.as_bytes(), &signature).is_ok()
        };
        assert!(verified(&second.0) && !verified(&first.0));
        let header = URL_SAFE_NO_PAD.decode(&token.header).unwrap();
        let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
        let after = keys(&signer).await;
        assert_eq!(header["kid"], after[0].0.as_str());
        assert_eq!(after[1], (before[0].0.clone(), true));
        // A copy of a copy: each former key is believed for its own time.
        let third = pair();
        let middle = signer.replace(&third.0, &third.1).unwrap().unwrap();
        signer.forget(&former);
        let names: Vec<String> = keys(&signer).await.into_iter().map(|key| key.0).collect();
        assert_eq!(names[1..], [middle]);
    }
}
