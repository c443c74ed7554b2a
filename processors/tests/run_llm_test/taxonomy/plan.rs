//! What fails before anything starts: parameters, and what the agent does not give.

use serde_json::json;
use testrig_store::rusqlite;

use super::{
    devices::{busy_card, with_cards},
    row::{Row, play},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_the_parameters_is_told_apart_from_what_the_agent_does_not_allow() {
    play(
        8500,
        vec![
            Row::new("a wrong type", "bad_parameters", "plan")
                .run("resources", json!({"gpus": "two"}))
                .says("instanceParams.resources.gpus: found the text \"two\""),
            Row::new("an unknown word", "bad_parameters", "plan")
                .job("healthCheck", json!({"type": "READY"}))
                .says("READY_TOKEN"),
            Row::new("out of range", "bad_parameters", "plan").run("servicePort", json!(99_999)).says("1 to 65535"),
            Row::new("something missing", "bad_parameters", "plan")
                .job("hostLogBaseDir", json!(null))
                .says("jobParams.hostLogBaseDir"),
            Row::new("a dataset that is not there", "bad_parameters", "plan")
                .params(|rig, _, run| run["datasetPath"] = json!(rig.place.dir.path().join("missing.jsonl")))
                .says("failed to read dataset"),
            Row::new("something wrong beside something not allowed", "bad_parameters", "plan")
                .job("hostLogBaseDir", json!("/etc/testrig-logs"))
                .run("runSeconds", json!(-1)),
            Row::new("a directory outside of the roots", "refused", "plan")
                .job("hostLogBaseDir", json!("/etc/testrig-logs"))
                .says("outside of the allowed roots"),
            Row::new("a program that is not allowed", "refused", "plan")
                .host(|_, env| env.allowed_programs = Some(vec!["/opt/only/this".into()]))
                .says("service.command[0]"),
            Row::new("a log directory that another run uses", "refused", "plan")
                .params(|rig, _, _| {
                    let today = jiff::Zoned::now().strftime("%Y%m%d").to_string();
                    let dir = rig.place.dir.path().join("logs/dev").join(today).join(format!("task-{}", rig.instance));
                    let add = rig.place.store.write(move |conn: &rusqlite::Connection| {
                        let sql = "INSERT INTO llm_runs (instance_id, stage, log_dir, updated_ms, record)
                                   VALUES (1, 'load', ?1, 0, '{}')";
                        conn.execute(sql, [dir.display().to_string()]).map(drop)
                    });
                    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(add))
                        .expect("it works here");
                })
                .says("is in use by instance 1"),
            with_cards(Row::new("more cards than there are", "refused", "lease"), 1)
                .run("resources.gpus", json!(2))
                .proof("/failure/kind", json!("failed"))
                .says("this host cannot give what was asked"),
            busy_card(with_cards(Row::new("a card that another run has", "refused", "lease"), 1))
                .run("resources.gpus", json!(1))
                .says("leased to instance 1, task other"),
        ],
    )
    .await;
}
