//! Cards that are lost under a run.

use std::{path::Path, sync::Arc};

use serde_json::json;
use testrig_host::{
    BoundaryId,
    accelerators::{
        Accelerator, Book, CardState, Declared, DeclaredCard, DeviceNode, Health, HealthClass, LeaseRequest,
        Observation, Observed, Pool, Provider, Settings, Topology, Vendor,
    },
};

use super::{
    health::patient,
    row::{Row, play},
};

/// The device node of a declared card: a file, which can be taken away.
fn node(dir: &Path, index: usize) -> std::path::PathBuf {
    dir.join(format!("accel{index}"))
}

fn pool(dir: &Path, provider: impl Provider) -> Arc<Pool> {
    let book = Book::open(&dir.join("leases.db"), dir.display().to_string()).expect("it works here");
    Arc::new(Pool::new(Arc::new(provider), book, Settings::default()))
}

/// A host with declared cards.
pub(super) fn with_cards(row: Row, count: usize) -> Row {
    row.host(move |dir, env| {
        let card = |index| {
            let path = node(dir, index);
            std::fs::write(&path, "").expect("it works here");
            DeclaredCard {
                uuid: None,
                vendor: Vendor::Other,
                kind: "stub-card".into(),
                memory_bytes: 16 << 30,
                node: None,
                numa_node: None,
                group: None,
                devices: vec![DeviceNode::parse(&path.display().to_string())],
                visible_env: None,
            }
        };
        env.accelerators = pool(dir, Declared::new((0..count).map(card).collect()));
    })
}

/// Another run has the only card.
pub(super) fn busy_card(row: Row) -> Row {
    row.host(|_, env| {
        let other = LeaseRequest {
            holder: BoundaryId::new(1, 1),
            count: 1,
            kind: None,
            min_memory_bytes: None,
            device_ids: Vec::new(),
            words: "instance 1, task other".into(),
            waits: false,
        };
        let accelerators = Arc::clone(&env.accelerators);
        let lease = async move { accelerators.lease(&other).await };
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(lease)).expect("it works here");
    })
}

/// A driver that tells what a file holds: `ok`, `fault`, or `gone`.
struct Scripted(std::path::PathBuf);

impl Provider for Scripted {
    fn name(&self) -> &'static str {
        "scripted"
    }

    fn observe(&self) -> Result<Observation, String> {
        let card = Accelerator::new(0, "card-0", Vendor::Other, "stub-card", 16 << 30);
        let mut state = CardState { processes: Some(Vec::new()), ..CardState::default() };
        let cards = match std::fs::read_to_string(&self.0).unwrap_or_default().trim() {
            "gone" => Vec::new(),
            "fault" => {
                state.health = Health { class: HealthClass::Fault, detail: "XID 79".into() };
                vec![Observed { card, state }]
            }
            _ => vec![Observed { card, state }],
        };
        let topology = Topology::of(cards.len(), |_, _| 10);
        Ok(Observation { through: "a test".into(), cards, topology, notes: Vec::new() })
    }
}

fn scripted(row: Row) -> Row {
    row.host(|dir, env| env.accelerators = pool(dir, Scripted(dir.join("driver")))).run("resources.gpus", json!(1))
}

/// The driver says this from now on; then the service's script goes on.
fn driver_says(row: Row, mark: &'static str, word: &'static str) -> Row {
    row.when(mark, move |scene| {
        let file = scene.rig.place.dir.path().join("driver");
        std::fs::write(file.with_extension("new"), word).expect("it works here");
        std::fs::rename(file.with_extension("new"), file).expect("it works here");
        scene.go();
        Box::pin(std::future::ready(()))
    })
}

fn node_goes(row: Row, mark: &'static str) -> Row {
    row.run("resources.gpus", json!(1)).when(mark, |scene| {
        std::fs::remove_file(node(scene.rig.place.dir.path(), 0)).expect("it works here");
        scene.go();
        Box::pin(std::future::ready(()))
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_card_is_told_whatever_the_service_does_of_it() {
    let load = "stage load: begins";
    let first = "/failure/evidence/devices/0";
    play(
        8300,
        vec![
            node_goes(with_cards(Row::new("the node goes and the service ends", "device_lost", "load"), 2), load)
                .service("STUB & WAIT; echo CUDA error: device lost; exit 1")
                .proof("/failure/evidence/exit/code", json!(1))
                .says("| CUDA error: device lost")
                .says("accelerator 0 (stub-card) is not usable any more: its device"),
            driver_says(scripted(Row::new("a fault and the service aborts", "device_lost", "load")), load, "fault")
                .service("STUB & WAIT; kill -ABRT $$")
                .proof(first, json!("accelerator 0 (stub-card) is faulty: XID 79"))
                .proof("/failure/evidence/exit/signal", json!(6)),
            driver_says(scripted(Row::new("a fault and the service hangs", "device_lost", "load")), load, "fault")
                .service("STUB & P=$!; WAIT; kill -STOP $P; wait")
                .job("healthCheck", patient("HTTP"))
                .proof(first, json!("accelerator 0 (stub-card) is faulty: XID 79"))
                .says("health checks in a row failed"),
            driver_says(
                scripted(Row::new("gone before the service was ready", "device_lost", "health")),
                "stage health: begins",
                "gone",
            )
            .service("WAIT; exit 3")
            .proof(first, json!("accelerator 0 (stub-card) is not there any more")),
            driver_says(
                scripted(Row::new("gone and the load went on to its end", "device_lost", "load")),
                "accelerators of this run",
                "gone",
            )
            .service("WAIT; exec STUB")
            .run("runSeconds", json!(0.5))
            .says("the load was done, but the run lost its accelerators"),
        ],
    )
    .await;
}
