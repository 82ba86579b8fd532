//! Answers to threads outside the data path that were not taken yet.

use std::collections::VecDeque;

use model::{RequestId, ShardId};

use crate::mesh::control::{Answer, Control};
use crate::mesh::inspect::{CoordinatorAnswer, InspectId};

/// Answers that were not taken yet.
#[derive(Debug)]
pub(in crate::coordinator) struct OutsideAnswers {
    /// The coordinator's endpoint, which no shard has.
    pub own: ShardId,
    pub answers: VecDeque<(InspectId, CoordinatorAnswer)>,
}

impl OutsideAnswers {
    pub fn new(own: ShardId) -> Self {
        Self { own, answers: VecDeque::new() }
    }

    /// Takes the coordinator's own answers out of what is to be sent.
    pub fn take_from(&mut self, outbound: &mut Vec<(ShardId, Control)>) {
        for (_, control) in outbound.extract_if(.., |(to, _)| *to == self.own) {
            if let Control::Answer(RequestId(id), answer) = control {
                self.answers.push_back((InspectId(id), answer_to_command(answer)));
            }
        }
    }
}

fn answer_to_command(answer: Answer) -> CoordinatorAnswer {
    match answer {
        Answer::Deleted(messages) => CoordinatorAnswer::Deleted(messages),
        Answer::Admin(answer) => CoordinatorAnswer::Admin(answer),
        Answer::Refused(refusal) => CoordinatorAnswer::Refused(refusal),
        other => {
            debug_assert!(other == Answer::NoVhost, "{other:?} is no answer to a command");
            CoordinatorAnswer::NoVhost
        }
    }
}
