//! PostgreSQL, by its simple protocol: everything comes as text.

use std::{future::Future, pin::Pin};

use futures_util::TryStreamExt;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use crate::{Address, Event, SqlError, address::Place, engine::CANCEL, error::chain};

pub(crate) async fn execute(
    address: &Address,
    sql: &str,
    mut end: Pin<&mut (impl Future<Output = SqlError> + Send)>,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), SqlError> {
    let connect = |detail: String| SqlError::Connect { address: address.to_string(), detail };
    let config = config(address);
    let connected = tokio::select! {
        connected = config.connect(NoTls) => connected,
        why = &mut end => return Err(why),
    };
    let (client, connection) = connected.map_err(|error| connect(chain(&error)))?;
    // Ends by itself when the client is dropped, which the server takes for a rollback.
    let driver = tokio::spawn(connection);
    let cancel = client.cancel_token();
    let outcome = {
        let work = transaction(&client, sql, each);
        tokio::pin!(work);
        tokio::select! {
            biased;
            done = &mut work => done.map_err(|error| SqlError::refused(&error)),
            why = &mut end => {
                let ended = async {
                    let _ = cancel.cancel_query(NoTls).await;
                    let _ = work.await;
                };
                let _ = tokio::time::timeout(CANCEL, ended).await;
                Err(why)
            }
        }
    };
    if outcome.is_err() {
        let _ = tokio::time::timeout(CANCEL, client.batch_execute("ROLLBACK")).await;
    }
    drop(client);
    if tokio::time::timeout(CANCEL, driver).await.is_err() {
        return outcome.and(Err(SqlError::Refused("the connection did not end after the commit".to_owned())));
    }
    outcome
}

fn config(address: &Address) -> Config {
    let mut config = Config::new();
    if let Place::Server { host, port, database, .. } = &address.place {
        config.host(host).port(*port);
        if !database.is_empty() {
            config.dbname(database);
        }
    }
    address.user.as_ref().map(|user| config.user(user));
    address.password.as_ref().map(|password| config.password(password));
    if let Some(schema) = &address.schema {
        let escaped = schema.replace('\\', "\\\\").replace(' ', "\\ ");
        config.options(format!("-c search_path={escaped}"));
    }
    config.application_name(address.application.as_deref().unwrap_or("testrig"));
    config.connect_timeout(address.connect_limit);
    config
}

async fn transaction(
    client: &Client,
    sql: &str,
    each: &mut (dyn FnMut(Event) + Send),
) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    let stream = client.simple_query_raw(sql).await?;
    tokio::pin!(stream);
    let mut in_rows = false;
    while let Some(message) = stream.try_next().await? {
        match message {
            SimpleQueryMessage::RowDescription(columns) => {
                in_rows = true;
                each(Event::Columns(columns.iter().map(|column| column.name().to_owned()).collect()));
            }
            SimpleQueryMessage::Row(row) => {
                let cells = (0..row.len()).map(|i| row.try_get(i).map(|cell| cell.map(str::to_owned)));
                each(Event::Row(cells.collect::<Result<_, _>>()?));
            }
            SimpleQueryMessage::CommandComplete(count) => {
                if !in_rows {
                    each(Event::Changed(count));
                }
                in_rows = false;
            }
            _ => {}
        }
    }
    client.batch_execute("COMMIT").await
}
