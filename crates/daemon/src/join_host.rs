//! The side that lets nodes in: looks the token up, issues the certificate, makes and signs the next epoch record.
//!
//! Everything that an answer says is durable before it is given, in the order that `folder::invites` tells.

use std::fmt;
use std::net::SocketAddr;

use replica::epoch::{Epoch, MEMBERS_MAX, Member, SignedEpoch};
use transport::NodeId;
use transport::identity::NODE_VALIDITY_DAYS;
use transport::join::{Credential, DirectoryEntry, JoinHost, JoinRefusal, JoinRequest, Welcome};

use crate::folder::{Claim, Folder, FolderError, Identity, Invite, InviteState, Issuer, PROTOCOL_VERSIONS, hex};

/// What the engine is told, and asked for. Called on threads that may block; nothing here may wait for long, since the
/// node that joins waits meanwhile.
pub trait JoinWatch: Send + Sync {
    /// Seconds since 1970.
    fn now_s(&self) -> i64;

    /// A node was let in, or let in again after its answer was lost: it is durable, and the node is answered next. The
    /// engine submits the record to `replica`, takes the entries into its directory and makes the node a peer. A crash
    /// before it has done so is healed at the next start, which begins with the chain and the directory of the folder.
    fn joined(&self, joined: NodeJoined);

    /// A node was refused.
    fn refused(&self, node: &NodeId, refusal: &JoinRefusal);

    /// Somebody asked and was not answered.
    fn failed(&self, from: SocketAddr, reason: &str);
}

/// A node that was let in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeJoined {
    /// Who.
    pub node: NodeId,
    /// The newest record of the chain, with the node in it.
    pub epoch: SignedEpoch,
    /// The whole directory, with the node in it.
    pub directory: Vec<DirectoryEntry>,
}

/// Decides about joins by what stands in a node folder. For [`transport::Quic::offer_joins`], where
/// [`Folder::issuer`] gives one.
pub struct FolderHost {
    folder: Folder,
    watch: Box<dyn JoinWatch>,
}

impl FolderHost {
    /// A host on a folder.
    pub fn new(folder: Folder, watch: Box<dyn JoinWatch>) -> Self {
        Self { folder, watch }
    }

    fn decide(&self, request: &JoinRequest) -> Result<(Welcome, NodeJoined), JoinRefusal> {
        let now_s = self.watch.now_s();
        let _change = self.folder.lock_for_change().map_err(unable)?;
        let identity = self.folder.load().map_err(unable)?;
        let issuer = self.folder.issuer().map_err(unable)?;
        let issuer = issuer.ok_or_else(|| refuse("the key that lets nodes in is not in the node folder any more"))?;
        check_cluster(request, &identity)?;
        let token = request.token_sha256();
        let found = self.folder.invite(&token).map_err(unable)?;
        let (mut invite, state) = found.ok_or(JoinRefusal::TokenUnknown)?;
        if invite.node != request.node {
            return Err(JoinRefusal::OtherNode { invited: invite.node });
        }
        let credential = name_of(&request.credential);
        let claim = match check_invite(&invite, state, &credential, &identity.epoch, now_s)? {
            Some(claim) => claim,
            None => {
                let claim = Claim { credential, chain_pem: certify(&issuer, request, now_s)? };
                invite.claim = Some(claim.clone());
                self.folder.save_invite(&token, &invite).map_err(unable)?;
                claim
            }
        };
        let epochs = self.chain_with(&request.node, &identity, &issuer)?;
        let directory = self.directory_with(request, &identity, &invite).map_err(unable)?;
        self.folder.burn_invite(&token).map_err(unable)?;
        self.folder.revoke_invites(&request.node).map_err(unable)?;
        let newest = epochs.last().cloned().ok_or_else(|| refuse("the chain of epoch records is empty"))?;
        let joined = NodeJoined { node: request.node.clone(), epoch: newest, directory: directory.clone() };
        let welcome = Welcome {
            authority_pem: identity.node.authority_pem().to_owned(),
            chain_pem: claim.chain_pem,
            epoch_key: identity.epoch_key,
            keys: identity.keys,
            epochs,
            directory,
        };
        Ok((welcome, joined))
    }

    /// The chain with the node in its newest record, which is made and made durable if there is none.
    fn chain_with(&self, node: &NodeId, identity: &Identity, issuer: &Issuer) -> Result<Vec<SignedEpoch>, JoinRefusal> {
        let mut epochs = identity.epochs.clone();
        if identity.epoch.members.contains_key(node.as_str()) {
            return Ok(epochs);
        }
        let slot = slot_for(node, &identity.epochs, &identity.epoch);
        let slot = slot.ok_or(JoinRefusal::Full { members_max: MEMBERS_MAX })?;
        let mut epoch = identity.epoch.clone();
        epoch.number = epoch.number.checked_add(1).ok_or_else(|| refuse("the numbers of epochs are used up"))?;
        epoch.members.insert(node.to_string(), Member { slot });
        let signed = issuer.authority.sign_epoch(&epoch);
        self.folder.append_epoch(&identity.signer(), &signed).map_err(unable)?;
        epochs.push(signed);
        Ok(epochs)
    }

    /// The directory with the node in it, and with this one, which the node must reach before all others.
    fn directory_with(
        &self,
        request: &JoinRequest,
        identity: &Identity,
        invite: &Invite,
    ) -> Result<Vec<DirectoryEntry>, FolderError> {
        let known = self.folder.directory()?;
        let of = |node: &NodeId| known.iter().find(|entry| entry.node == *node);
        let mut heard = Vec::new();
        let own = identity.node.node();
        if of(own).is_none_or(|entry| entry.addresses.is_empty()) {
            let counter = of(own).map_or(0, |entry| entry.counter.saturating_add(1));
            heard.push(DirectoryEntry { node: own.clone(), counter, addresses: vec![invite.address.clone()] });
        }
        let is_news = of(&request.node).is_none_or(|entry| entry.addresses != request.addresses);
        if is_news && !request.addresses.is_empty() {
            let counter = of(&request.node).map_or(1, |entry| entry.counter.saturating_add(1));
            let (node, addresses) = (request.node.clone(), request.addresses.clone());
            heard.push(DirectoryEntry { node, counter, addresses });
        }
        let merged = self.folder.merge_directory(&heard)?;
        let is_member = |entry: &DirectoryEntry| {
            entry.node == request.node || identity.epoch.members.contains_key(entry.node.as_str())
        };
        Ok(merged.into_iter().filter(is_member).collect())
    }
}

impl JoinHost for FolderHost {
    fn join(&self, request: &JoinRequest) -> Result<Welcome, JoinRefusal> {
        match self.decide(request) {
            Ok((welcome, joined)) => {
                self.watch.joined(joined);
                Ok(welcome)
            }
            Err(refusal) => {
                self.watch.refused(&request.node, &refusal);
                Err(refusal)
            }
        }
    }

    fn failed(&self, from: SocketAddr, reason: &str) {
        self.watch.failed(from, reason);
    }
}

fn refuse(reason: &str) -> JoinRefusal {
    JoinRefusal::Unable { reason: reason.to_owned() }
}

fn unable(error: FolderError) -> JoinRefusal {
    JoinRefusal::Unable { reason: error.to_string() }
}

/// Names a credential in a claim.
fn name_of(credential: &Credential) -> String {
    match credential {
        Credential::Key(key) => format!("key:{}", hex::encode(&key.fingerprint())),
        Credential::Shown { certificate_sha256 } => format!("certificate:{}", hex::encode(certificate_sha256)),
    }
}

fn check_cluster(request: &JoinRequest, identity: &Identity) -> Result<(), JoinRefusal> {
    if request.cluster != identity.node.cluster() {
        return Err(JoinRefusal::WrongCluster);
    }
    let (least, most) = (identity.epoch.version_min.max(PROTOCOL_VERSIONS.0), PROTOCOL_VERSIONS.1);
    if request.versions.1 < least || request.versions.0 > most {
        return Err(JoinRefusal::VersionSkew { least, most });
    }
    Ok(())
}

/// The claim of a node that comes again; `None` for one that may come in now.
fn check_invite(
    invite: &Invite,
    state: InviteState,
    credential: &str,
    epoch: &Epoch,
    now_s: i64,
) -> Result<Option<Claim>, JoinRefusal> {
    let is_member = epoch.members.contains_key(invite.node.as_str());
    if let Some(claim) = &invite.claim {
        // Whoever has the private key is who came first: it is answered again, also after the token has expired. But a
        // token that did its work does not bring back a member that was evicted since.
        let is_over = state == InviteState::Revoked || (state == InviteState::Used && !is_member);
        if claim.credential != credential || is_over {
            return Err(JoinRefusal::TokenUsed);
        }
        return Ok(Some(claim.clone()));
    }
    if state != InviteState::Open {
        return Err(JoinRefusal::TokenUsed);
    }
    if u64::try_from(now_s).unwrap_or_default() > invite.expires_s {
        return Err(JoinRefusal::TokenExpired { expires_s: invite.expires_s });
    }
    match (is_member, invite.renew) {
        (true, false) => Err(JoinRefusal::NodeIdTaken { node: invite.node.clone() }),
        (false, true) => Err(refuse("the node is no member any more; invite it without --renew")),
        (false, false) if epoch.members.len() >= MEMBERS_MAX => Err(JoinRefusal::Full { members_max: MEMBERS_MAX }),
        _ => Ok(None),
    }
}

/// The certificate for a key; nothing for a node that brought one of the cluster's CA.
fn certify(issuer: &Issuer, request: &JoinRequest, now_s: i64) -> Result<String, JoinRefusal> {
    match &request.credential {
        Credential::Shown { .. } => Ok(String::new()),
        Credential::Key(_) if !issuer.certifies => Err(JoinRefusal::CertificateNeeded),
        Credential::Key(key) => {
            let issued = issuer.authority.certify(&request.node, key, now_s, NODE_VALIDITY_DAYS);
            issued.map_err(|error| unable(error.into()))
        }
    }
}

/// The slot of a node that comes in: the one that it had before, if it is free; else the least that nobody ever had,
/// because rows keep the ids that a slot gave them; else the least that is free. `None` when all are taken.
fn slot_for(node: &NodeId, chain: &[SignedEpoch], newest: &Epoch) -> Option<u8> {
    let taken = |slot: u8| newest.members.values().any(|member| member.slot == slot);
    let chain: Vec<Epoch> = chain.iter().filter_map(|signed| Epoch::from_bytes(&signed.bytes).ok()).collect();
    let before = chain.iter().rev().find_map(|epoch| epoch.members.get(node.as_str()));
    if let Some(member) = before.filter(|member| !taken(member.slot)) {
        return Some(member.slot);
    }
    let used = |slot: u8| chain.iter().any(|epoch| epoch.members.values().any(|member| member.slot == slot));
    let slots = || 1..=u8::try_from(MEMBERS_MAX).unwrap_or(u8::MAX);
    slots().find(|slot| !used(*slot) && !taken(*slot)).or_else(|| slots().find(|slot| !taken(*slot)))
}

impl fmt::Debug for FolderHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("FolderHost").field("folder", &self.folder).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(number: u64, members: &[(&str, u8)]) -> (SignedEpoch, Epoch) {
        let members = members.iter().map(|(node, slot)| ((*node).to_owned(), Member { slot: *slot })).collect();
        let epoch = Epoch { number, members, ..Epoch::default() };
        (SignedEpoch { bytes: epoch.to_bytes(), signature: Vec::new() }, epoch)
    }

    #[test]
    fn slots_are_for_life_and_given_again_last() {
        let node = |name: &str| NodeId::new(name).unwrap();
        let (first, _) = signed(1, &[("a", 1), ("b", 2)]);
        let (second, newest) = signed(2, &[("a", 1)]);
        let chain = [first, second];
        assert_eq!(slot_for(&node("b"), &chain, &newest), Some(2), "its own slot comes back to a node");
        assert_eq!(slot_for(&node("c"), &chain, &newest), Some(3), "the slot of an evicted node rests");
        let names: Vec<String> = (1..=64).map(|slot| format!("n{slot}")).collect();
        let all: Vec<(&str, u8)> = names.iter().map(String::as_str).zip(1..=64).collect();
        let (full, newest) = signed(3, &all);
        assert_eq!(slot_for(&node("c"), std::slice::from_ref(&full), &newest), None);
        let (fewer, newest) = signed(4, &all[..63]);
        assert_eq!(slot_for(&node("c"), &[full, fewer], &newest), Some(64), "all were used, this one is free");
    }
}
