//! Whose word is trusted for who a server is: Mozilla's list, which is compiled in, or that of the environment. Where a
//! company looks into connections, its own certificate is in the latter.

use super::address::variable_of;
use crate::console;
use std::fs;
use std::sync::Arc;
use ureq::tls::{Certificate, PemItem, RootCerts, parse_pem};

/// OpenSSL's variable, which names a file of certificates as PEM.
pub const VARIABLE: &str = "SSL_CERT_FILE";

/// A file that is of no use is said, and is nothing to fail for: what is in the cache asks nobody.
pub fn trusted() -> RootCerts {
    let Some(path) = variable_of(VARIABLE) else { return RootCerts::WebPki };
    let found = fs::read(&path).map_err(|error| error.to_string()).and_then(|pem| certificates(&pem));
    match found {
        Ok(certificates) => RootCerts::Specific(Arc::new(certificates)),
        Err(reason) => {
            console::note(&format!("{VARIABLE}: {path}: {reason}; certificates are judged by Mozilla's list"));
            RootCerts::WebPki
        }
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, String> {
    let certificate = |item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(Ok(certificate)),
        Ok(_) => None,
        Err(error) => Some(Err(format!("{error}"))),
    };
    let certificates = parse_pem(pem).filter_map(certificate).collect::<Result<Vec<_>, _>>()?;
    match certificates.is_empty() {
        true => Err("there is no certificate in it".to_owned()),
        false => Ok(certificates),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_and_other_files_refused() {
        let pem = "# A comment\n-----BEGIN CERTIFICATE-----\nAAEC\n-----END CERTIFICATE-----\n";
        let found = certificates(pem.repeat(2).as_bytes()).unwrap();
        assert_eq!(found.iter().map(Certificate::der).collect::<Vec<_>>(), [[0, 1, 2]; 2]);
        for (pem, reason) in [("", "no certificate"), ("words", "no certificate"), (&pem[..50], "")] {
            let error = certificates(pem.as_bytes()).err().unwrap();
            assert!(error.contains(reason), "{pem}: {error}");
        }
    }
}
