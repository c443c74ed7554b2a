//! Making a batch durable, and waiting where the store fails.

use std::{collections::HashMap, time::Instant};

use super::{Batch, Driver, Held, Input, Leaving, STORE_RETRY, STUCK_HEARTBEAT};
use crate::{
    causes::with_causes,
    core::{Event, Write},
    server::StoreProblem,
    worker::{Shutdown, records::Durable},
};

impl Driver {
    /// Makes the writes of the batches durable, all or none.
    pub(super) async fn commit<const N: usize>(&mut self, batches: [&Batch; N]) -> Result<(), String> {
        let requests = batches.iter().flat_map(|batch| &batch.requests);
        let mut requests: HashMap<i64, &String> = requests.map(|(id, text)| (*id, text)).collect();
        // First: an id among them may be closed once more by this batch.
        let mut writes: Vec<Durable> = self.p.logs_closed.iter().map(|&id| Durable::LogClosed(id)).collect();
        let known = writes.len();
        let outputs = batches.iter().flat_map(|batch| &batch.outputs);
        for write in outputs.flat_map(|output| &output.writes) {
            let request = match write {
                Write::Put(record) => requests.remove(&record.dispatch.instance_id).cloned(),
                _ => None,
            };
            writes.push(Durable::Core { write: write.clone(), request });
        }
        if writes.len() == known {
            return Ok(());
        }
        match self.p.records.commit(writes).await {
            Ok(()) => {
                self.p.logs_closed.clear();
                if self.p.shared.state.write().store_error.take().is_some() {
                    tracing::info!("the state store can be written again");
                }
                Ok(())
            }
            Err(error) => {
                let why = format!("the state store cannot be written: {}", with_causes(&error));
                self.p.shared.counters.store_failures.one();
                if self.p.shared.state.write().store_error.replace(why.clone()).is_none() {
                    tracing::error!("{why}; dispatches are refused until it can");
                }
                Err(why)
            }
        }
    }

    pub(super) async fn try_held(&mut self) {
        let Some(held) = self.held.take_if(|held| held.retry_at <= Instant::now()) else {
            return;
        };
        let Held { batch, heartbeat_at, .. } = held;
        if self.commit([&batch]).await.is_ok() {
            return self.carry_out(batch).await;
        }
        let now = Instant::now();
        let heartbeat_at = if heartbeat_at <= now {
            let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
            let (light, heavy) = {
                let records = self.p.shared.records.read();
                let heavy = records.values().filter(|record| record.dispatch.is_heavy()).count();
                (records.len() - heavy, heavy)
            };
            self.send_heartbeat(true, count(light), count(heavy));
            now + STUCK_HEARTBEAT
        } else {
            heartbeat_at
        };
        self.held = Some(Held { batch, retry_at: now + STORE_RETRY, heartbeat_at });
    }

    /// While the store fails no dispatch can be taken, and ticks only say again what time it is.
    pub(super) fn refuse_dispatches(&mut self) {
        let why = self.p.shared.state.read().store_error.clone().unwrap_or_default();
        let waiting = std::mem::take(&mut self.waiting);
        for input in waiting {
            match input {
                Input::Dispatch { answer, .. } => {
                    self.p.shared.counters.dispatches_not_stored.one();
                    // The server may have hung up.
                    let _ = answer.send(Err(StoreProblem(why.clone())));
                }
                Input::Event(Event::Tick) => {}
                Input::Shutdown(how) => {
                    // A goodbye cannot wait for a store that may stay full for ever.
                    let fresh = || Leaving { how, said_goodbye: true, since: Instant::now(), cancelled: None };
                    self.leaving.get_or_insert_with(fresh).how = how;
                    // The core hears of it when the store works again, or it would take new instances then.
                    if how != Shutdown::Detach {
                        self.waiting.push_back(Input::Shutdown(how));
                    }
                }
                other => self.waiting.push_back(other),
            }
        }
    }
}
