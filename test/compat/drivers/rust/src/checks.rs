//! Runs one check and prints a line of JSON for it.

use std::error::Error;
use std::future::Future;
use std::time::Duration;

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

const LIMIT: Duration = Duration::from_secs(30);

/// Runs a check in a task of its own, so that a failed assertion ends only that.
pub async fn check<F>(name: &str, work: F)
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let error = match tokio::spawn(tokio::time::timeout(LIMIT, work)).await {
        Ok(Ok(Ok(()))) => None,
        Ok(Ok(Err(cause))) => Some(format!("{cause}: {:?}", cause.source())),
        Ok(Err(_)) => Some(format!("not done after {LIMIT:?}")),
        Err(panic) => Some(panic_text(panic.into_panic())),
    };
    let result = match error {
        None => serde_json::json!({ "name": name, "ok": true }),
        Some(error) => serde_json::json!({ "name": name, "ok": false, "error": error }),
    };
    println!("{result}");
}

fn panic_text(panic: Box<dyn std::any::Any + Send>) -> String {
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(_) => "a panic".to_string(),
    }
}

pub fn argument(number: usize) -> String {
    std::env::args()
        .nth(number)
        .expect("three connection URLs as arguments")
}

/// A client whose connection runs in a task of its own.
pub async fn connect(url: &str) -> Result<Client, tokio_postgres::Error> {
    connect_with(url.parse()?).await
}

pub async fn connect_with(config: Config) -> Result<Client, tokio_postgres::Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Checks that a result is the server's error with this SQLSTATE.
pub fn fails<T>(result: Result<T, tokio_postgres::Error>, expected: &SqlState) {
    match result {
        Ok(_) => panic!("no error instead of {expected:?}"),
        Err(error) => assert_eq!(error.code(), Some(expected), "{error}"),
    }
}
