//! What became of records.

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inserted {
    /// Its node was not known.
    New,
    /// It replaced an older one of its node.
    Newer,
    /// It was there already.
    Known,
    /// A newer one of its node is there.
    Older,
    /// Another text of the same seq is there: its node is quarantined.
    Rival,
}

/// Why a record was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Its time is over.
    #[error("its time is over")]
    Expired,
    /// It is a record of this node, with a seq as high as its own or higher: the next one of its own has to be above.
    #[error("it is this node's own, with seq {seq}")]
    Own {
        /// Its seq.
        seq: u64,
    },
    /// No address of it may be told by whom it came from.
    #[error("it has no address that its source may tell")]
    NoAddress,
    /// Its source has brought a tenth of what the table can hold.
    #[error("its source has brought as much as one may")]
    SourceQuota,
    /// There are eight rows without a key in its network already.
    #[error("its network has as many rows without a key as one may")]
    NetworkQuota,
    /// The table is full of what is worth more.
    #[error("the table is full of better ones")]
    Full,
}

/// What became of many records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Merged {
    /// Nodes that were not known.
    pub new: usize,
    /// Nodes with a newer record.
    pub newer: usize,
    /// Records that changed nothing.
    pub unchanged: usize,
    /// Records that quarantine their node.
    pub rivals: usize,
    /// Records that were not taken.
    pub refused: usize,
}

impl Merged {
    /// Counts what another merge came to.
    pub fn add(&mut self, other: Self) {
        self.new += other.new;
        self.newer += other.newer;
        self.unchanged += other.unchanged;
        self.rivals += other.rivals;
        self.refused += other.refused;
    }

    /// Counts one.
    pub fn count(&mut self, result: Result<Inserted, Refused>) {
        match result {
            Ok(Inserted::New) => self.new += 1,
            Ok(Inserted::Newer) => self.newer += 1,
            Ok(Inserted::Known | Inserted::Older) => self.unchanged += 1,
            Ok(Inserted::Rival) => self.rivals += 1,
            Err(_) => self.refused += 1,
        }
    }
}
