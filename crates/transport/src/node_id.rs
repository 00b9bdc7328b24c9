//! The name of a node.

use std::fmt;
use std::str::FromStr;

/// Longest node id: the longest label of a DNS name, because it stands in a certificate as one.
pub const NODE_ID_BYTES_MAX: usize = replica::epoch::NODE_ID_BYTES_MAX;

/// 1-63 of `a-z 0-9 _ -`: the name that a person gives a node.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Box<str>);

/// Why a text is no node id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeIdError {
    /// It has no byte.
    Empty,
    /// It is longer than [`NODE_ID_BYTES_MAX`].
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It holds a byte that a node id may not hold.
    Character {
        /// Where, from 0.
        at: usize,
    },
}

impl NodeId {
    /// Reads a node id.
    ///
    /// # Errors
    /// [`NodeIdError`] says which rule is broken.
    pub fn new(text: &str) -> Result<Self, NodeIdError> {
        if text.is_empty() {
            return Err(NodeIdError::Empty);
        }
        if text.len() > NODE_ID_BYTES_MAX {
            return Err(NodeIdError::TooLong { bytes: text.len() });
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-');
        match text.bytes().position(|byte| !allowed(byte)) {
            Some(at) => Err(NodeIdError::Character { at }),
            None => Ok(Self(text.into())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        Self::new(text)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl NodeIdError {
    /// The stable code.
    pub const fn code(&self) -> &'static str {
        "ERR_NODE_ID_INVALID"
    }
}

impl fmt::Display for NodeIdError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(formatter, "the node id is empty; give 1-{NODE_ID_BYTES_MAX} of a-z 0-9 _ -"),
            Self::TooLong { bytes } => {
                write!(formatter, "the node id has {bytes} bytes; the most are {NODE_ID_BYTES_MAX}")
            }
            Self::Character { at } => {
                write!(formatter, "the node id has a character at place {at} that is none of a-z 0-9 _ -")
            }
        }
    }
}

impl std::error::Error for NodeIdError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_a_node_id() {
        for text in ["a", "node_01", "-", "0", &"z".repeat(63)] {
            assert_eq!(NodeId::new(text).map(|id| id.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(NodeId::new(""), Err(NodeIdError::Empty));
        assert_eq!(NodeId::new(&"z".repeat(64)), Err(NodeIdError::TooLong { bytes: 64 }));
        for (text, at) in [("Node", 0), ("a.b", 1), ("a b", 1), ("ä", 0), ("*", 0)] {
            assert_eq!(NodeId::new(text), Err(NodeIdError::Character { at }), "{text}");
        }
    }
}
