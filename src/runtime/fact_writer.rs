//! A thread that makes durable facts durable, so that the coordinator answers what does not depend
//! on them meanwhile.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};

use crate::runtime::wakeup::Wakeup;
use crate::store::meta::{Fact, Folder, MetaLog, MetaNote};
use crate::store::op::DiskError;

/// How a write ended.
#[derive(Debug)]
pub struct WrittenFacts {
    /// What was to be written; see [`MetaLog::append`].
    pub facts: Vec<Fact>,
    /// Whether it is durable.
    pub result: Result<(), DiskError>,
    /// Problems that the operator should know.
    pub notes: Vec<MetaNote>,
}

/// The running thread. It ends with this value, behind what was begun.
#[derive(Debug)]
pub struct FactWriter {
    /// None only while it ends.
    jobs: Option<Sender<Vec<Fact>>>,
    done: Receiver<WrittenFacts>,
    thread: Option<JoinHandle<()>>,
}

impl FactWriter {
    /// Starts the thread. Behind each write it wakes the owner of `wakeup`.
    ///
    /// # Errors
    ///
    /// The system's, if it gives no thread.
    pub fn start<F: Folder + Send + 'static>(
        mut log: MetaLog<F>,
        wakeup: Arc<Wakeup>,
    ) -> io::Result<Self> {
        let (jobs, begun) = channel::<Vec<Fact>>();
        let (ended, done) = channel();
        let write = move || {
            for facts in begun {
                let result = log.append(&facts);
                let notes = log.take_notes();
                if ended.send(WrittenFacts { facts, result, notes }).is_err() {
                    return;
                }
                wakeup.wake_always();
            }
        };
        let thread = thread::Builder::new().name("ringtail-facts".to_owned()).spawn(write)?;
        Ok(Self { jobs: Some(jobs), done, thread: Some(thread) })
    }

    /// Begins to write facts. False if the thread is dead.
    pub fn begin(&self, facts: Vec<Fact>) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(facts).is_ok())
    }

    /// How the write ended; `None` while it is under way.
    ///
    /// # Errors
    ///
    /// The thread is dead.
    pub fn written(&self) -> Result<Option<WrittenFacts>, TryRecvError> {
        match self.done.try_recv() {
            Ok(written) => Ok(Some(written)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(dead) => Err(dead),
        }
    }
}

impl Drop for FactWriter {
    fn drop(&mut self) {
        self.jobs = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that writes durable facts died");
        }
    }
}
