//! A coordinator and a second copy of it with other hash seeds, which get the same input at the
//! same times: their states and what they say have to be the same.

use model::replay::StateHash;
use model::topology::Topology;
use model::{Entropy, Now, ShardId};

use crate::coordinator::{Coordinator, CoordinatorConfig};
use crate::mesh::control::Control;
use crate::store::meta::{Fact, MetaState};

/// The coordinator and its copy.
pub(in crate::coordinator) struct Copies {
    pub original: Coordinator,
    copy: Coordinator,
}

impl Copies {
    pub fn new(config: &CoordinatorConfig) -> Self {
        Self::recovered(config, &MetaState::default())
    }

    pub fn recovered(config: &CoordinatorConfig, state: &MetaState) -> Self {
        let other = CoordinatorConfig { entropy: Entropy::from_seed(99), ..config.clone() };
        let original = Coordinator::recovered(config.clone(), state);
        let copies = Self { original, copy: Coordinator::recovered(other, state) };
        copies.compare();
        copies
    }

    /// Compares the states.
    fn compare(&self) {
        let (original, copy) = (&self.original, &self.copy);
        assert_eq!(original.state_hash(), copy.state_hash(), "{original:#?}\n{copy:#?}");
    }

    pub fn control(&mut self, from: ShardId, control: Control, now: Now) {
        self.copy.control(from, control.clone(), now);
        self.original.control(from, control, now);
        self.compare();
    }

    pub fn disk_is_full(&mut self, is_full: bool, now: Now) {
        self.copy.disk_is_full(is_full, now);
        self.original.disk_is_full(is_full, now);
        self.compare();
    }

    pub fn take_records(&mut self) -> Vec<Fact> {
        let records = self.original.take_records();
        assert_eq!(self.copy.take_records(), records);
        records
    }

    pub fn take_outbound(&mut self) -> Vec<(ShardId, Control)> {
        let outbound = self.original.take_outbound();
        assert_eq!(self.copy.take_outbound(), outbound);
        outbound
    }

    pub fn topology(&self) -> &Topology {
        self.original.topology()
    }
}

/// Each part of the state is in the hash: an input that one copy alone gets is seen.
#[test]
fn a_copy_that_missed_an_input_is_found() {
    use crate::coordinator::tests::script::{bind, config, declare, login, queue, to_queue};
    use crate::mesh::control::Request;
    use model::{ChannelId, ConnId, RequestId};

    let ask = |request| Control::Ask(RequestId(1), request);
    let open = Request::OpenVhost { conn: ConnId(1), user: "guest".into(), vhost: "/".into() };
    for control in [
        ask(declare(queue("q", None))),
        ask(bind(to_queue("amq.fanout", "q"))),
        ask(login("guest", "wrong")),
        ask(open),
        ask(Request::OpenChannel { channel: ChannelId(1), user: "guest".into() }),
        Control::Applied(1),
        Control::Memory(1),
    ] {
        let mut copies = Copies::new(&config());
        let before = copies.original.state_hash();
        copies.original.control(ShardId(0), control.clone(), Now::default());
        copies.original.take_records();
        assert_ne!(copies.original.state_hash(), before, "{control:?}");
        assert_eq!(copies.copy.state_hash(), before);
    }
}
