//! What the tasks of an instance ended with, for `reduce` and `post_process`.

use std::{collections::VecDeque, sync::Arc};

use async_trait::async_trait;

use crate::tasks::api::{ResultSource, TaskResult};

/// Results read at once.
const PAGE: usize = 500;

/// Reads the results of all ended tasks of an instance in the order in which the tasks were made, the root first. A
/// million of them need no memory.
///
/// ```
/// # async fn example(mut results: powerjob_worker::TaskResults) -> Result<(), powerjob_worker::ResultsError> {
/// let mut failed = 0;
/// while let Some(task) = results.next().await? {
///     failed += i32::from(!task.success);
/// }
/// # Ok(())
/// # }
/// ```
pub struct TaskResults {
    source: Arc<dyn ResultSource>,
    page: VecDeque<TaskResult>,
    last: Option<TaskResult>,
    ended: bool,
}

/// The results could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to read the results of the tasks: {0}")]
pub struct ResultsError(pub String);

impl TaskResults {
    /// The results that this source gives.
    pub fn new(source: Arc<dyn ResultSource>) -> Self {
        Self { source, page: VecDeque::new(), last: None, ended: false }
    }

    /// These results, e.g. for tests of a processor.
    pub fn of(results: Vec<TaskResult>) -> Self {
        Self::new(Arc::new(Listed(results)))
    }

    /// The next result; `None` after the last.
    ///
    /// # Errors
    /// When the worker's store fails. The next call tries again.
    pub async fn next(&mut self) -> Result<Option<TaskResult>, ResultsError> {
        if self.page.is_empty() && !self.ended {
            let page = self.source.page(self.last.as_ref(), PAGE).await.map_err(ResultsError)?;
            self.ended = page.is_empty();
            self.last = page.last().cloned().or(self.last.take());
            self.page = page.into();
        }
        Ok(self.page.pop_front())
    }

    /// All that are left, in memory.
    ///
    /// # Errors
    /// When the worker's store fails.
    pub async fn all(mut self) -> Result<Vec<TaskResult>, ResultsError> {
        let mut all = Vec::new();
        while let Some(result) = self.next().await? {
            all.push(result);
        }
        Ok(all)
    }

    /// How many of those that are left succeeded and failed.
    ///
    /// # Errors
    /// When the worker's store fails.
    pub async fn count(mut self) -> Result<ResultCount, ResultsError> {
        let mut count = ResultCount::default();
        while let Some(result) = self.next().await? {
            if result.success {
                count.succeeded += 1;
            } else {
                count.failed += 1;
            }
        }
        Ok(count)
    }
}

impl std::fmt::Debug for TaskResults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TaskResults").field("last", &self.last).finish_non_exhaustive()
    }
}

/// Numbers of ended tasks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResultCount {
    /// Succeeded ones.
    pub succeeded: u64,
    /// Failed ones.
    pub failed: u64,
}

struct Listed(Vec<TaskResult>);

#[async_trait]
impl ResultSource for Listed {
    async fn page(&self, after: Option<&TaskResult>, limit: usize) -> Result<Vec<TaskResult>, String> {
        let from = after.map_or(0, |after| self.0.iter().take_while(|r| r.task_id != after.task_id).count() + 1);
        Ok(self.0.iter().skip(from).take(limit).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn results(count: usize) -> Vec<TaskResult> {
        let one =
            |n: usize| TaskResult { task_id: format!("0.{n}"), success: !n.is_multiple_of(3), result: n.to_string() };
        (0..count).map(one).collect()
    }

    #[tokio::test]
    async fn results_come_once_each_and_in_order_over_any_number_of_pages() {
        for count in [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE] {
            let all = TaskResults::of(results(count)).all().await.expect("readable");
            assert_eq!(all, results(count));
        }
        let count = TaskResults::of(results(1000)).count().await.expect("readable");
        assert_eq!(count, ResultCount { succeeded: 666, failed: 334 });
    }

    #[tokio::test]
    async fn a_page_that_fails_is_asked_for_again() {
        struct Fails(std::sync::atomic::AtomicBool);
        #[async_trait]
        impl ResultSource for Fails {
            async fn page(&self, after: Option<&TaskResult>, limit: usize) -> Result<Vec<TaskResult>, String> {
                if self.0.swap(false, std::sync::atomic::Ordering::Relaxed) {
                    return Err("disk full".to_owned());
                }
                Listed(results(2)).page(after, limit).await
            }
        }
        let mut results = TaskResults::new(Arc::new(Fails(true.into())));
        assert_eq!(
            results.next().await.expect_err("fails").to_string(),
            "failed to read the results of the tasks: disk full"
        );
        assert_eq!(results.all().await.expect("readable").len(), 2);
    }
}
