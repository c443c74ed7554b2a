//! What a job would do, found out without doing any of it.

use serde::Serialize;

use crate::{
    Environment, aggregate_metrics, collect_logs, notify_result,
    params::{self, Input, Problems, Resolved, Table},
    platform_log, run_llm_test, service_control,
};

/// What a job comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    /// Every parameter that has a value, by name; secrets are masked.
    pub parameters: Vec<Resolved>,
    /// What would be done, in the order of the stages; only RunLLMTest has such a plan, and none if there are problems.
    pub plan: Vec<Step>,
    /// What would be said and does not stop the job.
    pub warnings: Vec<String>,
    /// What would make it fail before anything starts: the parameter's path and what is wrong.
    pub problems: Vec<Trouble>,
}

/// One line of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What it is about, e.g. `image`.
    pub about: &'static str,
    /// What would be, in words.
    pub text: String,
    /// It would fail, or wait, as things are now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub hindered: bool,
}

/// A problem.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trouble {
    /// The parameter, e.g. `jobParams.healthCheck.type`.
    pub path: String,
    /// What was found and what is accepted.
    pub text: String,
    /// Its value is one that earlier nodes of a workflow append: it may be there when its turn comes.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub from_upstream: bool,
}

/// Reads the parameters of a job as its processor would and decides what would be done. Asks the container engine and the
/// accelerators how things are; starts, takes and writes nothing. `None` = a processor that reads its parameters only while
/// it works (the official ones).
pub async fn preview(env: &Environment, processor: &str, input: &Input<'_>) -> Option<Preview> {
    let table = service_control::table_of(processor)
        .or_else(|| crate::tables().iter().copied().find(|table| table.processor == processor))?;
    let mut plan = Vec::new();
    let read = if table.processor == run_llm_test::TABLE.processor {
        let mut params = platform_log::read(env, table, input);
        match run_llm_test::preview(env, &mut params).await {
            Ok(steps) => {
                plan = steps;
                Ok(params)
            }
            Err(problems) => Err((params, problems)),
        }
    } else {
        let checked = match table.processor {
            name if name == collect_logs::TABLE.processor => collect_logs::check(input, env),
            name if name == aggregate_metrics::TABLE.processor => aggregate_metrics::check(input, env),
            name if name == notify_result::TABLE.processor => notify_result::check(input, env),
            _ => service_control::check(processor, input, env),
        };
        checked.map_err(|problems| (params::read(table, input), problems))
    };
    let (params, problems) = match read {
        Ok(params) => (params, Vec::new()),
        Err((params, problems)) => (params, troubles(table, input, problems)),
    };
    Some(Preview { parameters: params.resolved(), plan, warnings: params.warnings(), problems })
}

fn troubles(table: &Table, input: &Input<'_>, problems: Problems) -> Vec<Trouble> {
    let upstream = |path: &str| {
        let name = path.split_once('.').map_or(path, |(_, name)| name);
        input.in_workflow && table.takes_from_upstream(name)
    };
    let one = |problem: params::Problem| Trouble {
        from_upstream: upstream(&problem.path) && problem.is_missing(),
        path: problem.path,
        text: problem.text,
    };
    problems.list.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn input<'a>(job: &'a str, run: &'a str, in_workflow: bool) -> Input<'a> {
        Input { job_params: Some(job), instance_params: Some(run), in_workflow, neighbours: crate::tables() }
    }

    #[tokio::test]
    async fn a_good_run_shows_its_plan_and_where_every_value_came_from_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut env = testing::environment(dir.path());
        env.docker_endpoint = Some(format!("unix://{}/none.sock", dir.path().display()));
        let job = json!({"jobType": "RUN_LLM_TEST", "hostLogBaseDir": dir.path().join("logs"), "docker.baseImage": "llm/qwen:1",
            "healthCheck": {"path": "/ready"}, "test.apiKeyRef": null, "docker.defaultGpuCount": 2});
        let run = json!({"platformTaskId": "T1", "modelKey": "m", "servicePort": 8000, "runSeconds": 5, "scenario": "chat_completion",
            "envVars": {"HF_TOKEN": "tell-nobody"}});
        let (job, run) = (job.to_string(), run.to_string());
        let shown = preview(&env, "RunLLMTest", &input(&job, &run, false)).await.expect("it has a table");
        assert_eq!(shown.problems, []);
        let from = |name: &str| shown.parameters.iter().find(|value| value.name == name).map(|value| value.from);
        assert_eq!(from("runSeconds"), Some("instanceParams"));
        assert_eq!(from("healthCheck.path"), Some("jobParams"));
        assert_eq!(from("healthCheck.intervalMillis"), Some("default"));
        let step = |about: &str| shown.plan.iter().find(|step| step.about == about).expect(about);
        assert!(step("image").text.starts_with("llm/qwen:1; whether it is on this host cannot be said"), "{shown:?}");
        assert!(step("accelerators").hindered && step("accelerators").text.contains("2 accelerators"), "{shown:?}");
        assert!(step("log directory").text.ends_with("/task-T1-{instance id}"), "{shown:?}");
        assert!(!serde_json::to_string(&shown).expect("JSON").contains("tell-nobody"));
        assert_eq!(std::fs::read_dir(dir.path()).expect("readable").count(), 0, "nothing was written");
    }

    #[tokio::test]
    async fn every_problem_is_shown_and_what_earlier_nodes_will_say_is_told_apart() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = testing::environment(dir.path());
        let job =
            json!({"jobType": "COLLECT_LOGS", "logBaseDir": dir.path(), "uploadBase": "/nowhere/else"}).to_string();
        let shown =
            preview(&env, "CollectLogs", &input(&job, r#"{"platformTaskId":"T1"}"#, true)).await.expect("known");
        let trouble = |name: &str| shown.problems.iter().find(|trouble| trouble.path.ends_with(name));
        assert!(trouble("upstreamInstanceId").expect("missing").from_upstream, "{shown:?}");
        assert!(!trouble("uploadBase").expect("outside of the roots").from_upstream, "{shown:?}");
        assert!(preview(&env, "no.such.Processor", &input("{}", "{}", false)).await.is_none());
    }

    #[tokio::test]
    async fn every_processor_with_a_table_can_be_shown() {
        let dir = tempfile::tempdir().expect("a directory");
        let env = testing::environment(dir.path());
        let launchers = [service_control::PYTHON_LAUNCHER, service_control::PYTHON_LAUNCHER_STREAMING];
        for name in crate::tables().iter().map(|table| table.processor).chain(launchers) {
            let shown = preview(&env, name, &input("{}", "{}", false)).await.expect(name);
            assert!(!shown.parameters.is_empty(), "{name} has defaults");
        }
    }
}
