//! What is measured.

mod empties;
mod lines;
mod start;
mod tasks;

use futures_util::future::BoxFuture;

use crate::{
    Failure,
    app::App,
    options::Options,
    subject::{Kind, Worker},
    table::Row,
};

/// The figures of a measurement, some time later.
type Rows<'a> = BoxFuture<'a, Result<Vec<Row>, Failure>>;

/// One measurement.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) run: for<'a> fn(&'a Bench<'_>) -> Rows<'a>,
}

/// All of them, in the order in which they run.
pub(crate) const ALL: &[Case] = &[
    Case { name: "start", run: |bench| Box::pin(start::listed(bench)) },
    Case { name: "running", run: |bench| Box::pin(start::running(bench)) },
    Case { name: "memory", run: |bench| Box::pin(empties::memory(bench)) },
    Case { name: "empties", run: |bench| Box::pin(empties::many(bench)) },
    Case { name: "tasks", run: |bench| Box::pin(tasks::empty_tasks(bench)) },
    Case { name: "two-workers", run: |bench| Box::pin(tasks::two_workers(bench)) },
    Case { name: "map-reduce", run: |bench| Box::pin(tasks::large(bench)) },
    Case { name: "lines", run: |bench| Box::pin(lines::one_instance(bench)) },
    Case { name: "million", run: |bench| Box::pin(empties::million(bench)) },
];

/// What the cases share.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) kinds: Vec<Kind>,
}

impl<'a> Bench<'a> {
    pub(crate) async fn new(options: &'a Options) -> Result<Self, Failure> {
        std::fs::create_dir_all(&options.work)?;
        let mut kinds = vec![Kind::Ours];
        kinds.extend(options.java.as_ref().map(|_| Kind::Java));
        // Fails early, with the reason, where the server does not answer.
        App::new(&options.server, "probe").await?;
        Ok(Self { options, kinds })
    }

    /// An app of its own, so that the workers of one case never see the jobs of another.
    pub(crate) async fn app(&self, case: &str) -> Result<App, Failure> {
        App::new(&self.options.server, case).await
    }

    pub(crate) async fn worker(&self, kind: Kind, app: &App) -> Result<Worker, Failure> {
        Worker::start(self.options, kind, app).await
    }
}

/// The figures of both workers, side by side.
pub(crate) struct Both<T> {
    ours: Option<T>,
    java: Option<T>,
}

impl<T> Default for Both<T> {
    fn default() -> Self {
        Self { ours: None, java: None }
    }
}

impl<T> Both<T> {
    pub(crate) fn set(&mut self, kind: Kind, value: T) {
        match kind {
            Kind::Ours => self.ours = Some(value),
            Kind::Java => self.java = Some(value),
        }
    }

    pub(crate) fn entry(&mut self, kind: Kind) -> &mut T
    where
        T: Default,
    {
        match kind {
            Kind::Ours => self.ours.get_or_insert_default(),
            Kind::Java => self.java.get_or_insert_default(),
        }
    }

    /// A row of the table; `met` judges ours.
    pub(crate) fn row(
        &self,
        what: &str,
        goal: &'static str,
        show: impl Fn(&T) -> String,
        met: impl Fn(&T) -> bool,
    ) -> Row {
        Row {
            what: what.to_owned(),
            java: self.java.as_ref().map(&show),
            ours: self.ours.as_ref().map_or_else(|| "not measured".to_owned(), &show),
            goal,
            met: self.ours.as_ref().is_some_and(met),
        }
    }

    /// The same, judging ours beside the other one.
    pub(crate) fn compare(
        &self,
        what: &str,
        goal: &'static str,
        show: impl Fn(&T) -> String,
        met: impl Fn(&T, Option<&T>) -> bool,
    ) -> Row {
        self.row(what, goal, show, |ours| met(ours, self.java.as_ref()))
    }
}
