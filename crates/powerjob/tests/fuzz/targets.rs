//! Everything that reads bytes of other programs, as functions that may only panic where the code is wrong. The cargo-fuzz
//! targets in `fuzz/` at the root of the repository use the same list.

use powerjob_worker::{
    tasks::{
        api::{MapTask, ReportTask, ReportWorker, StartTask},
        kryo,
    },
    untrusted,
    wire::{
        AskResponse, InstanceDetail, QueryJobCluster, ServerQueryInstanceStatusReq, ServerScheduleJobReq,
        ServerStopInstanceReq, StopTasks, TaskTrackerReportInstanceStatusReq, WorkerHeartbeat, WorkerLogReportReq,
        decode_base64, encode_base64,
    },
};

/// Reads one body.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// What was read is written and read back as the same message.
macro_rules! round_trip {
    ($type:ty) => {
        |body| {
            if let Ok(message) = <$type>::parse(body) {
                let text = serde_json::to_vec(&message).expect("a message has a JSON form");
                assert_eq!(<$type>::parse(&text).expect("what was written is read"), message);
            }
        }
    };
}

pub(crate) const TARGETS: &[Target] = &[
    ("ServerScheduleJobReq", |body| {
        if let Ok(message) = ServerScheduleJobReq::parse(body) {
            let text = serde_json::to_vec(&message).expect("a message has a JSON form");
            assert_eq!(ServerScheduleJobReq::parse(&text).expect("what was written is read"), message);
            // What is stored of it is read back by the next process.
            let dispatch = message.into_dispatch();
            let stored = serde_json::to_vec(&dispatch).expect("a dispatch has a JSON form");
            assert_eq!(serde_json::from_slice::<powerjob_worker::core::Dispatch>(&stored).expect("read"), dispatch);
        }
    }),
    ("ServerStopInstanceReq", round_trip!(ServerStopInstanceReq)),
    ("ServerQueryInstanceStatusReq", |body| drop(ServerQueryInstanceStatusReq::parse(body))),
    ("TaskTrackerStartTaskReq", round_trip!(StartTask)),
    ("TaskTrackerStopInstanceReq", round_trip!(StopTasks)),
    ("ProcessorReportTaskStatusReq", round_trip!(ReportTask)),
    ("ProcessorTrackerStatusReportReq", round_trip!(ReportWorker)),
    ("ProcessorMapTaskRequest", round_trip!(MapTask)),
    ("AskResponse", round_trip!(AskResponse)),
    ("InstanceDetail", |body| drop(InstanceDetail::parse(body))),
    ("WorkerQueryExecutorClusterReq", round_trip!(QueryJobCluster)),
    ("WorkerHeartbeat", |body| drop(WorkerHeartbeat::parse(body))),
    ("TaskTrackerReportInstanceStatusReq", |body| drop(TaskTrackerReportInstanceStatusReq::parse(body))),
    ("WorkerLogReportReq", |body| drop(WorkerLogReportReq::parse(body))),
    ("Kryo", |body| {
        if let Ok(value) = kryo::read(body) {
            let again = kryo::read(&kryo::write(&value)).expect("what was written is read");
            // Not `==`: a double may be no number.
            assert_eq!(format!("{again:?}"), format!("{value:?}"));
        }
    }),
    ("ServerScheduleJobReq, tracked", untrusted::tracked_dispatch),
    ("queryJobCluster", untrusted::job_cluster),
    ("assert, acquire, hello", untrusted::web_answer),
    ("fetchInstanceInfo", untrusted::instance_info),
    ("logConfig, alarmConfig, customQuery", untrusted::inner_text),
    ("Base64", |body| {
        if let Ok(text) = std::str::from_utf8(body)
            && let Some(bytes) = decode_base64(text)
        {
            assert_eq!(decode_base64(&encode_base64(&bytes)), Some(bytes));
        }
    }),
];
