//! Backups of folders, and their way back.

use transport::NodeId;
use transport::identity::KeyKind;

use super::*;
use crate::init::{InitOptions, init};

const NOW_S: i64 = 1_795_383_785;

fn node(root: &Path, name: &str) -> Folder {
    let folder = Folder::new(root.join(name));
    let options = InitOptions {
        node: NodeId::new(name).unwrap(),
        key_kind: KeyKind::Ed25519,
        own: None,
        addresses: Vec::new(),
        config_text: "# none\n".to_owned(),
        now_s: NOW_S,
    };
    init(&folder, &options).unwrap();
    fs::create_dir(folder.state().join("records")).unwrap();
    fs::write(folder.state().join("records/1"), "old").unwrap();
    folder
}

fn state(folder: &Folder) -> String {
    fs::read_to_string(folder.state().join("records/1")).unwrap()
}

#[test]
fn a_lost_node_comes_back_whole() {
    let root = tempfile::tempdir().unwrap();
    let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
    let made = backup(&folder, &target, NOW_S).unwrap();
    assert_eq!(made.node, "node_01");
    let cluster = folder.cluster().unwrap();
    fs::remove_dir_all(folder.path()).unwrap();
    let restored = restore(&folder, &target, None, &mut |_, _| {}).unwrap();
    assert_eq!((restored.whole, restored.state_before, restored.made_s), (true, None, NOW_S));
    assert_eq!(folder.load().unwrap().node.cluster(), cluster);
    assert_eq!(state(&folder), "old");
    assert!(folder.config().exists());
    let key = fs::metadata(folder.path().join("identity/node.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_node_that_is_there_keeps_its_identity_and_its_state_is_put_aside() {
    let root = tempfile::tempdir().unwrap();
    let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
    backup(&folder, &target, NOW_S).unwrap();
    fs::write(folder.state().join("records/1"), "new").unwrap();
    fs::write(folder.config(), "# mine\n").unwrap();
    let restored = restore(&folder, &target, None, &mut |_, _| {}).unwrap();
    assert!(!restored.whole);
    let aside = restored.state_before.unwrap();
    assert_eq!(fs::read_to_string(aside.join("records/1")).unwrap(), "new");
    assert_eq!(state(&folder), "old");
    assert_eq!(fs::read_to_string(folder.config()).unwrap(), "# mine\n");
}

#[test]
fn a_backup_that_was_changed_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
    backup(&folder, &target, NOW_S).unwrap();
    fs::write(folder.state().join("records/1"), "new").unwrap();
    fs::write(target.join("state/records/1"), "bad").unwrap();
    assert_eq!(restore(&folder, &target, None, &mut |_, _| {}).unwrap_err().code(), "ERR_BACKUP_INVALID");
    assert_eq!(state(&folder), "new");
    fs::remove_file(target.join(LIST)).unwrap();
    assert_eq!(restore(&folder, &target, None, &mut |_, _| {}).unwrap_err().code(), "ERR_BACKUP_INVALID");
}

#[test]
fn what_must_not_be_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let (folder, target) = (node(root.path(), "node_01"), root.path().join("backup"));
    let running = folder.lock_for_running().unwrap();
    assert_eq!(backup(&folder, &target, NOW_S).unwrap_err().code(), "ERR_FOLDER_IN_USE");
    assert!(!target.exists());
    drop(running);
    backup(&folder, &target, NOW_S).unwrap();
    assert_eq!(backup(&folder, &target, NOW_S).unwrap_err().code(), "ERR_BACKUP_EXISTS");
    let other = node(root.path(), "node_02");
    assert_eq!(restore(&other, &target, None, &mut |_, _| {}).unwrap_err().code(), "ERR_BACKUP_OTHER_NODE");
    let nobody = Folder::new(root.path().join("nobody"));
    assert_eq!(backup(&nobody, &root.path().join("x"), NOW_S).unwrap_err().code(), "ERR_NOT_INITIALISED");
}

#[test]
fn paths_do_not_lead_out_of_a_node() {
    for good in ["state/records/1", "config.toml", "identity/node.key"] {
        assert!(is_of_a_node(good), "{good}");
    }
    for bad in ["", "/etc/passwd", "../x", "state/../../x", "invites/a.open", "other"] {
        assert!(!is_of_a_node(bad), "{bad}");
    }
}
