//! Certificates for a Redis that is reached over TLS.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use ::redis::{ClientTlsConfig, TlsCertificates};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::StoreError;

/// Longest file of certificates. A bundle of every public CA has a quarter of it.
const PEM_BYTES_MAX: u64 = 1 << 20;

/// Files (PEM) for an address that begins with `rediss://`. Without any, the server's certificate must come from a CA
/// that this machine trusts. Versions are TLS 1.3 alone, and the name of the server is checked in any case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RedisTls {
    /// CAs that are trusted for the server, instead of those of the machine.
    pub ca: Option<PathBuf>,
    /// This client's certificate with its chain, and its key, for a server that asks for them.
    pub client: Option<(PathBuf, PathBuf)>,
}

impl RedisTls {
    /// True when no file is named.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the files. What is none of the kind is an error here: the library would take an empty list of CAs for
    /// nobody to be trusted, and blame the server.
    pub(super) fn read(&self) -> Result<TlsCertificates, StoreError> {
        let root_cert = self.ca.as_deref().map(certificates).transpose()?;
        let client_tls = match &self.client {
            None => None,
            Some((certificate, key)) => {
                let (client_cert, client_key) = (certificates(certificate)?, read(key)?);
                match PrivateKeyDer::from_pem_slice(&client_key) {
                    Ok(_) => Some(ClientTlsConfig { client_cert, client_key }),
                    Err(_) => return Err(unfit(key, "private key")),
                }
            }
        };
        Ok(TlsCertificates { client_tls, root_cert })
    }
}

/// A file with at least one certificate, and none that does not read.
fn certificates(path: &Path) -> Result<Vec<u8>, StoreError> {
    let bytes = read(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    match found.is_ok_and(|found| !found.is_empty()) {
        true => Ok(bytes),
        false => Err(unfit(path, "certificate")),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, StoreError> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(PEM_BYTES_MAX).read_to_end(&mut bytes));
    read.map_err(|error| StoreError::io("read", path, &error))?;
    Ok(bytes)
}

fn unfit(path: &Path, what: &str) -> StoreError {
    StoreError::Address { message: format!("{} holds no {what} in PEM", path.display()) }
}
