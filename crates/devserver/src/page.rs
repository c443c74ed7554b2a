//! `/`: one plain page that says what this is and what there is.

use std::fmt::Write as _;

use axum::extract::State;
use axum::response::Html;

use crate::enums::INSTANCE_STATUS;
use crate::java;
use crate::model::Instance;
use crate::render::address;
use crate::server::Server;
use crate::world::World;

const SHOWN_INSTANCES: usize = 50;

pub(crate) async fn index(State(server): State<Server>) -> Html<String> {
    let transport = server.transport.clone();
    Html(server.change(|world, now| page(world, &transport, now)))
}

fn page(world: &World, transport: &str, now: i64) -> String {
    let mut html = String::from(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"5\">\
         <title>testrig dev-server</title><style>body{font:14px/1.5 sans-serif;margin:2rem;max-width:70rem}table{border-collapse:collapse;\
         width:100%;margin:.5rem 0 1.5rem}th,td{border-bottom:1px solid #ddd;text-align:left;padding:.25rem .5rem;vertical-align:top}\
         td{word-break:break-word}code{background:#f3f3f3;padding:0 .2rem}</style></head><body><h1>testrig dev-server</h1>",
    );
    // Writing into a text cannot fail.
    let _ = write!(
        html,
        "<p>A stand-in for a PowerJob server, in memory: everything is gone when it ends. Workers report to <code>{}</code>; \
         OpenAPI and console paths are on this port. Not for production.</p>",
        escape(transport)
    );
    table(&mut html, "Apps", &["id", "name"], world.apps.iter().map(|app| vec![app.id.to_string(), app.name.clone()]));
    let workers = world.workers.iter().flat_map(|(app, workers)| workers.values().map(move |worker| (app, worker)));
    table(
        &mut html,
        "Workers",
        &["app", "address", "tag", "state", "tasks"],
        workers.map(|(app, worker)| {
            let state = match (world.is_online(worker, now), worker.overloading) {
                (false, _) => "offline",
                (true, true) => "overloaded",
                (true, false) => "online",
            };
            let tag = worker.tag.clone().unwrap_or_default();
            vec![
                app.to_string(),
                worker.address.clone(),
                tag,
                state.to_owned(),
                (worker.light + worker.heavy).to_string(),
            ]
        }),
    );
    let mut instances: Vec<&Instance> = world.instances.values().collect();
    instances.sort_by_key(|instance| std::cmp::Reverse(instance.id));
    instances.truncate(SHOWN_INSTANCES);
    table(
        &mut html,
        "Newest instances",
        &["id", "job", "status", "worker", "started", "result", "log"],
        instances.into_iter().map(|instance| {
            let job = world.jobs.get(&instance.job_id).map(|job| job.name.clone()).unwrap_or_default();
            let lines = world.logs.lines(instance.id).len();
            vec![
                instance.id.to_string(),
                job,
                INSTANCE_STATUS.name(instance.status).to_owned(),
                address(instance).to_owned(),
                java::shown(instance.actual, &world.config.zone),
                instance.result.clone().unwrap_or_default().chars().take(300).collect(),
                format!("{lines} lines"),
            ]
        }),
    );
    html.push_str("</body></html>");
    html
}

fn table(html: &mut String, title: &str, head: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let _ = write!(html, "<h2>{title}</h2><table><tr>");
    for cell in head {
        let _ = write!(html, "<th>{cell}</th>");
    }
    html.push_str("</tr>");
    for row in rows {
        html.push_str("<tr>");
        for cell in row {
            let _ = write!(html, "<td>{}</td>", escape(&cell));
        }
        html.push_str("</tr>");
    }
    html.push_str("</table>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
