//! Open, used and revoked invitations: `invites/HASH.open`, `.used`, `.revoked`, where HASH is the SHA-256 of the
//! token's secret. The secret itself stands in no file.
//!
//! A join goes through these steps, each durable before the next: the claim is written into the open invitation (who
//! came, and the certificate that it gets), the epoch record is put into the chain, the file is renamed to `.used`, the
//! node is answered. After a crash anywhere, the same node is answered again, and nobody else with the same token.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use transport::NodeId;
use transport::identity::{read_secret, write_secret};

use super::error::FolderError;
use super::records::to_toml;
use super::{Folder, hex, rename};

/// Most invitations that are open at a time. More of them are a script that ran wild.
pub const INVITES_MAX: usize = 1_024;
/// How long after its end an invitation is remembered: it is for telling "used" from "unknown", and for answering a
/// node whose answer was lost. A month of both is plenty.
const REMEMBERED_S: u64 = 30 * 86_400;

/// An invitation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Invite {
    /// Who is invited.
    pub node: NodeId,
    /// `host:port` of this node, as the token has it.
    pub address: String,
    /// When it expires, in seconds since 1970.
    pub expires_s: u64,
    /// True when a member is to get a new certificate; false when the node must not be a member yet.
    pub renew: bool,
    /// Who came with the token.
    pub claim: Option<Claim>,
}

/// Who came with a token, and what it is answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Names its key or certificate.
    pub credential: String,
    /// The certificate that was issued, as PEM; empty when it brought its own.
    pub chain_pem: String,
}

/// What became of an invitation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InviteState {
    /// It waits; with a claim, a crash came before its end.
    Open,
    /// The node is a member, and was answered, or would have been.
    Used,
    /// The node joined with another token.
    Revoked,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InviteText {
    node: String,
    address: String,
    expires_s: u64,
    renew: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    claim: Option<ClaimText>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ClaimText {
    credential: String,
    chain_pem: String,
}

impl InviteState {
    const ALL: [Self; 3] = [Self::Open, Self::Used, Self::Revoked];

    fn extension(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Used => "used",
            Self::Revoked => "revoked",
        }
    }
}

/// All of it under [`Folder::lock_for_change`], which the caller holds.
impl Folder {
    fn invite_path(&self, token_sha256: &[u8; 32], state: InviteState) -> PathBuf {
        self.invites().join(format!("{}.{}", hex::encode(token_sha256), state.extension()))
    }

    /// Writes an open invitation.
    pub(crate) fn save_invite(&self, token_sha256: &[u8; 32], invite: &Invite) -> Result<(), FolderError> {
        let claim = invite.claim.as_ref();
        let text = to_toml(&InviteText {
            node: invite.node.to_string(),
            address: invite.address.clone(),
            // TOML has no greater integer, and it is later than anybody's clock.
            expires_s: invite.expires_s.min(i64::MAX as u64),
            renew: invite.renew,
            claim: claim.map(|Claim { credential, chain_pem }| ClaimText {
                credential: credential.clone(),
                chain_pem: chain_pem.clone(),
            }),
        });
        Ok(write_secret(&self.invite_path(token_sha256, InviteState::Open), &text)?)
    }

    /// The invitation behind a token; `None` when there is none.
    pub(crate) fn invite(&self, token_sha256: &[u8; 32]) -> Result<Option<(Invite, InviteState)>, FolderError> {
        for state in InviteState::ALL {
            let path = self.invite_path(token_sha256, state);
            if path.exists() {
                return Ok(Some((read(&path)?, state)));
            }
        }
        Ok(None)
    }

    /// The token is used up. No error when it was before.
    pub(crate) fn burn_invite(&self, token_sha256: &[u8; 32]) -> Result<(), FolderError> {
        let open = self.invite_path(token_sha256, InviteState::Open);
        if !open.exists() {
            return Ok(());
        }
        rename(&open, &self.invite_path(token_sha256, InviteState::Used))
    }

    /// The node has joined: other invitations of it that are still open let nobody in.
    pub(crate) fn revoke_invites(&self, node: &NodeId) -> Result<(), FolderError> {
        for path in self.invite_files()?.into_iter().filter(|path| has_state(path, InviteState::Open)) {
            if read(&path)?.node == *node {
                rename(&path, &path.with_extension(InviteState::Revoked.extension()))?;
            }
        }
        Ok(())
    }

    /// Forgets what ended long ago, and counts what is open.
    pub(crate) fn prune_invites(&self, now_s: u64) -> Result<usize, FolderError> {
        let mut open = 0;
        for path in self.invite_files()? {
            let is_old = read(&path)?.expires_s.saturating_add(REMEMBERED_S) < now_s;
            if is_old {
                fs::remove_file(&path).map_err(|error| FolderError::File { path, error })?;
            } else if has_state(&path, InviteState::Open) {
                open += 1;
            }
        }
        Ok(open)
    }

    /// Every invitation that is remembered; what else lies in the folder is left alone.
    fn invite_files(&self) -> Result<Vec<PathBuf>, FolderError> {
        let folder = self.invites();
        let failed = |error: io::Error| FolderError::File { path: folder.clone(), error };
        let mut files = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if InviteState::ALL.into_iter().any(|state| has_state(&path, state)) {
                files.push(path);
            }
        }
        Ok(files)
    }
}

fn has_state(path: &Path, state: InviteState) -> bool {
    path.extension().is_some_and(|extension| extension == state.extension())
}

fn read(path: &Path) -> Result<Invite, FolderError> {
    let damaged = |reason: &dyn std::fmt::Display| FolderError::damaged(path, reason);
    let read: InviteText = toml::from_str(&read_secret(path)?).map_err(|error| damaged(&error))?;
    let claim = read.claim.map(|ClaimText { credential, chain_pem }| Claim { credential, chain_pem });
    Ok(Invite {
        node: NodeId::new(&read.node).map_err(|error| damaged(&error))?,
        address: read.address,
        expires_s: read.expires_s,
        renew: read.renew,
        claim,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite(node: &str) -> Invite {
        Invite { node: NodeId::new(node).unwrap(), address: "a:1".into(), expires_s: 1_000, renew: false, claim: None }
    }

    #[test]
    fn an_invitation_goes_from_open_over_claimed_to_used() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        assert_eq!(folder.invite(&[1; 32]).unwrap(), None);
        folder.save_invite(&[1; 32], &invite("b")).unwrap();
        assert_eq!(folder.invite(&[1; 32]).unwrap(), Some((invite("b"), InviteState::Open)));
        let claim = Claim { credential: "key:1".into(), chain_pem: "line\nline\n".into() };
        let claimed = Invite { claim: Some(claim), ..invite("b") };
        folder.save_invite(&[1; 32], &claimed).unwrap();
        assert_eq!(folder.invite(&[1; 32]).unwrap(), Some((claimed.clone(), InviteState::Open)));
        folder.burn_invite(&[1; 32]).unwrap();
        folder.burn_invite(&[1; 32]).unwrap();
        assert_eq!(folder.invite(&[1; 32]).unwrap(), Some((claimed, InviteState::Used)));
    }

    #[test]
    fn a_node_that_joined_leaves_no_other_invitation_open() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        for (token, node) in [(1, "b"), (2, "b"), (3, "c")] {
            folder.save_invite(&[token; 32], &invite(node)).unwrap();
        }
        folder.burn_invite(&[1; 32]).unwrap();
        folder.revoke_invites(&NodeId::new("b").unwrap()).unwrap();
        let state = |token| folder.invite(&[token; 32]).unwrap().map(|(_, state)| state);
        let expected = [Some(InviteState::Used), Some(InviteState::Revoked), Some(InviteState::Open)];
        assert_eq!([1, 2, 3].map(state), expected);
        assert_eq!(folder.prune_invites(1_000 + REMEMBERED_S).unwrap(), 1);
        assert_eq!(folder.prune_invites(1_001 + REMEMBERED_S).unwrap(), 0);
        assert_eq!([1, 2, 3].map(state), [None; 3]);
    }
}
