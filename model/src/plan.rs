//! The network folded for inference: a flat list of operations over numbered values, batch norm gone into the
//! convolutions. Every engine executes a plan; nothing else stands between a checkpoint and an engine.

/// A value that a run can be asked to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tap {
    /// What enters the first stage.
    Stem,
    /// What leaves stage 1, 2, 3 or 4.
    Stage(u8),
}

#[derive(Clone, Debug)]
pub struct Plan {}

impl Plan {
    /// Folds a checkpoint.
    pub fn new(checkpoint: &crate::checkpoint::Checkpoint) -> Self {
        let _ = checkpoint;
        todo!()
    }
}
