//! MySQL and MariaDB, by the text protocol.

use std::{future::Future, pin::Pin};

use mysql_async::{Conn, Opts, OptsBuilder, Row, Value, prelude::Queryable};

use crate::{Address, Event, SqlError, address::Place, engine::CANCEL, error::chain};

pub(crate) async fn execute(
    address: &Address,
    sql: &str,
    mut end: Pin<&mut (impl Future<Output = SqlError> + Send)>,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SqlError> {
    let connect = |detail: String| SqlError::Connect { address: address.to_string(), detail };
    let connected = tokio::select! {
        connected = tokio::time::timeout(address.connect_limit, Conn::new(opts(address))) => connected,
        why = &mut end => return Err(why),
    };
    let mut conn = match connected {
        Ok(conn) => conn.map_err(|error| connect(chain(&error)))?,
        Err(_) => return Err(connect(format!("no answer within {} ms", address.connect_limit.as_millis()))),
    };
    let id = conn.id();
    let outcome = {
        let work = transaction(&mut conn, sql, each);
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done.map_err(|error| SqlError::refused(&error)),
            why = &mut end => {
                let ended = async {
                    kill(address, id).await;
                    let _ = work.await;
                };
                let _ = tokio::time::timeout(CANCEL, ended).await;
                Err(why)
            }
        }
    };
    let closing = async {
        if outcome.is_err() {
            let _ = conn.query_drop("ROLLBACK").await;
        }
        let _ = conn.disconnect().await;
    };
    // The server rolls back what a cut connection leaves.
    let _ = tokio::time::timeout(CANCEL, closing).await;
    outcome
}

fn opts(address: &Address) -> Opts {
    let mut opts = OptsBuilder::default()
        // The socket file could be another server's.
        .prefer_socket(false)
        .user(address.user.clone())
        .pass(address.password.clone());
    if let Place::Server { host, port, database, .. } = &address.place {
        opts = opts.ip_or_hostname(host.clone()).tcp_port(*port);
        opts = opts.db_name((!database.is_empty()).then(|| database.clone()));
    }
    opts.into()
}

async fn transaction(
    conn: &mut Conn,
    sql: &str,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), mysql_async::Error> {
    conn.query_drop("START TRANSACTION").await?;
    let mut result = conn.query_iter(sql).await?;
    while let Some(columns) = result.columns() {
        if columns.is_empty() {
            each(Event::Changed(result.affected_rows()));
        } else {
            each(Event::Columns(columns.iter().map(|column| column.name_str().into_owned()).collect()));
        }
        // Behind the last row it stands at the next result.
        while let Some(row) = result.next().await? {
            each(Event::Row(cells(row)));
        }
    }
    // An error of a later statement stands in the place of its result.
    result.drop_result().await?;
    conn.query_drop("COMMIT").await
}

fn cells(row: Row) -> Vec<Option<String>> {
    let text = |value: Option<Value>| match value? {
        Value::NULL => None,
        Value::Bytes(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        other => Some(other.as_sql(true)),
    };
    row.unwrap_raw().into_iter().map(text).collect()
}

/// Ends what a connection is doing, by a second one.
async fn kill(address: &Address, id: u32) {
    if let Ok(mut conn) = Conn::new(opts(address)).await {
        let _ = conn.query_drop(format!("KILL QUERY {id}")).await;
        let _ = conn.disconnect().await;
    }
}
