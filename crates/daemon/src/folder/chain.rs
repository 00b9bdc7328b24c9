//! The chain of epoch records: `identity/epochs`.
//!
//! One record a line, ascending by number: the record and its signature, in hexadecimal, with a space between. The
//! file is replaced as a whole, so it has no torn end.

use std::fs::File;
use std::io::Read;

use replica::Signer;
use replica::epoch::{Epoch, SignedEpoch};
use transport::identity::{ClusterSigner, write_public};

use super::error::FolderError;
use super::records::HEADER;
use super::{Folder, hex};

/// Largest chain that is read: 2,000 records of 64 members. A cluster whose members come and go more often than that
/// has other worries, and a file beyond is not one of ours.
const CHAIN_BYTES_MAX: u64 = 16 << 20;

impl Folder {
    /// Reads the chain, and the newest record of it. Every signature is checked.
    pub(super) fn epochs(&self, signer: &ClusterSigner) -> Result<(Vec<SignedEpoch>, Epoch), FolderError> {
        let path = self.identity("epochs");
        let damaged = |line: usize, what: &str| FolderError::damaged(&path, format!("line {}: {what}", line + 1));
        let text = self.chain_text()?;
        let mut chain: Vec<SignedEpoch> = Vec::new();
        let mut newest: Option<Epoch> = None;
        for (line, record) in text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')) {
            let (bytes, signature) = record.split_once(' ').ok_or_else(|| damaged(line, "it has one field"))?;
            let bytes = hex::decode(bytes).ok_or_else(|| damaged(line, "the record is not hexadecimal"))?;
            let signature = hex::decode(signature).ok_or_else(|| damaged(line, "the signature is not hexadecimal"))?;
            if !signer.verify_epoch(&bytes, &signature) {
                return Err(damaged(line, "the signature does not fit"));
            }
            let epoch = Epoch::from_bytes(&bytes).map_err(|error| damaged(line, &error.to_string()))?;
            if newest.as_ref().is_some_and(|newest| newest.number >= epoch.number) {
                return Err(damaged(line, "the numbers do not ascend"));
            }
            newest = Some(epoch);
            chain.push(SignedEpoch { bytes, signature });
        }
        let newest = newest.ok_or_else(|| FolderError::damaged(&path, "it holds no record"))?;
        Ok((chain, newest))
    }

    /// Puts a record into the chain, durably. One that is there already is no error. Also for records that came from
    /// other members. Takes no lock: see [`Folder::lock_for_change`].
    ///
    /// # Errors
    /// [`FolderError::EpochFork`] when another record has its number; [`FolderError::Damaged`] for a record without a
    /// good signature. Nothing has changed then.
    pub fn append_epoch(&self, signer: &ClusterSigner, signed: &SignedEpoch) -> Result<(), FolderError> {
        let path = self.identity("epochs");
        if !signer.verify_epoch(&signed.bytes, &signed.signature) {
            return Err(FolderError::damaged(path, "the new record has no good signature"));
        }
        let number_of = |bytes: &[u8]| Epoch::from_bytes(bytes).map(|epoch| epoch.number);
        let number = number_of(&signed.bytes).map_err(|error| FolderError::damaged(&path, error))?;
        let (mut chain, _) = self.epochs(signer)?;
        // All records of the chain were read a moment ago; one that does not read now stands before any other.
        let place = chain.partition_point(|known| number_of(&known.bytes).is_ok_and(|known| known < number));
        match chain.get(place) {
            Some(known) if known.bytes == signed.bytes => return Ok(()),
            Some(known) if number_of(&known.bytes) == Ok(number) => return Err(FolderError::EpochFork { number }),
            _ => chain.insert(place, signed.clone()),
        }
        self.save_epochs(&chain)
    }

    /// Writes a chain. The right to change is held by the caller.
    pub(super) fn save_epochs(&self, chain: &[SignedEpoch]) -> Result<(), FolderError> {
        let mut text = HEADER.to_owned();
        for signed in chain {
            text.push_str(&hex::encode(&signed.bytes));
            text.push(' ');
            text.push_str(&hex::encode(&signed.signature));
            text.push('\n');
        }
        Ok(write_public(&self.identity("epochs"), &text)?)
    }

    fn chain_text(&self) -> Result<String, FolderError> {
        let path = self.identity("epochs");
        let failed = |error| FolderError::File { path: path.clone(), error };
        let file = File::open(&path).map_err(failed)?;
        let bytes = file.metadata().map_err(failed)?.len();
        if bytes > CHAIN_BYTES_MAX {
            return Err(FolderError::TooLarge { path, bytes, bytes_max: CHAIN_BYTES_MAX });
        }
        let mut text = String::new();
        file.take(CHAIN_BYTES_MAX).read_to_string(&mut text).map_err(failed)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use replica::epoch::Member;
    use transport::identity::{Authority, ClusterKeys, MacKey};

    use super::*;

    fn authority() -> (Authority, ClusterSigner) {
        let authority = Authority::create(1, 1_800_000_000).unwrap();
        let keys = ClusterKeys::new(MacKey { id: 1, secret: [1; 32] });
        let signer = ClusterSigner::new(1, keys, authority.epoch_key());
        (authority, signer)
    }

    fn epoch(number: u64, slot: u8) -> Epoch {
        Epoch { number, members: [("a".into(), Member { slot })].into(), ..Epoch::default() }
    }

    #[test]
    fn a_chain_grows_by_records_with_good_signatures_and_does_not_fork() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        let (authority, signer) = authority();
        let sign = |number, slot| authority.sign_epoch(&epoch(number, slot));
        folder.save_epochs(&[sign(1, 1)]).unwrap();
        folder.append_epoch(&signer, &sign(3, 1)).unwrap();
        folder.append_epoch(&signer, &sign(2, 1)).unwrap();
        folder.append_epoch(&signer, &sign(2, 1)).unwrap();
        let (chain, newest) = folder.epochs(&signer).unwrap();
        assert_eq!((chain.len(), newest), (3, epoch(3, 1)));
        assert_eq!(chain[1], sign(2, 1));
        let fork = folder.append_epoch(&signer, &sign(2, 9)).unwrap_err();
        assert_eq!(fork.code(), "ERR_EPOCH_FORK");
        let mut forged = sign(4, 1);
        forged.signature[0] ^= 1;
        assert!(folder.append_epoch(&signer, &forged).is_err());
        assert_eq!(folder.epochs(&signer).unwrap().0, chain);
    }

    #[test]
    fn a_damaged_chain_says_where() {
        let root = tempfile::tempdir().unwrap();
        let folder = Folder::new(root.path().join("node"));
        folder.create().unwrap();
        let (authority, signer) = authority();
        folder.save_epochs(&[authority.sign_epoch(&epoch(1, 1)), authority.sign_epoch(&epoch(2, 1))]).unwrap();
        let whole = folder.chain_text().unwrap();
        let third = whole.lines().nth(2).unwrap();
        for text in [String::new(), HEADER.to_owned(), format!("{whole}{third}\n"), whole.replacen(' ', "0", 8)] {
            std::fs::write(folder.identity("epochs"), text).unwrap();
            assert_eq!(folder.epochs(&signer).unwrap_err().code(), "ERR_FOLDER_DAMAGED");
        }
        std::fs::write(folder.identity("epochs"), &whole[..whole.len() - 9]).unwrap();
        let cut = folder.epochs(&signer).unwrap_err();
        assert!(cut.to_string().contains("line 3"), "{cut}");
    }
}
