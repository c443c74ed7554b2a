//! Measures acknowledged writes: `cargo run -p testrig-store --example measure_store`.

use std::time::Instant;

use testrig_store::{Migration, Store};

const TABLES: &[Migration] =
    &[Migration { module: "m", version: 1, sql: "CREATE TABLE item (id INTEGER PRIMARY KEY, text TEXT)" }];

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(&dir.path().join("state.db"), TABLES)?;
    for callers in [1, 64] {
        let each = 10_000 / callers;
        let start = Instant::now();
        let tasks: Vec<_> = (0..callers)
            .map(|_| {
                let store = store.clone();
                tokio::spawn(async move {
                    for _ in 0..each {
                        let insert = "INSERT INTO item (text) VALUES (hex(randomblob(50)))";
                        store.write(move |conn| conn.prepare_cached(insert)?.execute([])).await?;
                    }
                    Ok::<_, testrig_store::StoreError>(())
                })
            })
            .collect();
        for task in tasks {
            task.await??;
        }
        let seconds = start.elapsed().as_secs_f64();
        println!("{callers} callers: {:.0} acknowledged writes/s", f64::from(callers * each) / seconds);
    }
    Ok(())
}
