//! Asking the engine about containers: questions that wait for their turn are asked together, in one command.

use std::sync::{Mutex, PoisonError};

use gx_core::plugin::serde_json::Value;
use gx_core::plugin::*;
use tokio::sync::oneshot;

use crate::describe;
use crate::engine::Engine;

/// How many are asked about in one command.
const AT_ONCE: usize = 100;

/// The questions that wait.
#[derive(Debug, Default)]
pub(crate) struct Questions {
    waiting: Mutex<Vec<Question>>,
}

#[derive(Debug)]
struct Question {
    id: ContainerId,
    answer: oneshot::Sender<Result<Option<Value>>>,
}

impl Questions {
    /// Returns what the engine says of a container.
    pub(crate) async fn ask(&self, engine: &Engine, id: &ContainerId) -> Result<Value> {
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.waiting().push(Question { id: id.clone(), answer });
            // A full command may have left this question out: then it takes the next turn.
            let told = loop {
                tokio::select! {
                    told = &mut answered => break told,
                    slot = engine.slot() => self.put(engine, slot).await,
                }
            };
            match told {
                Ok(told) => return told?.ok_or_else(|| RuntimeError::no_container(id)),
                // Whoever asked for all of us was dropped before the answer came.
                Err(_) => continue,
            }
        }
    }

    async fn put(&self, engine: &Engine, slot: tokio::sync::SemaphorePermit<'_>) {
        let asked: Vec<Question> = {
            let mut waiting = self.waiting();
            waiting.retain(|question| !question.answer.is_closed());
            let some = waiting.len().min(AT_ONCE);
            waiting.drain(..some).collect()
        };
        let mut ids: Vec<&str> = asked.iter().map(|question| question.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        let said = match ids.is_empty() {
            true => Ok(Vec::new()),
            false => engine.inspect_those_left(slot, &ids).await,
        };
        for Question { id, answer } in asked {
            let found = said.clone().map(|all| all.into_iter().find(|one| describe::is(one, &id)));
            let _ = answer.send(found);
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Question>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
