//! Root certificates for the verification of TLS connections: Mozilla's, which are compiled in, or those of the file
//! that `SSL_CERT_FILE` names, for networks whose proxy presents its own certificate.

use super::endpoints::env_var;
use crate::console;
use std::fs;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// OpenSSL's environment variable for a PEM file of certificates.
pub const VARIABLE: &str = "SSL_CERT_FILE";

/// Returns the root certificates. An unusable file causes a note instead of an error, because cached weights need no
/// connection.
pub fn root_certificates() -> RootCerts {
    let Some(path) = env_var(VARIABLE) else { return RootCerts::WebPki };
    let certificates = fs::read(&path).map_err(|error| error.to_string()).and_then(|pem| parse(&pem));
    match certificates {
        Ok(certificates) => RootCerts::Specific(Arc::new(certificates)),
        Err(reason) => {
            console::note(format_args!("{VARIABLE}: {path}: {reason}; using Mozilla's root certificates"));
            RootCerts::WebPki
        }
    }
}

fn parse(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("{error}"))),
    };
    let certificates = parse_pem(pem).filter_map(certificate).collect::<Result<Vec<_>, _>>()?;
    match certificates.is_empty() {
        true => Err("file contains no certificate".to_owned()),
        false => Ok(certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_certificates_and_rejects_other_files() {
        let pem = "# A comment\n-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let certificates = parse(pem.repeat(2).as_bytes()).unwrap();
        assert_eq!(certificates.iter().map(Certificate::der).collect::<Vec<_>>(), [[0, 1, 2]; 2]);
        for (pem, reason) in [("", "no certificate"), ("words", "no certificate"), (&pem[..50], "")] {
            let error = parse(pem.as_bytes()).err().unwrap();
            assert!(error.contains(reason), "{pem}: {error}");
        }
    }
}
