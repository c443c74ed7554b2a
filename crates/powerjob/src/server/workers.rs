//! The workers that the server named for this app: those of a dispatch and those that it lists when it is asked.
//!
//! Where the server can be asked, its word counts: a worker that was named long ago is asked for again before it starts tasks.
//! Where it cannot, one that was named within a week is let in: the instances that it began go on without the server, as
//! everything else does, and whoever has never been named stays out.
//!
//! An unknown worker may have become the task tracker of an instance that this one shall help with, so its first request
//! makes this worker ask the server once. Whatever strangers send, the server is asked at most for [`JOBS_AT_ONCE`] jobs
//! at a time, once for each, and not again for an address that it has just not named.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    net::Ipv4Addr,
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::future::{BoxFuture, FutureExt, Shared, WeakShared};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::peers::{host_port, resolve_host};

/// How long a named worker may start tasks before the server is asked again.
const NAMED_FOR: Duration = Duration::from_secs(600);
/// How long it may report, map and stop: that starts nothing, and a task may be long.
const MET_FOR: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an address that was not named is refused without asking again. A Java task tracker repeats after 15 s.
const REFUSED_FOR: Duration = Duration::from_secs(5);
/// Jobs for which the server is asked at the same time.
const JOBS_AT_ONCE: usize = 4;
/// Addresses that are remembered, of each kind.
const KEPT: usize = 4096;

/// Who can say which workers a job may run on.
#[async_trait]
pub(crate) trait Cluster: Send + Sync + 'static {
    /// Addresses `host:port` of the workers that may take part in the job.
    async fn workers_of(&self, job_id: i64) -> Result<Vec<String>, String>;
}

type Answer = Result<Arc<HashSet<Ipv4Addr>>, String>;
type Asked = BoxFuture<'static, Answer>;

/// What is known of other workers.
#[derive(Default)]
pub(super) struct Workers {
    cluster: Option<Arc<dyn Cluster>>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Until when a worker is remembered: [`MET_FOR`] from when it was named last.
    named: HashMap<Ipv4Addr, Instant>,
    /// Until when an address is refused.
    refused: HashMap<Ipv4Addr, Instant>,
    /// Questions under way. Weak: one that nobody waits for any more is given up with its last caller.
    asked: HashMap<i64, WeakShared<Asked>>,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.known.lock();
        f.debug_struct("Workers").field("named", &known.named.len()).field("asked", &known.asked.len()).finish()
    }
}

impl Workers {
    pub(super) fn new(cluster: Arc<dyn Cluster>) -> Self {
        Self { cluster: Some(cluster), known: Mutex::default() }
    }

    /// Whether the server has named a worker at this address so lately that it may start tasks. One on loopback may call
    /// from any loopback address.
    pub(super) fn named(&self, ip: Ipv4Addr) -> bool {
        self.left(ip) > MET_FOR - NAMED_FOR
    }

    /// Whether the server has ever named a worker at this address, within a week.
    pub(super) fn met(&self, ip: Ipv4Addr) -> bool {
        self.left(ip) > Duration::ZERO
    }

    /// For how long the address is remembered still.
    fn left(&self, ip: Ipv4Addr) -> Duration {
        let now = Instant::now();
        let known = self.known.lock();
        let until = if ip.is_loopback() {
            known.named.iter().filter(|(named, _)| named.is_loopback()).map(|(_, until)| *until).max()
        } else {
            known.named.get(&ip).copied()
        };
        until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }

    /// Remembers workers that the server named.
    pub(super) async fn name(&self, addresses: &[String]) {
        let ips = resolve(addresses).await;
        self.remember(&ips);
    }

    fn remember(&self, ips: &HashSet<Ipv4Addr>) {
        let now = Instant::now();
        let known = &mut *self.known.lock();
        make_room(&mut known.named, now);
        for ip in ips.iter().take(KEPT.saturating_sub(known.named.len())) {
            known.named.insert(*ip, now + MET_FOR);
            known.refused.remove(ip);
        }
    }

    /// Asks the server whether a worker at this address may take part in the job.
    ///
    /// # Errors
    /// Why not.
    pub(super) async fn ask(&self, ip: Ipv4Addr, job_id: i64) -> Result<(), String> {
        if self.known.lock().refused.get(&ip).is_some_and(|until| *until > Instant::now()) {
            return Err(format!("the server has just named no worker at {ip}"));
        }
        let named = match self.question(job_id) {
            Ok(question) => question.await,
            Err(why) => Err(why),
        };
        let named = match named {
            Ok(named) => named,
            Err(why) if self.met(ip) => {
                tracing::debug!(peer = %ip, job_id, why, "the server cannot be asked; the worker was named before and is let in");
                return Ok(());
            }
            Err(why) => return Err(format!("the server cannot be asked about job {job_id}: {why}")),
        };
        self.remember(&named);
        if self.named(ip) {
            return Ok(());
        }
        let now = Instant::now();
        let known = &mut *self.known.lock();
        make_room(&mut known.refused, now);
        if known.refused.len() < KEPT {
            known.refused.insert(ip, now + REFUSED_FOR);
        }
        Err(format!("the server names no worker at {ip} for job {job_id}"))
    }

    /// The question that is under way for the job, or a new one.
    fn question(&self, job_id: i64) -> Result<Shared<Asked>, String> {
        let cluster = self.cluster.clone().ok_or("there is no server to ask")?;
        let known = &mut *self.known.lock();
        known.asked.retain(|_, question| question.upgrade().is_some_and(|question| question.peek().is_none()));
        if let Some(question) = known.asked.get(&job_id).and_then(WeakShared::upgrade) {
            return Ok(question);
        }
        if known.asked.len() >= JOBS_AT_ONCE {
            return Err(format!("it is being asked about {JOBS_AT_ONCE} other jobs"));
        }
        let question: Shared<Asked> =
            async move { Ok(Arc::new(resolve(&cluster.workers_of(job_id).await?).await)) }.boxed().shared();
        known.asked.extend(question.downgrade().map(|weak| (job_id, weak)));
        Ok(question)
    }
}

/// Drops what is over; where that is not enough, what ends first.
fn make_room(map: &mut HashMap<Ipv4Addr, Instant>, now: Instant) {
    if map.len() < KEPT {
        return;
    }
    map.retain(|_, until| *until > now);
    while map.len() >= KEPT {
        let Some(oldest) = map.iter().min_by_key(|(_, until)| **until).map(|(ip, _)| *ip) else { return };
        map.remove(&oldest);
    }
}

async fn resolve(addresses: &[String]) -> HashSet<Ipv4Addr> {
    let all = addresses.iter().take(KEPT).map(|address| {
        let (host, port) = host_port(address);
        resolve_host(host, port)
    });
    futures_util::future::join_all(all).await.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Semaphore;

    use super::*;

    /// Names these addresses once the test lets it, and counts how often it was asked.
    struct Fake {
        lists: Mutex<Result<Vec<String>, String>>,
        asked: AtomicUsize,
        go: Semaphore,
    }

    #[async_trait]
    impl Cluster for Fake {
        async fn workers_of(&self, _job_id: i64) -> Result<Vec<String>, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.go.acquire().await.expect("open").forget();
            self.lists.lock().clone()
        }
    }

    fn rig(lists: &[&str], answers: usize) -> (Arc<Fake>, Arc<Workers>) {
        let lists = Mutex::new(Ok(lists.iter().map(ToString::to_string).collect()));
        let fake = Arc::new(Fake { lists, asked: AtomicUsize::new(0), go: Semaphore::new(answers) });
        (fake.clone(), Arc::new(Workers::new(fake)))
    }

    fn ip(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, last)
    }

    #[tokio::test]
    async fn a_worker_that_the_server_lists_is_let_in_and_the_server_is_not_asked_again() {
        let (fake, workers) = rig(&["10.0.0.5:27777", "10.0.0.6:27777"], 9);
        assert!(!workers.named(ip(5)));
        assert_eq!(workers.ask(ip(5), 1).await, Ok(()));
        assert!(workers.named(ip(5)) && workers.named(ip(6)) && !workers.named(ip(7)));
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_server_names_is_forgotten_after_its_time() {
        let (_, workers) = rig(&[], 9);
        workers.name(&["10.0.0.5:27777".to_owned(), "not an address".to_owned()]).await;
        assert!(workers.named(ip(5)));
        tokio::time::advance(NAMED_FOR).await;
        assert!(!workers.named(ip(5)) && workers.met(ip(5)), "it may not start tasks any more, but end those it has");
        tokio::time::advance(MET_FOR).await;
        assert!(!workers.met(ip(5)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_stranger_that_the_server_does_not_list_costs_one_question_in_a_while() {
        let (fake, workers) = rig(&["10.0.0.5:27777"], 9);
        for job in 1..=5 {
            let why = workers.ask(ip(9), job).await.expect_err("not listed");
            assert!(why.contains("no worker at 10.0.0.9"), "{why}");
        }
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
        tokio::time::advance(REFUSED_FOR).await;
        // A worker that has just started: the server knows it now.
        *fake.lists.lock() = Ok(vec!["10.0.0.9:27777".to_owned()]);
        assert_eq!(workers.ask(ip(9), 1).await, Ok(()));
    }

    #[tokio::test]
    async fn one_question_answers_all_callers_of_a_job() {
        let (fake, workers) = rig(&["10.0.0.5:27777"], 0);
        let callers: Vec<_> = (0..20)
            .map(|_| {
                let workers = workers.clone();
                tokio::spawn(async move { workers.ask(ip(5), 1).await })
            })
            .collect();
        tokio::task::yield_now().await;
        fake.go.add_permits(1);
        for caller in callers {
            assert_eq!(caller.await.expect("no panic"), Ok(()));
        }
        assert_eq!(fake.asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn callers_that_go_away_take_their_question_with_them_and_no_more_than_four_are_under_way() {
        let (fake, workers) = rig(&["10.0.0.5:27777"], 0);
        let mut callers: Vec<_> = (0..i64::try_from(JOBS_AT_ONCE).expect("small"))
            .map(|job| {
                let workers = workers.clone();
                tokio::spawn(async move { workers.ask(ip(5), job).await })
            })
            .collect();
        tokio::task::yield_now().await;
        let why = workers.ask(ip(6), 77).await.expect_err("too many");
        assert!(why.contains("4 other jobs"), "{why}");
        let gone = callers.pop().expect("a caller");
        gone.abort();
        assert!(gone.await.expect_err("aborted").is_cancelled());
        fake.go.add_permits(9);
        assert_eq!(workers.ask(ip(5), 77).await, Ok(()), "its place is free");
        for caller in callers {
            assert_eq!(caller.await.expect("no panic"), Ok(()));
        }
    }

    #[tokio::test]
    async fn a_server_that_cannot_be_asked_refuses_nobody_for_longer_than_that() {
        let (fake, workers) = rig(&[], 9);
        *fake.lists.lock() = Err("no server is known now".to_owned());
        let why = workers.ask(ip(5), 3).await.expect_err("no answer");
        assert!(why.contains("job 3") && why.contains("no server is known"), "{why}");
        *fake.lists.lock() = Ok(vec!["10.0.0.5:27777".to_owned()]);
        assert_eq!(workers.ask(ip(5), 3).await, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_server_cannot_be_asked_workers_that_it_named_before_may_start_tasks_and_no_others() {
        let (fake, workers) = rig(&[], 9);
        workers.name(&["10.0.0.5:27777".to_owned()]).await;
        tokio::time::advance(NAMED_FOR).await;
        *fake.lists.lock() = Err("no server is known now".to_owned());
        assert!(!workers.named(ip(5)), "the server is asked first");
        assert_eq!(workers.ask(ip(5), 3).await, Ok(()));
        let why = workers.ask(ip(6), 3).await.expect_err("never named");
        assert!(why.contains("cannot be asked"), "{why}");
        // It is back, and its word counts: the worker has left the app.
        *fake.lists.lock() = Ok(Vec::new());
        let why = workers.ask(ip(5), 3).await.expect_err("not named any more");
        assert!(why.contains("no worker at 10.0.0.5"), "{why}");
        *fake.lists.lock() = Err("no server is known now".to_owned());
        workers.ask(ip(5), 3).await.expect_err("what it said last still counts");
        tokio::time::advance(MET_FOR).await;
        workers.ask(ip(5), 3).await.expect_err("named too long ago");
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let (fake, workers) = rig(&[], 2 * KEPT);
        for n in 0..2 * KEPT {
            let stranger = Ipv4Addr::from_bits(0x0a00_0000 + u32::try_from(n).expect("small"));
            workers.ask(stranger, 1).await.expect_err("not listed");
        }
        assert!(workers.known.lock().refused.len() <= KEPT);
        let many: Vec<String> = (0..2 * KEPT).map(|n| format!("10.1.{}.{}:1", n / 256, n % 256)).collect();
        *fake.lists.lock() = Ok(Vec::new());
        workers.name(&many).await;
        assert!(workers.known.lock().named.len() <= KEPT);
    }
}
