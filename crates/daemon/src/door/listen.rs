//! Sockets that clients come to.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use resp::SessionConfig;

use super::connection::Stream;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, one of them for its end, four for what it is first made as.
const SOCKET_PATH_BYTES_MAX: usize = 103;

/// Why the door is not open.
#[derive(Debug)]
pub enum DoorError {
    /// Another process answers on the Unix socket.
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is no socket stands in its place. It was left alone.
    NotSocket {
        /// The place.
        path: PathBuf,
    },
    /// The path is longer than the system takes.
    PathTooLong {
        /// The path.
        path: PathBuf,
        /// Its bytes.
        bytes: usize,
    },
    /// The system refuses the socket.
    Bind {
        /// Where.
        place: String,
        /// What the system says.
        error: io::Error,
    },
}

/// A listening socket and what its clients are met with.
pub(super) struct Listener {
    socket: Socket,
    pub(super) config: SessionConfig,
    /// Somebody may wait.
    pub(super) is_ready: bool,
}

enum Socket {
    /// The file goes away with the socket.
    Unix {
        listener: UnixListener,
        _file: SocketFile,
    },
    Tcp(TcpListener),
}

/// The file of a Unix socket; taken away with this value, if it is still the one that was made.
struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Listener {
    /// Listens on a Unix socket. What a former process left is replaced; a socket that answers is not.
    ///
    /// # Errors
    /// [`DoorError`]; nothing has changed then.
    pub(super) fn unix(path: &Path, mode: u32, config: SessionConfig) -> Result<Self, DoorError> {
        let bytes = path.as_os_str().as_bytes().len();
        if bytes > SOCKET_PATH_BYTES_MAX {
            return Err(DoorError::PathTooLong { path: path.into(), bytes });
        }
        let failed = |error| DoorError::Bind { place: path.display().to_string(), error };
        match fs::symlink_metadata(path) {
            Ok(data) if !data.file_type().is_socket() => return Err(DoorError::NotSocket { path: path.into() }),
            Ok(_) => check_stale(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        // SUBTLE: it is made under another name and renamed when its mode is right, so that nobody whom the mode keeps
        // out gets in before, and the one that was left is replaced in one step.
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = PathBuf::from(name);
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = StdUnixListener::bind(&new).map_err(failed)?;
        let placed = || -> io::Result<SocketFile> {
            fs::set_permissions(&new, fs::Permissions::from_mode(mode))?;
            listener.set_nonblocking(true)?;
            fs::rename(&new, path)?;
            let data = fs::symlink_metadata(path)?;
            Ok(SocketFile { path: path.into(), device: data.dev(), inode: data.ino() })
        };
        let file = placed().map_err(failed)?;
        Ok(Self {
            socket: Socket::Unix { listener: UnixListener::from_std(listener), _file: file },
            config,
            is_ready: true,
        })
    }

    /// Listens on TCP.
    ///
    /// # Errors
    /// [`DoorError::Bind`].
    pub(super) fn tcp(address: SocketAddr, config: SessionConfig) -> Result<Self, DoorError> {
        let listener = TcpListener::bind(address);
        let listener = listener.map_err(|error| DoorError::Bind { place: format!("TCP {address}"), error })?;
        Ok(Self { socket: Socket::Tcp(listener), config, is_ready: true })
    }

    /// Wants to hear of clients.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.socket {
            Socket::Unix { listener, .. } => registry.register(listener, token, Interest::READABLE),
            Socket::Tcp(listener) => registry.register(listener, token, Interest::READABLE),
        }
    }

    /// The next client.
    pub(super) fn accept(&self) -> io::Result<Stream> {
        match &self.socket {
            Socket::Unix { listener, .. } => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
            Socket::Tcp(listener) => {
                let (stream, _) = listener.accept()?;
                // Replies are small and written at once; waiting for more of them helps nobody.
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }

    /// The address, where it is TCP.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socket::Unix { .. } => None,
            Socket::Tcp(listener) => listener.local_addr().ok(),
        }
    }
}

/// True only for a socket that nobody listens on.
fn check_stale(path: &Path) -> Result<(), DoorError> {
    match UnixStream::connect(path) {
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Ok(()),
            // So many clients wait there that no further one is taken.
            io::ErrorKind::WouldBlock => Err(DoorError::InUse { path: path.into() }),
            _ => Err(DoorError::Bind { place: path.display().to_string(), error }),
        },
        Ok(_) => Err(DoorError::InUse { path: path.into() }),
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let is_ours = |data: &fs::Metadata| (data.dev(), data.ino()) == (self.device, self.inode);
        if fs::symlink_metadata(&self.path).is_ok_and(|data| is_ours(&data)) {
            // What stays is replaced by the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl DoorError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InUse { .. } => "ERR_DOOR_IN_USE",
            Self::NotSocket { .. } | Self::PathTooLong { .. } | Self::Bind { .. } => "ERR_DOOR_BIND",
        }
    }
}

impl fmt::Display for DoorError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse { path } => write!(
                formatter,
                "another process answers on the socket {}; stop it, or set door.socket to another path",
                path.display()
            ),
            Self::NotSocket { path } => write!(
                formatter,
                "{} is no socket, and was left alone; move it away, or set door.socket to another path",
                path.display()
            ),
            Self::PathTooLong { path, bytes } => write!(
                formatter,
                "the path {} has {bytes} bytes, and a socket's has at most {SOCKET_PATH_BYTES_MAX}; set door.socket to a \
                 shorter one",
                path.display()
            ),
            Self::Bind { place, error } if error.kind() == io::ErrorKind::AddrInUse => write!(
                formatter,
                "the door cannot listen on {place}: another process has it; see who with: ss -tlnp, or set door.listen to \
                 another port"
            ),
            Self::Bind { place, error } if error.kind() == io::ErrorKind::NotFound => write!(
                formatter,
                "the door cannot listen on {place}, because its folder is not there; make it, or set door.socket to another \
                 path"
            ),
            Self::Bind { place, error } => write!(
                formatter,
                "the door cannot listen on {place}: {error}; set door.socket or door.listen to another place"
            ),
        }
    }
}

impl std::error::Error for DoorError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(path: &Path) -> Result<Listener, DoorError> {
        Listener::unix(path, 0o660, SessionConfig::default())
    }

    #[test]
    fn a_socket_that_was_left_is_replaced_and_one_that_answers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        drop(StdUnixListener::bind(&path).unwrap());
        assert!(path.exists(), "as after kill -9");
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
        assert_eq!(listen(&path).err().map(|error| error.code()), Some("ERR_DOOR_IN_USE"));
        drop(listener);
        assert!(!path.exists(), "an orderly end takes it away");
    }

    #[test]
    fn a_socket_of_somebody_else_is_not_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        let listener = listen(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let other = StdUnixListener::bind(&path).unwrap();
        drop(listener);
        assert!(path.exists());
        drop(other);
    }

    #[test]
    fn what_is_in_the_way_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        fs::write(&path, "letters").unwrap();
        assert!(matches!(listen(&path), Err(DoorError::NotSocket { .. })));
        assert_eq!(fs::read_to_string(&path).unwrap(), "letters");
        let long = folder.path().join("x".repeat(200));
        assert!(matches!(listen(&long), Err(DoorError::PathTooLong { .. })));
        let nowhere = folder.path().join("no/such/folder");
        assert_eq!(listen(&nowhere).err().map(|error| error.code()), Some("ERR_DOOR_BIND"));
    }
}
