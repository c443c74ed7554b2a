//! The online log: pages, order, texts of trouble.

use std::time::Duration;

use powerjob_worker::openapi::InstanceStatus;
use serde_json::json;

use crate::check::{Failure, Outcome, eventually, same, same_json};
use crate::context::{Case, Context};
use crate::raw_worker::RawWorker;

const SOON: Duration = Duration::from_secs(10);
/// 2023-11-14T22:13:20Z
const T: i64 = 1_700_000_000_000;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("a_log_is_cut_into_pages_of_a_hundred_lines_sorted_by_log_time", pages),
        Case::new("a_page_is_at_most_ten_seconds_old", cache),
        Case::new("levels_line_breaks_and_text_of_log_lines", lines),
        Case::new("without_lines_there_is_a_stub_and_without_index_a_text", stub),
    ]
}

async fn running(cx: &Context) -> Result<(RawWorker, i64), Failure> {
    let worker = cx.worker().await?;
    let (_, instance) = cx.run_plain().await?;
    worker.dispatched(instance).await?;
    cx.until(instance, InstanceStatus::WaitingWorkerReceive, SOON).await?;
    worker.report(instance, 3).await?;
    Ok((worker, instance))
}

/// Lines are stored behind the sender's back; a page asked for at once may lack them for as long as it is kept.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(1_500)).await;
}

async fn page(cx: &Context, instance: i64, index: &str) -> Result<serde_json::Value, Failure> {
    let (app, id) = (cx.app_id.to_string(), instance.to_string());
    let answer = cx.get("/instance/log", &[("appId", &app), ("instanceId", &id), ("index", index)]).await?;
    answer.json()
}

async fn pages(cx: Context) -> Outcome {
    let (worker, instance) = running(&cx).await?;
    let line = |n: i64| (T + n, 2, format!("line {n}"));
    worker.log(instance, &(100..250).rev().map(line).collect::<Vec<_>>()).await?;
    worker.log(instance, &(0..100).map(line).collect::<Vec<_>>()).await?;
    settle().await;
    let text = |from: i64, to: i64| {
        (from..to).fold(String::new(), |text, n| {
            format!("{text}2023-11-14 22:13:20.{n:03} [{}] INFO line {n}\n", worker.address)
        })
    };
    for (index, from, to) in [(0, 0, 100), (2, 200, 250), (1, 100, 200), (3, 0, 0)] {
        let shown = page(&cx, instance, &index.to_string()).await?;
        let expected = json!({"success": true, "data": {"index": index, "totalPages": 3, "data": text(from, to)}, "message": null});
        same_json(&format!("page {index}"), &shown, &expected)?;
    }
    Ok(())
}

async fn cache(cx: Context) -> Outcome {
    let (worker, instance) = running(&cx).await?;
    worker.log(instance, &[(T, 2, "one".to_owned())]).await?;
    settle().await;
    let start = std::time::Instant::now();
    let first = page(&cx, instance, "0").await?;
    worker.log(instance, &[(T + 1, 2, "two".to_owned())]).await?;
    let limit = cx.server_time(10.0);
    tokio::time::sleep(limit / 2).await;
    let second = page(&cx, instance, "0").await?;
    if start.elapsed() < limit {
        same_json("kept", &second, &first)?;
    }
    eventually("the second line", limit + SOON, async || {
        let shown = page(&cx, instance, "0").await?;
        Ok(shown["data"]["data"].as_str().is_some_and(|text| text.ends_with("INFO two\n")).then_some(()))
    })
    .await
}

async fn lines(cx: Context) -> Outcome {
    let (worker, instance) = running(&cx).await?;
    let texts = [
        (1, "debug"),
        (2, ""),
        (3, "two\nlines"),
        (4, "carriage\rreturn\r\nboth"),
        (99, "off"),
        (7, "seven"),
        (2, "ümläut 中文 😀 <&\"\t"),
    ];
    let lines: Vec<(i64, i64, String)> =
        (T..).zip(texts).map(|(time, (level, text))| (time, level, text.to_owned())).collect();
    worker.log(instance, &lines).await?;
    settle().await;
    let shown = page(&cx, instance, "0").await?;
    let head = |n: i64, level: &str| format!("2023-11-14 22:13:20.{n:03} [{}] {level}", worker.address);
    let expected = [
        format!("{} debug\n", head(0, "DEBUG")),
        format!("{} \n", head(1, "INFO")),
        format!("{} two\nlines\n", head(2, "WARN")),
        format!("{} carriage\nreturn\nboth\n", head(3, "ERROR")),
        format!("{} off\n", head(4, "OFF")),
        format!("{} seven\n", head(5, "UNKNOWN")),
        format!("{} ümläut 中文 😀 <&\"\t\n", head(6, "INFO")),
    ];
    same("lines", &shown["data"]["data"].as_str().unwrap_or_default(), &expected.concat().as_str())
}

async fn stub(cx: Context) -> Outcome {
    let shown = page(&cx, 5_000 + cx.app_id, "0").await?;
    let text = "SYSTEM: There is no online log for this job instance.\n";
    same_json(
        "stub",
        &shown,
        &json!({"success": true, "data": {"index": 0, "totalPages": 1, "data": text}, "message": null}),
    )?;
    let answer = cx.get("/instance/log", &[("appId", &cx.app_id.to_string()), ("instanceId", "5")]).await?.json()?;
    let text = answer["data"]["data"].as_str().unwrap_or_default();
    crate::check::holds(text, text.starts_with("oms-server execution exception, caused by NullPointerException: "))?;
    same("in the shape of a page", &(&answer["data"]["index"], &answer["data"]["totalPages"]), &(&json!(0), &json!(1)))
}
