//! A node's certificate and key, with the CA that issued them.

use std::fmt;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::certificate::{Validity, ed25519_key_of, node_id_of, validity_of};
use super::error::IdentityError;
use super::sha256;
use crate::node_id::NodeId;

/// Most certificates between a node's and the CA's.
const CHAIN_MAX: usize = 4;

/// What a node proves itself with.
pub struct NodeIdentity {
    cluster: u128,
    node: NodeId,
    authority: CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    authority_pem: String,
    chain_pem: String,
    key_pem: String,
}

fn pem_error(what: &'static str) -> impl Fn(rustls::pki_types::pem::Error) -> IdentityError {
    move |error| IdentityError::Pem { what, reason: error.to_string() }
}

impl NodeIdentity {
    /// Reads an identity: the CA's certificate, the node's certificate (its own first, then those between it and the
    /// CA, if any), and its private key (PKCS #8, SEC 1 or PKCS #1). The node id is the certificate's only name. Also
    /// for certificates that somebody else issued. Expiry is not looked at: see [`NodeIdentity::check_validity`].
    ///
    /// # Errors
    /// [`IdentityError`] says which part cannot be read, or that the names do not fit.
    pub fn from_pem(cluster: u128, authority_pem: &str, chain_pem: &str, key_pem: &str) -> Result<Self, IdentityError> {
        let authority = CertificateDer::from_pem_slice(authority_pem.as_bytes());
        let authority = authority.map_err(pem_error("the CA's certificate"))?;
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_slice_iter(chain_pem.as_bytes()).take(CHAIN_MAX + 1).collect();
        let chain: Vec<CertificateDer<'static>> = chain.map_err(pem_error("the node's certificate"))?;
        if chain.len() > CHAIN_MAX {
            let reason = format!("the chain has more than {CHAIN_MAX} certificates");
            return Err(IdentityError::Pem { what: "the node's certificate", reason });
        }
        let Some(certificate) = chain.first() else {
            let reason = "it holds no certificate".to_owned();
            return Err(IdentityError::Pem { what: "the node's certificate", reason });
        };
        let node = node_id_of(certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(pem_error("the node's key"))?;
        let (authority_pem, chain_pem, key_pem) = (authority_pem.to_owned(), chain_pem.to_owned(), key_pem.to_owned());
        Ok(Self { cluster, node, authority, chain, key, authority_pem, chain_pem, key_pem })
    }

    /// The cluster.
    pub fn cluster(&self) -> u128 {
        self.cluster
    }

    /// The node that the certificate names.
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Checks a moment, in seconds since 1970, against the validity of the node's certificate and of the CA's.
    ///
    /// # Errors
    /// [`IdentityError::Expired`] or [`IdentityError::NotYetValid`], which say what to do.
    pub fn check_validity(&self, now_s: i64) -> Result<(), IdentityError> {
        self.validity()?.check(self.node.as_str(), now_s)?;
        validity_of(&self.authority)?.check("the cluster's CA", now_s)
    }

    /// From when to when the node's certificate is valid.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] for one that does not decode.
    pub fn validity(&self) -> Result<Validity, IdentityError> {
        match self.chain.first() {
            Some(certificate) => validity_of(certificate),
            None => Err(IdentityError::Certificate { reason: "there is none".into() }),
        }
    }

    /// SHA-256 of the node's certificate, for [`crate::Peer::certificate_sha256`].
    pub fn certificate_sha256(&self) -> [u8; 32] {
        self.chain.first().map(|certificate| sha256(certificate)).unwrap_or_default()
    }

    /// SHA-256 of the CA's certificate: what a join token knows the cluster by.
    pub fn authority_fingerprint(&self) -> [u8; 32] {
        sha256(&self.authority)
    }

    /// The key that checks epoch records: the CA's. `None` when the CA is somebody else's and not Ed25519; the
    /// cluster's key for epoch records must be configured then.
    ///
    /// # Errors
    /// [`IdentityError::Certificate`] for a CA certificate that does not decode.
    pub fn epoch_key(&self) -> Result<Option<[u8; 32]>, IdentityError> {
        ed25519_key_of(&self.authority)
    }

    /// The CA's certificate, as PEM.
    pub fn authority_pem(&self) -> &str {
        &self.authority_pem
    }

    /// The node's chain, as PEM.
    pub fn chain_pem(&self) -> &str {
        &self.chain_pem
    }

    /// The private key, as PEM. For [`super::write_secret`].
    pub fn key_pem(&self) -> &str {
        &self.key_pem
    }

    pub(crate) fn authority_certificate(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    pub(crate) fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        self.key.clone_key()
    }
}

impl fmt::Debug for NodeIdentity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("NodeIdentity");
        shown.field("cluster", &self.cluster).field("node", &self.node).finish_non_exhaustive()
    }
}
