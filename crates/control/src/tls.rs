//! TLS for users: the cluster's authority for it, and the certificate of this controller's API.
//!
//! Nodes trust each other by Ed25519 keys and Noise. Browsers know neither, so the authority has a second key for users, ECDSA on
//! P-256, which is made when it is needed first. Its certificate is what clients trust: `wayfare` finds it in the access file, and
//! a browser can be given `controller/ca.pem`.

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use wayfare_store::atomic;

/// How long the authority's certificate holds, and an API's: that one is made anew at each start.
const TERMS: (Duration, Duration) = (Duration::from_secs(20 * 365 * 86_400), Duration::from_secs(397 * 86_400));
/// Clocks differ.
const BEFORE: Duration = Duration::from_secs(86_400);

/// What is spoken with, and how others know it.
pub(crate) struct Tls {
    pub(crate) config: Arc<ServerConfig>,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
}

impl Tls {
    /// As a controller of this directory and cluster has it, reached at an address.
    ///
    /// # Errors
    /// When the authority's files cannot be used.
    pub(crate) fn open(dir: &Path, cluster: &str, address: IpAddr) -> Result<Tls> {
        let issuer = authority(dir, cluster)?;
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let mut names = vec!["localhost".to_string(), "127.0.0.1".into(), "::1".into()];
        if !address.is_unspecified() {
            names.push(address.to_string());
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        names.extend(Some(host.trim().to_string()).filter(|host| !host.is_empty() && host.chars().all(is_name)));
        names.sort();
        names.dedup();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, "Wayfare controller");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let now = SystemTime::now();
        (params.not_before, params.not_after) = ((now - BEFORE).into(), (now + TERMS.1).into());
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &issuer)?;
        let chain = vec![CertificateDer::from(certificate.der().to_vec()), CertificateDer::from(issuer.der().to_vec())];
        let secret = PrivateKeyDer::try_from(key.serialize_der()).map_err(|e| anyhow::anyhow!("{e}"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, secret)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Tls { config: Arc::new(config), authority: issuer.pem() })
    }
}

/// The authority: made where there is none.
fn authority(dir: &Path, cluster: &str) -> Result<CertifiedIssuer<'static, KeyPair>> {
    let path = dir.join("ca.key");
    let key = match std::fs::read_to_string(&path) {
        Ok(pem) => KeyPair::from_pem(&pem).with_context(|| format!("{} is damaged", path.display()))?,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let key = KeyPair::generate()?;
            atomic::write(&path, key.serialize_pem().as_bytes()).with_context(|| path.display().to_string())?;
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
            key
        }
        Err(e) => return Err(e).with_context(|| path.display().to_string()),
    };
    // When the key was made: the same certificate comes of it each time but for the signature, and either is good.
    let made = std::fs::metadata(&path)?.modified()?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, format!("Wayfare cluster {cluster}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = ((made - BEFORE).into(), (made + TERMS.0).into());
    let issuer = CertifiedIssuer::self_signed(params, key)?;
    let public = dir.join("ca.pem");
    if !public.exists() {
        atomic::write(&public, issuer.pem().as_bytes()).with_context(|| public.display().to_string())?;
    }
    Ok(issuer)
}
