//! A sink that does what the test wants.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use testrig_joblog::{Journal, Level, Line, Pump, PumpOptions, Sink, SinkError};
use tokio::sync::Semaphore;

use crate::common::Place;

/// What the sink answers, in order; afterwards it takes everything.
pub(crate) enum Answer {
    Retry,
    /// Takes the lines and loses the answer.
    Lost,
}

#[derive(Default)]
pub(crate) struct FakeSink {
    pub(crate) answers: Mutex<VecDeque<Answer>>,
    /// Every call, whatever the answer.
    pub(crate) calls: Mutex<Vec<Vec<Line>>>,
    pub(crate) taken: Mutex<Vec<Line>>,
    pub(crate) in_flight: AtomicUsize,
    /// A call waits for a permit, if there is a gate.
    pub(crate) gate: Option<Semaphore>,
    /// Texts that are refused.
    pub(crate) bad: Option<fn(&str) -> bool>,
}

impl FakeSink {
    pub(crate) fn answering(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), ..Self::default() }
    }

    pub(crate) fn gated() -> Self {
        Self { gate: Some(Semaphore::new(0)), ..Self::default() }
    }

    pub(crate) fn open(&self, calls: usize) {
        self.gate.as_ref().expect("a gate").add_permits(calls);
    }

    pub(crate) fn batches(&self) -> Vec<usize> {
        self.calls.lock().iter().map(Vec::len).collect()
    }

    pub(crate) fn taken(&self) -> Vec<Line> {
        self.taken.lock().clone()
    }
}

#[async_trait]
impl Sink for FakeSink {
    fn name(&self) -> &str {
        "server"
    }

    async fn send(&self, instance_id: i64, lines: &[Line]) -> Result<(), SinkError> {
        assert_eq!(instance_id, 1);
        assert_eq!(self.in_flight.fetch_add(1, Ordering::SeqCst), 0, "one batch in flight");
        self.calls.lock().push(lines.to_vec());
        if let Some(gate) = &self.gate {
            gate.acquire().await.expect("the gate stays").forget();
        }
        tokio::task::yield_now().await;
        self.in_flight.fetch_sub(1, Ordering::SeqCst);
        if let Some(line) = lines.iter().find(|line| self.bad.is_some_and(|bad| bad(&line.text))) {
            return Err(SinkError::Refused(format!("no {:?} here", line.text)));
        }
        let answer = self.answers.lock().pop_front();
        match answer {
            Some(Answer::Retry) => return Err(SinkError::Retry("nobody there".to_owned())),
            Some(Answer::Lost) => {
                self.taken.lock().extend_from_slice(lines);
                return Err(SinkError::Retry("the answer was lost".to_owned()));
            }
            None => self.taken.lock().extend_from_slice(lines),
        }
        Ok(())
    }
}

pub(crate) fn quick() -> PumpOptions {
    PumpOptions {
        linger: Duration::from_millis(5),
        first_pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(10),
        ..PumpOptions::default()
    }
}

pub(crate) const LONG: Duration = Duration::from_secs(3600);
pub(crate) const LIMIT: Option<Duration> = Some(Duration::from_secs(30));

pub(crate) fn fill(place: &Place, lines: u64) -> Arc<Journal> {
    let journal = place.journal(1);
    let text: Vec<_> = (0..lines).map(|i| format!("line {i}")).collect();
    journal.append(Level::Info, "a", &text.join("\n"));
    journal
}

pub(crate) fn pump(place: &Place, sink: &Arc<FakeSink>, options: PumpOptions) -> Pump {
    Pump::spawn(place.journal(1), Arc::clone(sink) as Arc<dyn Sink>, place.journals.cursors().clone(), options)
}

/// Waits for a state, not for a time.
pub(crate) async fn until(what: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(30), async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
    .expect("it comes to that");
}
