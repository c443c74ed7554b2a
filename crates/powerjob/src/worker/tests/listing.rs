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

/// A second server on the IP of the first, which is configured before it and owns nothing.
async fn beside(rig: &mut Rig) -> Fake {
    let other = Fake::start().await;
    {
        let mut book = other.book.lock();
        book.transport = rig.fake.transport();
        book.born_time = 1;
    }
    rig.config.servers = vec![other.server(), rig.fake.server()];
    other
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_on_one_ip_the_one_that_tells_the_owners_transport_address_is_asked() {
    let mut rig = Rig::new().await;
    let other = beside(&mut rig).await;
    other.book.lock().tells = Some(other.transport());
    rig.fake.book.lock().tells = Some(rig.fake.transport());
    let worker = rig.listed().await;
    until("the worker knows", || worker.status().listed).await;
    let owner = worker.status().owner.expect("an owner");
    assert_eq!((owner.web, owner.born_time), (rig.fake.server(), Some(1_700_000_000_000)));
    assert_eq!(worker.listing().await, Listing { listed: true, ..Listing::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_servers_on_one_ip_that_tell_nothing_the_one_that_lists_the_worker_counts() {
    let mut rig = Rig::new().await;
    let _other = beside(&mut rig).await;
    let worker = rig.listed().await;
    until("the worker knows", || worker.status().listed).await;
    assert_eq!(worker.listing().await, Listing { listed: true, ..Listing::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_on_the_owners_ip_that_says_it_is_another_one_is_not_taken_for_the_owner() {
    let mut rig = Rig::new().await;
    let other = beside(&mut rig).await;
    other.book.lock().tells = Some(other.transport());
    rig.config.servers = vec![other.server()];
    let worker = rig.listed().await;
    until("the worker knows", || worker.status().listed).await;
    assert_eq!(worker.status().owner.expect("an owner").born_time, None, "that of the other one says nothing");
    let listing = worker.listing().await;
    let all = listing.problems.join("\n");
    assert!(listing.listed && all.contains(&rig.fake.transport()) && all.contains("`servers`"), "{listing:?}");
}
