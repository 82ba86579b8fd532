//! The coordinator and a second copy of it with other hash seeds. Both get the same input at the
//! same times, and their states have to be the same after each turn.

use std::mem;

use model::replay::StateHash;
use model::{Entropy, Now, ShardId};
use ringtail::coordinator::{Coordinator, CoordinatorConfig};
use ringtail::mesh::Batch;
use ringtail::mesh::inspect::{CoordinatorAnswer, CoordinatorRequest, InspectId};
use ringtail::mesh::record::MeshRecord;
use ringtail::store::meta::{Fact, MetaState};

/// The coordinator and its copy.
pub struct Copies {
    original: Coordinator,
    copy: Coordinator,
    /// Something was given to them since their states were compared.
    touched: bool,
}

impl Copies {
    /// Both copies go on from the same facts.
    pub fn recovered(config: CoordinatorConfig, facts: &MetaState) -> Self {
        let entropy = Entropy::from_seed(99);
        let copy = Coordinator::recovered(CoordinatorConfig { entropy, ..config.clone() }, facts);
        Self { original: Coordinator::recovered(config, facts), copy, touched: true }
    }

    /// The one that speaks.
    pub fn original(&self) -> &Coordinator {
        &self.original
    }

    /// Both take a batch, which is left empty.
    pub fn mesh(&mut self, from: ShardId, batch: &mut Batch, now: Now) {
        let mut at = 0;
        self.touched = true;
        while let Some(record) = batch.next(&mut at) {
            if let MeshRecord::Control(control) = record {
                self.copy.control(from, control.clone(), now);
                self.original.control(from, control, now);
            }
        }
        batch.clear();
    }

    /// Both are asked from outside.
    #[allow(dead_code, reason = "only where somebody asks")]
    pub fn inspect(&mut self, id: InspectId, request: CoordinatorRequest, now: Now) {
        self.touched = true;
        self.copy.inspect(id, request.clone(), now);
        self.original.inspect(id, request, now);
    }

    /// What both have answered.
    #[allow(dead_code, reason = "only where somebody asks")]
    pub fn next_inspected(&mut self) -> Option<(InspectId, CoordinatorAnswer)> {
        let answer = self.original.next_inspected();
        assert!(
            self.copy.next_inspected() == answer,
            "a copy of the coordinator answers otherwise"
        );
        answer
    }

    /// Tells both whether the disk is full.
    pub fn disk_is_full(&mut self, is_full: bool, now: Now) {
        self.touched = true;
        self.copy.disk_is_full(is_full, now);
        self.original.disk_is_full(is_full, now);
    }

    /// What both recorded.
    pub fn take_records(&mut self) -> Vec<Fact> {
        let records = self.original.take_records();
        self.touched |= !records.is_empty();
        assert!(self.copy.take_records() == records, "a copy of the coordinator recorded others");
        records
    }

    /// What both have for a shard.
    pub fn outbound(&mut self, to: ShardId) -> &mut Batch {
        // The copy's goes nowhere.
        let copied = mem::take(self.copy.outbound(to));
        let batch = self.original.outbound(to);
        self.touched |= !copied.is_empty() || !batch.is_empty();
        batch
    }

    /// Compares the states, if anything happened that may change one.
    pub fn compare(&mut self) {
        if !mem::take(&mut self.touched) {
            return;
        }
        let (original, copy) = (&self.original, &self.copy);
        let equal = original.state_hash() == copy.state_hash();
        assert!(equal, "a copy of the coordinator differs:\n{original:#?}\n{copy:#?}");
    }
}
