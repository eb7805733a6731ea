//! What a run of the checker looks at: how much may go wrong, and what was taken out.

/// How often each thing may still go wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A process ends, at any moment, and starts anew.
    pub crashes: u8,
    /// A guard trips, at a controller or at an edge pod.
    pub breaches: u8,
    /// The target loses its last ready endpoint, or gets one.
    pub flips: u8,
    /// The API server's store is replaced by an older copy of itself.
    pub restores: u8,
}

/// What keeps the promises. Each can be taken out, and then the checker must find a promise broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The API server refuses a write of EdgeWeights that is not based on the present ones.
    CompareAndSwap,
    /// An agent takes no revision below what it has seen.
    Fence,
    /// A weight counts as applied when the last agent has it, not the first.
    Acknowledgement,
    /// Nothing goes to a target without a ready endpoint.
    Readiness,
    /// What is taken back says so, at the edge and in agents.
    Latch,
    /// A new revision is above what any agent has seen.
    Minting,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Processes that believe they lead: one or two.
    pub controllers: usize,
    pub budget: Budget,
    pub without: Option<Guard>,
}

impl Setting {
    /// Whether a guard is there.
    pub fn has(&self, guard: Guard) -> bool {
        self.without != Some(guard)
    }
}
