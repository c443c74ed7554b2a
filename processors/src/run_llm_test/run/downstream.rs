//! Starting the jobs behind a run. Each is asked for once: that it will be is stored before, and what came of it after.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    super::{
        plan::Downstream,
        state::{EndKind, Started},
    },
    Run,
};
use crate::{NotStarted, params::mask};

/// How long a server is waited for that does not answer, and how often it is asked.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(2);

/// Keys of the context that hold JSON: outside of a workflow a parameter is what it is, and not its text.
const JSON: [&str; 3] = ["timeRange", "metricsSummary", "relatedInstances"];

impl Run {
    /// Starts what is to be started after this end; what could not be, in words.
    pub(super) async fn start_downstream(&mut self, success: bool, context: &BTreeMap<String, String>) -> Vec<String> {
        let stopped = self.record.failure.as_ref().is_some_and(|failure| failure.kind == EndKind::Stopped);
        let Some(jobs) = self.shared.env.jobs.clone().filter(|_| !stopped) else { return Vec::new() };
        let wanted: Vec<Downstream> =
            self.plan.downstream.iter().filter(|entry| entry.when.fits(success)).cloned().collect();
        for (index, entry) in wanted.iter().enumerate() {
            if let Some(known) = self.record.downstream.get_mut(index) {
                if known.instance_id.is_none() && known.problem.is_none() {
                    known.problem = Some(
                        "the agent was killed while it was asked for; whether it runs is not known, and it is not asked for again"
                            .into(),
                    );
                }
                continue;
            }
            let params = parameters(entry, success, &self.plan.who.platform_task_id, context);
            self.record.downstream.push(Started { job: entry.job.clone(), ..Started::default() });
            if let Err(failure) = self.save().await {
                self.record.downstream[index].problem = Some(failure.reason);
                continue;
            }
            let begin = tokio::time::Instant::now();
            let started = loop {
                match jobs.start(&entry.job, &params.to_string()).await {
                    Err(NotStarted::NoServer(_)) if begin.elapsed() < PATIENCE => tokio::time::sleep(AGAIN).await,
                    other => break other,
                }
            };
            let known = &mut self.record.downstream[index];
            match started {
                Ok(id) => {
                    known.instance_id = Some(id.to_string());
                    self.ctx.log.info(format!("started the downstream job `{}` as instance {id}", entry.job));
                }
                Err(why) => known.problem = Some(mask::text(&why.to_string())),
            }
            // What is lost with a failure here is only that it was done; it is not done twice.
            let _ = self.save().await;
        }
        let failed = self.record.downstream.iter().filter_map(|known| Some((&known.job, known.problem.as_ref()?)));
        let problems: Vec<String> =
            failed.map(|(job, why)| format!("the downstream job `{job}` was not started: {why}")).collect();
        for problem in &problems {
            self.warn(problem.clone());
        }
        problems
    }
}

/// What the job gets: what the run leaves, under the names that nodes of a workflow would find, and its own parameters.
fn parameters(entry: &Downstream, success: bool, task: &str, context: &BTreeMap<String, String>) -> Value {
    let mut params = Map::new();
    params.insert("platformTaskId".into(), json!(task));
    params.insert("finalStatus".into(), json!(if success { "SUCCEED" } else { "FAILED" }));
    for (name, text) in context {
        let parsed = JSON.contains(&name.as_str()).then(|| serde_json::from_str(text).ok()).flatten();
        params.insert(name.clone(), parsed.unwrap_or_else(|| json!(text)));
    }
    params.extend(entry.params.clone());
    Value::Object(params)
}

#[cfg(test)]
mod tests {
    use super::{super::super::plan::When, *};

    #[test]
    fn a_job_gets_what_the_run_leaves_as_values_and_its_own_parameters_win() {
        let context = BTreeMap::from([
            ("logDir".to_owned(), "/logs/a".to_owned()),
            ("timeRange".to_owned(), "{\"start\":1,\"end\":2}".to_owned()),
            ("relatedInstances".to_owned(), "[\"7\"]".to_owned()),
        ]);
        let own = json!({"logDir": "/other", "retentionDays": 3}).as_object().cloned().unwrap_or_default();
        let entry = Downstream { job: "8".into(), params: own, when: When::Always };
        assert_eq!(
            parameters(&entry, false, "T1", &context),
            json!({"platformTaskId": "T1", "finalStatus": "FAILED", "logDir": "/other", "timeRange": {"start": 1, "end": 2},
                "relatedInstances": ["7"], "retentionDays": 3})
        );
        assert!(When::Success.fits(true) && !When::Success.fits(false) && When::Failure.fits(false));
    }
}
