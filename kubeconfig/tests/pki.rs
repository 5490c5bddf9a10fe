//! The certificates are what TLS stacks and Kubernetes expect, and only their own authority
//! vouches for them.

// Helpers of tests may fail like tests, and no reader looks on while they write a file.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use coracle_kubeconfig::pki::{
    Authority, Credentials, LeafRequest, PkiError, ServiceAccountKey, Usage, certificates, expiry,
    lifetime,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use x509_parser::prelude::{FromDer as _, X509Certificate};

const DAY: Duration = Duration::from_secs(86_400);

fn server_request() -> LeafRequest {
    LeafRequest {
        common_name: "kube-apiserver".to_owned(),
        organization: None,
        dns_names: vec!["kubernetes.default.svc".to_owned()],
        addresses: vec![IpAddr::V4(Ipv4Addr::new(127, 88, 0, 1))],
        usage: Usage::Server,
        validity: DAY * 365,
    }
}

fn client_request() -> LeafRequest {
    LeafRequest {
        common_name: "coracle-admin".to_owned(),
        organization: Some("system:masters".to_owned()),
        dns_names: Vec::new(),
        addresses: Vec::new(),
        usage: Usage::Client,
        validity: DAY * 365,
    }
}

fn chain(credentials: &Credentials) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let pem = credentials.certificate_pem.as_bytes();
    let certificates = CertificateDer::pem_slice_iter(pem).map(|one| one.expect("a certificate"));
    let key = PrivateKeyDer::from_pem_slice(credentials.key_pem.as_bytes()).expect("a key");
    (certificates.collect(), key)
}

fn roots(authority: &Authority) -> Arc<RootCertStore> {
    let mut roots = RootCertStore::empty();
    let pem = authority.certificate_pem().as_bytes();
    let certificate = CertificateDer::from_pem_slice(pem).expect("a certificate");
    roots.add(certificate).expect("an authority");
    Arc::new(roots)
}

/// A handshake in memory: each side trusts one authority and shows one certificate.
fn handshake(
    server: (&Authority, &Credentials),
    client: (&Authority, &Credentials),
    name: &str,
) -> Result<(), rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(server.0), provider.clone())
        .build()
        .expect("a verifier");
    let (certificates, key) = chain(server.1);
    let server_config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?;
    let (certificates, key) = chain(client.1);
    let client_config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots(client.0))
        .with_client_auth_cert(certificates, key)?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let mut client = ClientConnection::new(Arc::new(client_config), name)?;
    let mut server = ServerConnection::new(Arc::new(server_config))?;
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).expect("memory");
        server.read_tls(&mut wire.as_slice()).expect("memory");
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).expect("memory");
        client.read_tls(&mut wire.as_slice()).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}

#[test]
fn both_sides_of_a_handshake_accept_each_other() {
    let cluster = Authority::generate("cluster", DAY * 3650).expect("an authority");
    let clients = Authority::generate("clients", DAY * 3650).expect("an authority");
    let server = cluster.issue(&server_request()).expect("a certificate");
    let client = clients.issue(&client_request()).expect("a certificate");
    for name in ["127.88.0.1", "kubernetes.default.svc"] {
        handshake((&clients, &server), (&cluster, &client), name).expect("a handshake");
    }
}

#[test]
fn a_handshake_fails_with_a_foreign_authority_name_or_usage() {
    let authority = Authority::generate("cluster", DAY * 3650).expect("an authority");
    // The same name, as the clusters of two clones have it, but another key.
    let sibling = Authority::generate("cluster", DAY * 3650).expect("an authority");
    let server = authority.issue(&server_request()).expect("a certificate");
    let client = authority.issue(&client_request()).expect("a certificate");
    let stranger = sibling.issue(&client_request()).expect("a certificate");
    let own = (&authority, &server);
    handshake(own, (&authority, &client), "127.88.0.1").expect("a handshake");
    handshake(own, (&authority, &stranger), "127.88.0.1").expect_err("a stranger's client");
    handshake(own, (&sibling, &client), "127.88.0.1").expect_err("a stranger's server");
    handshake(own, (&authority, &client), "127.88.0.2").expect_err("another address");
    handshake(own, (&authority, &server), "127.88.0.1").expect_err("a server as client");
    handshake((&authority, &client), (&authority, &client), "127.88.0.1")
        .expect_err("a client as server");
}

#[test]
fn an_authority_goes_on_from_its_pem() {
    let authority = Authority::generate("cluster", DAY * 3650).expect("an authority");
    let again = Authority::from_pem(authority.certificate_pem(), &authority.key_pem())
        .expect("the same authority");
    let server = again.issue(&server_request()).expect("a certificate");
    let client = authority.issue(&client_request()).expect("a certificate");
    handshake((&authority, &server), (&again, &client), "127.88.0.1").expect("a handshake");
}

#[test]
fn an_authority_is_refused_with_a_wrong_key_or_certificate() {
    let authority = Authority::generate("cluster", DAY).expect("an authority");
    let other = Authority::generate("cluster", DAY).expect("an authority");
    let leaf = authority.issue(&client_request()).expect("a certificate");
    let mismatch = Authority::from_pem(authority.certificate_pem(), &other.key_pem());
    assert!(matches!(mismatch, Err(PkiError::Mismatch)), "{mismatch:?}");
    let leaf = Authority::from_pem(&leaf.certificate_pem, &leaf.key_pem);
    assert!(matches!(leaf, Err(PkiError::NotAnAuthority)), "{leaf:?}");
    let nothing = Authority::from_pem("nothing", &other.key_pem());
    assert!(
        matches!(nothing, Err(PkiError::Certificate { .. })),
        "{nothing:?}"
    );
    let no_key = Authority::from_pem(authority.certificate_pem(), "nothing");
    assert!(matches!(no_key, Err(PkiError::Key(_))), "{no_key:?}");
}

#[test]
fn certificates_say_what_verifiers_ask_for() {
    let authority = Authority::generate("cluster", DAY * 10).expect("an authority");
    let issued = authority.issue(&client_request()).expect("a certificate");
    let root_der = CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes());
    let root_der = root_der.expect("a certificate");
    let (_, root) = X509Certificate::from_der(&root_der).expect("X.509");
    let constraints = root
        .basic_constraints()
        .expect("one")
        .expect("basic constraints");
    assert!(constraints.critical && constraints.value.ca);
    let usage = root.key_usage().expect("one").expect("key usage");
    assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());

    let leaf_der = chain(&issued).0.remove(0);
    let (_, leaf) = X509Certificate::from_der(&leaf_der).expect("X.509");
    assert_eq!(
        leaf.subject().to_string(),
        "O=system:masters, CN=coracle-admin"
    );
    assert_eq!(leaf.issuer(), root.subject());
    assert!(!leaf.is_ca());
    let usage = leaf.extended_key_usage().expect("one").expect("usage");
    assert!(usage.value.client_auth && !usage.value.server_auth);
    let identifiers = |certificate: &X509Certificate<'_>| {
        let (mut subject, mut issuer) = (None, None);
        for extension in certificate.extensions() {
            use x509_parser::extensions::ParsedExtension;
            match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(key) => subject = Some(key.0.to_vec()),
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    issuer = key.key_identifier.as_ref().map(|key| key.0.to_vec());
                }
                _ => {}
            }
        }
        (subject, issuer)
    };
    let (root_key, _) = identifiers(&root);
    let (leaf_key, leaf_issuer) = identifiers(&leaf);
    assert!(root_key.is_some() && leaf_key.is_some());
    assert_eq!(leaf_issuer, root_key);
    assert_ne!(leaf_key, root_key);

    // The serial is positive, random and of full length.
    let other = authority.issue(&client_request()).expect("a certificate");
    let other_der = chain(&other).0.remove(0);
    let (_, other) = X509Certificate::from_der(&other_der).expect("X.509");
    assert_eq!(leaf.raw_serial().len(), 16);
    assert_ne!(leaf.raw_serial(), other.raw_serial());
}

#[test]
fn a_certificate_lives_as_long_as_asked_but_not_longer_than_its_authority() {
    let now = time::OffsetDateTime::now_utc();
    let authority = Authority::generate("cluster", DAY * 10).expect("an authority");
    let mut request = client_request();
    request.validity = DAY * 5;
    let short = authority.issue(&request).expect("a certificate");
    let short = lifetime(&short.certificate_pem).expect("a lifetime");
    assert!((short.not_after - now - DAY * 5).abs() < time::Duration::MINUTE);
    assert!((now - short.not_before - Duration::from_secs(3600)).abs() < time::Duration::MINUTE);
    request.validity = DAY * 3650;
    let long = authority.issue(&request).expect("a certificate");
    let end = expiry(authority.certificate_pem()).expect("an expiry");
    assert_eq!(expiry(&long.certificate_pem).expect("an expiry"), end);
    request.validity = Duration::MAX;
    let endless = authority.issue(&request);
    assert!(
        matches!(endless, Err(PkiError::Validity { .. })),
        "{endless:?}"
    );
    request.validity = DAY;
    request.dns_names = vec!["not a name".to_owned()];
    let unnamed = authority.issue(&request);
    assert!(
        matches!(unnamed, Err(PkiError::DnsName { .. })),
        "{unnamed:?}"
    );
}

/// Runs openssl, where it is installed; gives whether it is.
fn openssl(arguments: &[&str]) -> bool {
    match Command::new("openssl").args(arguments).output() {
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "openssl {arguments:?}: {error}");
            true
        }
        Err(error) => {
            println!("not checked with openssl: {error}");
            false
        }
    }
}

#[test]
fn openssl_accepts_certificates_and_the_service_account_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        let mut file = std::fs::File::create(&path).expect("a file");
        file.write_all(text.as_bytes()).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let authority = Authority::generate("cluster", DAY * 10).expect("an authority");
    let server = authority.issue(&server_request()).expect("a certificate");
    let client = authority.issue(&client_request()).expect("a certificate");
    let root = write("ca.pem", authority.certificate_pem());
    let server = write("server.pem", &server.certificate_pem);
    let client = write("client.pem", &client.certificate_pem);
    let strict = ["verify", "-x509_strict", "-check_ss_sig", "-CAfile", &root];
    let with = |more: &[&str]| openssl(&[&strict, more].concat());
    if !with(&["-purpose", "sslserver", "-verify_ip", "127.88.0.1", &server]) {
        return;
    }
    with(&["-purpose", "sslclient", &client]);

    let key = ServiceAccountKey::generate().expect("a key");
    let private = write("sa.key", &key.private_pem);
    let public = write("sa.pub", &key.public_pem);
    let signature = folder.path().join("signature");
    let signature = signature.to_str().expect("UTF-8");
    openssl(&[
        "dgst", "-sha256", "-sign", &private, "-out", signature, &root,
    ]);
    openssl(&[
        "dgst",
        "-sha256",
        "-verify",
        &public,
        "-signature",
        signature,
        &root,
    ]);
    assert!(key.private_pem.starts_with("-----BEGIN PRIVATE KEY-----"));
    assert!(key.public_pem.starts_with("-----BEGIN PUBLIC KEY-----"));
    assert!(!format!("{key:?}").contains("PRIVATE"));
}

#[test]
fn certificates_are_found_in_pem_among_other_things_and_in_der() {
    let [one, two] = ["one", "two"].map(|name| Authority::generate(name, DAY).unwrap());
    let der = |authority: &Authority| {
        CertificateDer::from_pem_slice(authority.certificate_pem().as_bytes()).unwrap()
    };
    let text = format!(
        "# a remark\r\n{}{}{}",
        one.certificate_pem().replace('\n', "\r\n"),
        one.key_pem(),
        two.certificate_pem()
    );
    let found = certificates(text.as_bytes()).unwrap();
    let read = |pem: &String| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    assert_eq!(
        found.iter().map(read).collect::<Vec<_>>(),
        [der(&one), der(&two)]
    );
    assert!(found[0].ends_with("\n-----END CERTIFICATE-----\n"));
    assert!(found[0].lines().all(|line| line.len() <= 64));
    assert_eq!(certificates(&der(&one)).unwrap(), found[..1]);
    let damaged = one.certificate_pem().replacen("MI", "AA", 1);
    let short = &der(&one)[..100];
    for wrong in [
        b"".as_slice(),
        b"hello",
        one.key_pem().as_bytes(),
        damaged.as_bytes(),
        short,
    ] {
        let error = certificates(wrong).unwrap_err();
        assert!(matches!(error, PkiError::Certificate { .. }), "{error:?}");
    }
}
