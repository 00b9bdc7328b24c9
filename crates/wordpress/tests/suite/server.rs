//! A MariaDB of a test's own, with a WordPress that was just installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, OptsBuilder};
use tempfile::TempDir;
use wordpress::{Catalogue, Database, DatabaseOptions};

/// How long a server may take to start or to end on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The database with WordPress in it.
pub(crate) const SITE: &str = "wp";

/// A running server. It ends with this value, and its data with it.
pub(crate) struct Server {
    folder: TempDir,
    process: Child,
}

impl Server {
    /// Starts a server on a copy of the template.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        copy(&template(), &folder.path().join("data"));
        Self::start_in(folder)
    }

    fn start_in(folder: TempDir) -> Self {
        let process = spawn(folder.path());
        let server = Self { folder, process };
        wait_for(&server.folder.path().join("socket"));
        server
    }

    /// Kills the server as a power cut would the process, and starts it again.
    pub(crate) fn restart(mut self) -> Self {
        self.process.kill().expect("a process of ours");
        self.process.wait().expect("a process of ours");
        let _ = std::fs::remove_file(self.folder.path().join("socket"));
        self.process = spawn(self.folder.path());
        wait_for(&self.folder.path().join("socket"));
        self
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// Where a database of this server is.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("mysql://root@localhost/{database}?socket={}", self.socket().display())
    }

    /// A connection as WordPress has one.
    pub(crate) async fn site(&self, database: &str) -> Conn {
        let options = OptsBuilder::default()
            .socket(Some(self.socket().display().to_string()))
            .user(Some("root"))
            .db_name(Some(database))
            .setup(vec!["SET NAMES utf8mb4 COLLATE utf8mb4_unicode_520_ci", "SET sql_mode = ''"]);
        Conn::new(options).await.expect("the server runs")
    }

    /// What the engine sees of the WordPress, with its tables and triggers in place.
    pub(crate) async fn installed(&self, database: &str) -> Database {
        let mut database = self.open(database, &[]).await;
        database.install().await.expect("root may do everything");
        database
    }

    /// What the engine sees, with packs beside the core's catalogue.
    pub(crate) async fn open(&self, database: &str, packs: &[&str]) -> Database {
        let catalogue = Arc::new(Catalogue::with_packs(packs).expect("packs of a test"));
        let options = DatabaseOptions { url: self.url(database), prefix: "wp_".into(), class: 5, catalogue };
        Database::open(options).await.expect("a WordPress")
    }

    /// A second database with the same tables and rows.
    pub(crate) fn clone_site(&self, name: &str) {
        let socket = self.socket().display().to_string();
        let script = format!(
            "mariadb --no-defaults -uroot -S '{socket}' -e 'CREATE DATABASE {name}' && \
             mariadb-dump --no-defaults -uroot -S '{socket}' --skip-triggers {SITE} \
             | mariadb --no-defaults -uroot -S '{socket}' {name}"
        );
        run(Command::new("sh").args(["-ec", &script]));
    }

    /// Everything in a database as SQL.
    pub(crate) fn dump(&self, database: &str) -> String {
        let socket = self.socket().display().to_string();
        let output = Command::new("mariadb-dump")
            .args(["--no-defaults", "-uroot", "-S", &socket, "--skip-dump-date", "--hex-blob", database])
            .output()
            .expect("mariadb-dump is installed by `make tools`");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path) -> Child {
    let log = std::fs::File::create(folder.join("log")).expect("a folder of ours");
    // A server that starts removes the temporary tables of others from a folder that they share.
    let temporary = folder.join("tmp");
    std::fs::create_dir_all(&temporary).expect("a folder of ours");
    Command::new("mariadbd")
        .args(["--no-defaults", "--user=root", "--skip-networking", "--innodb-log-file-size=8M"])
        .args(["--innodb-buffer-pool-size=64M", "--innodb-flush-log-at-trx-commit=2", "--skip-name-resolve"])
        .arg(format!("--datadir={}", folder.join("data").display()))
        .arg(format!("--tmpdir={}", temporary.display()))
        .arg(format!("--socket={}", folder.join("socket").display()))
        .arg(format!("--pid-file={}", folder.join("pid").display()))
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("mariadbd is installed by `make tools`")
}

fn wait_for(socket: &Path) {
    let begin = Instant::now();
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        assert!(begin.elapsed() < PATIENCE, "the server did not start; see {}", socket.with_file_name("log").display());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn run(command: &mut Command) {
    let output = command.output().expect("installed by `make tools`");
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-r").arg(from).arg(to));
}

/// A data folder with WordPress installed by its own installer: made by whichever test needs it first.
fn template() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let made = root.join("wordpress-data");
    if made.exists() {
        return made;
    }
    let folder = tempfile::tempdir_in(root).expect("a folder");
    run(Command::new("mariadb-install-db")
        .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"])
        .arg("--innodb-log-file-size=8M")
        .arg(format!("--datadir={}", folder.path().join("data").display())));
    let server = Server::start_in(folder);
    install_wordpress(&server);
    run(Command::new("mariadb-admin").args(["--no-defaults", "-uroot", "shutdown", "-S"]).arg(server.socket()));
    let begin = Instant::now();
    while server.folder.path().join("pid").exists() {
        assert!(begin.elapsed() < PATIENCE, "the server did not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    // Another test may have been quicker; its template is as good.
    let _ = std::fs::rename(server.folder.path().join("data"), &made);
    assert!(made.exists(), "there is a template now");
    made
}

fn install_wordpress(server: &Server) {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/wordpress");
    assert!(
        files.is_dir(),
        "the files of WordPress are fetched by scripts/fetch-wordpress.sh, which `make test` calls"
    );
    let socket = server.socket().display().to_string();
    let site = server.folder.path().join("site");
    copy(&files.join("wordpress"), &site);
    run(Command::new("mariadb").args(["--no-defaults", "-uroot", "-S", &socket, "-e", "CREATE DATABASE wp"]));
    let wp = |arguments: &[&str]| {
        let mut command = Command::new("php");
        command.arg(files.join("wp-cli.phar")).args(["--allow-root", "--quiet"]).args(arguments).current_dir(&site);
        run(&mut command);
    };
    let host = format!("--dbhost=localhost:{socket}");
    wp(&["config", "create", "--dbname=wp", "--dbuser=root", &host, "--skip-check"]);
    wp(&[
        "core",
        "install",
        "--url=http://localhost",
        "--title=A site",
        "--admin_user=admin",
        "--admin_password=secret",
        "--admin_email=admin@example.org",
        "--skip-email",
    ]);
}

/// A runtime for one test.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(future)
}

/// A statement of the site, with nothing to give back.
pub(crate) async fn sql(site: &mut Conn, statement: &str) {
    site.query_drop(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}
