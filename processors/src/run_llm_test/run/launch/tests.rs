use std::path::Path;

use serde_json::{Value, json};
use testrig_host::{
    BoundaryId,
    docker::{ContainerSpec, Docker, Mount, Network, PortPublish, Ulimit},
};

use crate::{
    params::{self, Input},
    run_llm_test::{
        dir::RunDir,
        plan::{Plan, Target, TrackMode},
        service::ContainerService,
        state::Runs,
        table::TABLE,
    },
    task_rig::Rig,
};

/// What the engine is asked for with these parameters beside those of a good run.
fn asked_for(rig: &Rig, job: &Value, run: &Value) -> ContainerSpec {
    let mut own =
        json!({"jobType": "RUN_LLM_TEST", "hostLogBaseDir": rig.dir.path().join("logs"), "docker.baseImage": "base:1"});
    let mut this = json!({"platformTaskId": "T1", "modelKey": "m", "scenario": "chat_completion", "servicePort": 8000});
    own.as_object_mut().expect("an object").extend(job.as_object().expect("an object").clone());
    this.as_object_mut().expect("an object").extend(run.as_object().expect("an object").clone());
    let mut env = rig.environment();
    env.allow_privileged = true;
    let (job, run) = (own.to_string(), this.to_string());
    let mut params =
        params::read(&TABLE, &Input { job_params: Some(&job), instance_params: Some(&run), ..Input::default() });
    let plan = Plan::build(&mut params, &env, TrackMode::Container, 1).expect("a good run");
    let dir = RunDir::of(&plan, 7, "20251123");
    let (launch, warning) = super::of(&rig.task(7, &own, &this), &plan, &dir, BoundaryId::new(7, 1));
    assert_eq!(warning, None);
    let Target::Container(container) = plan.target else { panic!("{:?}", plan.target) };
    let docker = Docker::connect("unix:///nowhere.sock").expect("nobody is asked yet");
    ContainerService::new(
        docker,
        *container,
        launch,
        Runs::new(rig.store.clone()),
        testrig_host::docker::PullSettings::default(),
    )
    .spec(true)
}

#[tokio::test]
async fn the_engine_is_asked_for_everything_that_the_parameters_of_a_container_say() {
    let rig = Rig::new();
    let here = rig.dir.path().canonicalize().expect("there");
    let job = json!({
        "containerLogBaseDir": "/own-logs", "hostScriptDir": here, "containerWorkDir": "/w", "containerEntryScript": "/e.sh",
        "docker": {"runtime": "nvidia", "networkMode": "net", "shmSize": "64m", "privileged": true, "defaultCpuLimit": 3,
            "ulimits": [{"name": "memlock", "soft": -1, "hard": -1}]},
    });
    let run = json!({
        "image": "own:1", "containerName": "own-name", "resources.cpu": "1.5", "resources.memory": "1g", "hostPort": 9001,
        "volumes": [{"hostPath": here, "containerPath": "/v", "mode": "ro"}], "envVars": {"OWN": "value"}, "traceId": "t",
        "extraTags": {"bizLine": "b", "testrig.env": "not from here"}, "testPlanId": "P", "triggerUser": "U", "modelVersion": "v",
    });
    let spec = asked_for(&rig, &job, &run);
    assert_eq!((spec.name.as_str(), spec.image.as_str(), spec.init), ("own-name", "own:1", true));
    assert_eq!((spec.entrypoint, spec.command), (Some(vec!["/e.sh".to_owned()]), Some(Vec::new())));
    assert_eq!((spec.work_dir.as_deref(), spec.runtime.as_deref()), (Some("/w"), Some("nvidia")));
    assert_eq!(
        (spec.cpus, spec.memory, spec.shm_size, spec.privileged),
        (Some(1.5), Some(1 << 30), Some(64 << 20), true)
    );
    assert_eq!(spec.ulimits, [Ulimit { name: "memlock".into(), soft: -1, hard: -1 }]);
    assert_eq!(spec.network, Network::Named("net".into()));
    assert_eq!(spec.publish, [PortPublish { container: 8000, host: 9001, bind: None }]);
    let mount = |host: &Path, container: &str, read_only| Mount {
        host: host.to_owned(),
        container: container.into(),
        read_only,
    };
    let logs = here.join("logs/dev/20251123/task-T1-7");
    assert_eq!(
        spec.mounts,
        [mount(&here, "/w/scripts", true), mount(&here, "/v", true), mount(&logs, "/own-logs", false)]
    );
    let env = |name: &str| spec.env.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    assert_eq!((env("OWN"), env("TRACE_ID"), env("INSTANCE_ID")), (Some("value"), Some("t"), Some("7")));
    for (name, value) in [
        ("bizLine", "b"),
        ("testrig.env", "dev"),
        ("testrig.modelKey", "m"),
        ("testrig.modelVersion", "v"),
        ("testrig.testPlanId", "P"),
        ("testrig.triggerUser", "U"),
        ("testrig.traceId", "t"),
    ] {
        let found: Vec<&str> =
            spec.labels.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        assert_eq!(found, [value], "{name}");
    }
}

#[tokio::test]
async fn without_these_parameters_the_image_and_the_engine_decide() {
    let spec = asked_for(&Rig::new(), &json!({}), &json!({}));
    assert_eq!((spec.name.as_str(), spec.image.as_str()), ("llm-test-T1", "base:1"));
    assert_eq!((spec.entrypoint, spec.command, spec.work_dir, spec.runtime), (None, None, None, None));
    assert_eq!((spec.cpus, spec.memory, spec.shm_size, spec.privileged), (None, None, None, false));
    assert_eq!((spec.ulimits.len(), spec.mounts.len(), &spec.network), (0, 1, &Network::Bridge));
    assert_eq!(spec.publish, [PortPublish { container: 8000, host: 0, bind: None }]);
}
