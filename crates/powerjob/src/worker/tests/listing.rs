//! What the server says of a running worker.

use super::*;
use crate::Listing;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_worker_is_listed_and_answers_the_servers_ping_on_its_own_port() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    assert_eq!(worker.listing().await, Listing { listed: true, ..Listing::default() });
    let pings = rig.fake.book.lock().pings.clone();
    assert_eq!(pings, [(worker.address().to_owned(), true)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_the_server_cannot_reach_is_a_problem_that_is_told() {
    let mut rig = Rig::new().await;
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address");
    rig.config.advertise = Some(closed.to_string());
    let worker = rig.listed().await;
    let listing = worker.listing().await;
    assert!(listing.listed, "{listing:?}");
    let all = listing.problems.join("\n");
    assert!(all.contains(&format!("cannot connect to {closed}")) && all.contains("advertise"), "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_the_reason_is_what_was_found_at_its_address() {
    let mut rig = Rig::new().await;
    rig.fake.kill();
    let worker = rig.start().await;
    until("it says why", || worker.status().discovery_error.is_some()).await;
    let listing = worker.listing().await;
    let why = listing.why_not.expect("a reason");
    assert!(!listing.listed && why.contains(&rig.fake.server()) && why.contains("does not answer"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_restarted_lists_nobody_until_the_next_heartbeat() {
    let rig = Rig::new().await;
    let worker = rig.listed().await;
    until("the worker knows", || worker.status().listed).await;
    rig.fake.book.lock().seen.clear();
    let listing = worker.listing().await;
    // A heartbeat may have come between the two.
    assert!(
        listing.listed || listing.why_not.as_ref().is_some_and(|why| why.contains("no worker of app")),
        "{listing:?}"
    );
}
