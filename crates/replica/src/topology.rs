//! Who a batch is pushed to. Whatever the answer, digests and pulls bring everything to everybody in the end;
//! a topology only decides how soon, and at what cost.

/// Where a batch that is new here came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source<'a> {
    /// It was committed here.
    Own,
    /// A neighbour sent it.
    Neighbour(&'a str),
}

/// Chooses the neighbours that a batch is pushed to.
pub trait Topology {
    /// Those of `neighbours` to whom a batch from `source` is pushed. Never back to its source.
    fn targets(&mut self, source: Source<'_>, neighbours: Vec<String>) -> Vec<String>;
}

/// All to all: every origin pushes its own batches to everybody, and nobody pushes others'. One copy a link,
/// up to five members; gossip (epidemic broadcast trees) takes its place above.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FullMesh;

impl Topology for FullMesh {
    fn targets(&mut self, source: Source<'_>, neighbours: Vec<String>) -> Vec<String> {
        match source {
            Source::Own => neighbours,
            Source::Neighbour(_) => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_pushes_only_what_is_its_own() {
        let neighbours = vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(FullMesh.targets(Source::Own, neighbours.clone()), neighbours);
        assert_eq!(FullMesh.targets(Source::Neighbour("a"), neighbours), Vec::<String>::new());
    }
}
