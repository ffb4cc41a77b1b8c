//! TLS to PostgreSQL with rustls: what each `sslmode` verifies.
//!
//! `prefer` and `require` encrypt without verifying, as libpq does; `verify-ca` verifies the
//! chain, `verify-full` the host's name as well. The provider is always ring, named here, so
//! that no process-wide default has to be installed.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::ConnectError;

/// How a session is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsMode {
    /// Never encrypted.
    Disable,
    /// Encrypted where the server can; nothing is verified.
    Prefer,
    /// Always encrypted; nothing is verified.
    Require,
    /// Always encrypted by a certificate that the roots vouch for.
    VerifyCa(Roots),
    /// As `VerifyCa`, and the certificate names the host.
    VerifyFull(Roots),
}

/// Whom a certificate must come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The operating system's trusted roots.
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
}

/// Makes the connector for a mode. Root certificates are read anew by each call.
///
/// # Errors
/// [`ConnectError::Tls`] where the roots cannot be read or hold no certificate.
pub fn connector(mode: &TlsMode) -> Result<MakeRustlsConnect, ConnectError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| setup_error(e.to_string()))?;
    let config = match mode {
        TlsMode::VerifyFull(roots) => builder
            .with_root_certificates(root_store(roots)?)
            .with_no_client_auth(),
        TlsMode::VerifyCa(roots) => {
            let inner = WebPkiServerVerifier::builder_with_provider(root_store(roots)?, provider)
                .build()
                .map_err(|e| setup_error(e.to_string()))?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(ChainOnly(inner)))
                .with_no_client_auth()
        }
        TlsMode::Disable | TlsMode::Prefer | TlsMode::Require => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unverified(provider)))
            .with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

fn setup_error(problem: String) -> ConnectError {
    ConnectError::Tls {
        address: "TLS set-up".to_owned(),
        problem,
        hint: "name a readable PEM file by sslrootcert, or install the system's root certificates",
    }
}

fn root_store(roots: &Roots) -> Result<Arc<RootCertStore>, ConnectError> {
    let mut store = RootCertStore::empty();
    match roots {
        Roots::System => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
        }
        Roots::File(path) => {
            let unreadable =
                |e: &dyn std::fmt::Display| setup_error(format!("read {}: {e}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|e| unreadable(&e))? {
                let certificate = certificate.map_err(|e| unreadable(&e))?;
                store.add(certificate).map_err(|e| unreadable(&e))?;
            }
        }
    }
    if store.is_empty() {
        let place = match roots {
            Roots::System => "the system's store".to_owned(),
            Roots::File(path) => path.display().to_string(),
        };
        return Err(setup_error(format!(
            "a root certificate was expected in {place}, none was found"
        )));
    }
    Ok(Arc::new(store))
}

/// Verifies the chain and forgives a name that differs.
#[derive(Debug)]
struct ChainOnly(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for ChainOnly {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        // The inner verifier looks at the name last, so a wrong name means that the chain is right.
        match self
            .0
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        {
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes any certificate; the handshake's own signatures are still checked.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::{Roots, TlsMode, connector};

    #[test]
    fn missing_roots_are_named_before_anything_connects() {
        let missing = Roots::File("/nonexistent/ca.pem".into());
        let error = connector(&TlsMode::VerifyFull(missing))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("/nonexistent/ca.pem"), "{error}");
        let empty = tempfile::NamedTempFile::new().unwrap();
        let error = connector(&TlsMode::VerifyCa(Roots::File(empty.path().into())))
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("none was found"), "{error}");
    }

    #[test]
    fn modes_that_verify_nothing_need_no_roots() {
        for mode in [TlsMode::Disable, TlsMode::Prefer, TlsMode::Require] {
            assert!(connector(&mode).is_ok());
        }
    }
}
