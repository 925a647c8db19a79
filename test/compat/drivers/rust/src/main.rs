//! tokio-postgres: every query prepared and binary, queries pipelined over one connection, portals, COPY both ways.

mod checks;

use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::time::{Duration, SystemTime};

use checks::{argument, check, connect, connect_with, fails, Outcome};
use futures_util::future::{join, join_all, try_join_all};
use futures_util::{SinkExt, StreamExt, TryStreamExt};
use postgres_types::{FromSql, ToSql, Type};
use tokio_postgres::binary_copy::{BinaryCopyInWriter, BinaryCopyOutStream};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, IsolationLevel, NoTls, SimpleQueryMessage};

fn main() {
    // What a failed assertion says goes into its check's line.
    std::panic::set_hook(Box::new(|_| {}));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(all());
}

async fn all() {
    check("parameter types", parameter_types()).await;
    check("types made by the user", user_types()).await;
    check("prepared statements", prepared_statements()).await;
    check("prepared statement after a schema change", schema_change()).await;
    check("pipelining", pipelining()).await;
    check("pipelining with errors", pipelining_with_errors()).await;
    check("copy text", copy_text()).await;
    check("copy binary", copy_binary()).await;
    check("copy given up", copy_given_up()).await;
    check("large objects", large_objects()).await;
    check("listen and notify", listen_notify()).await;
    check("cursor with row limits", row_limits()).await;
    check("rows left unread", rows_left_unread()).await;
    check("several statements in one query", simple_query()).await;
    check("cancel", cancel()).await;
    check("transactions and savepoints", transactions()).await;
    check("settings and search path", settings()).await;
    check("startup options", startup_options()).await;
    check("temporary tables", temporary_tables()).await;
    check("advisory locks", advisory_locks()).await;
    check("large values", large_values()).await;
    check("many connections", many_connections()).await;
    check("reuse after errors", reuse_after_errors()).await;
    check("scram and md5 login", logins()).await;
}

async fn open() -> Result<Client, tokio_postgres::Error> {
    connect(&argument(1)).await
}

async fn one<T>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<T, tokio_postgres::Error>
where
    T: for<'a> FromSql<'a>,
{
    client.query_one(sql, parameters).await?.try_get(0)
}

async fn same<T>(client: &Client, type_name: &str, value: T) -> Result<(), tokio_postgres::Error>
where
    T: for<'a> FromSql<'a> + ToSql + Sync + PartialEq + std::fmt::Debug,
{
    let back: T = one(client, &format!("select $1::{type_name}"), &[&value]).await?;
    assert_eq!(back, value, "{type_name}");
    Ok(())
}

async fn parameter_types() -> Outcome {
    let client = open().await?;
    same(&client, "int4", 7i32).await?;
    same(&client, "int8", 1i64 << 40).await?;
    same(&client, "float8", 1.5f64).await?;
    same(&client, "text", "naïve 'text' \\ 😀".to_string()).await?;
    same(&client, "bool", true).await?;
    same(&client, "bytea", vec![0u8, 1, 255]).await?;
    same(
        &client,
        "timestamptz",
        SystemTime::UNIX_EPOCH + Duration::from_micros(1_709_209_801_000_005),
    )
    .await?;
    same(&client, "int4[]", vec![1i32, 2, 3]).await?;
    same(&client, "text[]", vec![Some("a".to_string()), None]).await?;
    same(&client, "jsonb", serde_json::json!({ "a": [1, null] })).await?;
    same(&client, "int4", None::<i32>).await?;
    Ok(())
}

#[derive(Debug, PartialEq, FromSql, ToSql)]
#[postgres(name = "compat_rust_mood", rename_all = "lowercase")]
enum Mood {
    Sad,
    Glad,
}

#[derive(Debug, PartialEq, FromSql, ToSql)]
#[postgres(name = "compat_rust_pair")]
struct Pair {
    mood: Mood,
    n: i32,
}

async fn user_types() -> Outcome {
    let client = open().await?;
    let made = "drop type if exists compat_rust_mood, compat_rust_pair cascade;
                create type compat_rust_mood as enum ('sad', 'glad');
                create type compat_rust_pair as (mood compat_rust_mood, n int)";
    client.batch_execute(made).await?;
    same(
        &client,
        "compat_rust_pair",
        Pair {
            mood: Mood::Glad,
            n: 5,
        },
    )
    .await?;
    same(&client, "compat_rust_mood[]", vec![Mood::Sad, Mood::Glad]).await?;
    client
        .batch_execute("drop type compat_rust_pair, compat_rust_mood")
        .await?;
    Ok(())
}

async fn prepared_statements() -> Outcome {
    let client = open().await?;
    let texts: Vec<String> = (0..20).map(|i| format!("select $1::int4 + {i}")).collect();
    let statements = try_join_all(texts.iter().map(|text| client.prepare(text))).await?;
    for round in 0..5i32 {
        for (i, statement) in statements.iter().enumerate() {
            let sum: i32 = client.query_one(statement, &[&round]).await?.get(0);
            assert_eq!(sum, round + i as i32);
        }
    }
    drop(statements);
    let typed = client.prepare_typed("select $1 || 'x'", &[Type::TEXT]).await?;
    assert_eq!(typed.columns().len(), 1);
    let text: String = client.query_one(&typed, &[&"y"]).await?.get(0);
    assert_eq!(text, "yx");
    let direct = client
        .query_typed("select $1 * 2", &[(&21i32, Type::INT4)])
        .await?;
    assert_eq!(direct[0].get::<_, i32>(0), 42);
    Ok(())
}

async fn schema_change() -> Outcome {
    let (client, other) = (open().await?, open().await?);
    client
        .batch_execute("drop table if exists compat_rust; create table compat_rust (a int)")
        .await?;
    let statement = client.prepare("select a from compat_rust").await?;
    let star = client.prepare("select * from compat_rust").await?;
    assert_eq!(client.query(&star, &[]).await?.len(), 0);
    other
        .batch_execute("alter table compat_rust add b int; insert into compat_rust values (1, 2)")
        .await?;
    assert_eq!(client.query(&statement, &[]).await?.len(), 1);
    // PostgreSQL itself refuses this one; a proxy that runs it anew must not give columns that were not described.
    fails(client.query(&star, &[]).await, &SqlState::FEATURE_NOT_SUPPORTED);
    client.batch_execute("drop table compat_rust").await?;
    Ok(())
}

async fn pipelining() -> Outcome {
    let client = open().await?;
    let statement = client.prepare("select $1::int4").await?;
    let answers = try_join_all((0..500i32).map(|i| {
        let (client, statement) = (&client, &statement);
        async move {
            client
                .query_one(statement, &[&i])
                .await
                .map(|row| row.get::<_, i32>(0))
        }
    }));
    assert_eq!(answers.await?, (0..500).collect::<Vec<i32>>());
    Ok(())
}

async fn pipelining_with_errors() -> Outcome {
    let client = open().await?;
    let statement = client.prepare("select 100 / $1::int4").await?;
    let answers = join_all((0..100i32).map(|i| {
        let (client, statement) = (&client, &statement);
        async move {
            client
                .query_one(statement, &[&(i % 10)])
                .await
                .map(|row| row.get::<_, i32>(0))
        }
    }));
    for (i, answer) in answers.await.into_iter().enumerate() {
        match i as i32 % 10 {
            0 => fails(answer, &SqlState::DIVISION_BY_ZERO),
            divisor => assert_eq!(answer?, 100 / divisor),
        }
    }
    Ok(())
}

async fn copy_text() -> Outcome {
    let client = open().await?;
    client
        .batch_execute("create temp table copied (id int, text text)")
        .await?;
    let mut sink = pin!(client.copy_in("copy copied from stdin").await?);
    for i in 0..20_000 {
        sink.feed(std::io::Cursor::new(format!("{i}\tline {i}\n").into_bytes()))
            .await?;
    }
    assert_eq!(sink.finish().await?, 20_000);
    let out = client.copy_out("copy copied to stdout").await?;
    let bytes: usize = out
        .map_ok(|chunk| chunk.len())
        .try_fold(0, |sum, size| async move { Ok(sum + size) })
        .await?;
    let expected: usize = (0..20_000).map(|i| format!("{i}\tline {i}\n").len()).sum();
    assert_eq!(bytes, expected);
    Ok(())
}

async fn copy_binary() -> Outcome {
    let client = open().await?;
    client
        .batch_execute("create temp table copied (id int, text text)")
        .await?;
    let types = [Type::INT4, Type::TEXT];
    let sink = client.copy_in("copy copied from stdin (format binary)").await?;
    let mut writer = pin!(BinaryCopyInWriter::new(sink, &types));
    for i in 0..20_000i32 {
        writer.as_mut().write(&[&i, &format!("line {i}")]).await?;
    }
    assert_eq!(writer.finish().await?, 20_000);
    let out = client.copy_out("copy copied to stdout (format binary)").await?;
    let rows: Vec<i32> = BinaryCopyOutStream::new(out, &types)
        .map_ok(|row| row.get::<i32>(0))
        .try_collect()
        .await?;
    assert_eq!(rows, (0..20_000).collect::<Vec<i32>>());
    Ok(())
}

async fn copy_given_up() -> Outcome {
    let client = open().await?;
    client.batch_execute("create temp table copied (id int)").await?;
    {
        let mut sink = pin!(client.copy_in("copy copied from stdin").await?);
        sink.send(std::io::Cursor::new(b"1\n".to_vec())).await?;
    }
    assert_eq!(one::<i64>(&client, "select count(*) from copied", &[]).await?, 0);
    Ok(())
}

async fn large_objects() -> Outcome {
    let client = open().await?;
    let data = b"large object".repeat(100_000);
    let oid: u32 = one(&client, "select lo_from_bytea(0, $1)", &[&data]).await?;
    let back: Vec<u8> = one(&client, "select lo_get($1)", &[&oid]).await?;
    assert!(back == data);
    let gone: i32 = one(&client, "select lo_unlink($1)", &[&oid]).await?;
    assert_eq!(gone, 1);
    Ok(())
}

async fn listen_notify() -> Outcome {
    let config: Config = argument(1).parse()?;
    let (listener, mut connection) = config.connect(NoTls).await?;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(each) = message {
                let _ = told.send(each.payload().to_string());
            }
        }
    });
    listener.batch_execute("listen compat_rust").await?;
    let speaker = open().await?;
    for i in 0..3 {
        speaker
            .execute("select pg_notify('compat_rust', $1)", &[&i.to_string()])
            .await?;
    }
    for i in 0..3 {
        assert_eq!(heard.recv().await, Some(i.to_string()));
    }
    Ok(())
}

async fn row_limits() -> Outcome {
    let mut client = open().await?;
    let transaction = client.transaction().await?;
    let numbers = transaction
        .bind("select i from generate_series(1, $1::int4) i", &[&1000i32])
        .await?;
    let letters = transaction
        .bind("select chr(96 + i) from generate_series(1, 26) i", &[])
        .await?;
    let mut sum = 0;
    loop {
        let rows = transaction.query_portal(&numbers, 33).await?;
        sum += rows.iter().map(|row| row.get::<_, i32>(0)).sum::<i32>();
        if rows.is_empty() {
            break;
        }
        transaction.query_portal(&letters, 1).await?;
    }
    assert_eq!(sum, 500_500);
    transaction.commit().await?;
    Ok(())
}

async fn rows_left_unread() -> Outcome {
    let client = open().await?;
    {
        let none: [i32; 0] = [];
        let mut rows = pin!(
            client
                .query_raw("select i from generate_series(1, 100000) i", none)
                .await?
        );
        assert!(rows.next().await.is_some());
    }
    assert_eq!(one::<i32>(&client, "select 4", &[]).await?, 4);
    Ok(())
}

async fn simple_query() -> Outcome {
    let client = open().await?;
    let messages = client
        .simple_query("select 1 as a; select 2, 3; select where false")
        .await?;
    let rows: Vec<usize> = messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row.len()),
            _ => None,
        })
        .collect();
    assert_eq!(rows, [1, 2]);
    client.check_connection().await?;
    Ok(())
}

async fn cancel() -> Outcome {
    let client = open().await?;
    for _ in 0..3 {
        let token = client.cancel_token();
        let later = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            token.cancel_query(NoTls).await
        };
        let (slept, cancelled) = join(client.batch_execute("select pg_sleep(20)"), later).await;
        cancelled?;
        fails(slept, &SqlState::QUERY_CANCELED);
        assert_eq!(one::<i32>(&client, "select 5", &[]).await?, 5);
    }
    Ok(())
}

async fn transactions() -> Outcome {
    let mut client = open().await?;
    client.batch_execute("create temp table steps (n int)").await?;
    let mut outer = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await?;
    outer.execute("insert into steps values (1)", &[]).await?;
    let inner = outer.savepoint("s").await?;
    fails(
        inner
            .execute("insert into steps values (1 / $1::int4)", &[&0i32])
            .await,
        &SqlState::DIVISION_BY_ZERO,
    );
    fails(
        inner.execute("select 1", &[]).await,
        &SqlState::IN_FAILED_SQL_TRANSACTION,
    );
    inner.rollback().await?;
    outer.execute("insert into steps values (4)", &[]).await?;
    outer.commit().await?;
    // One that is dropped rolls itself back.
    client
        .transaction()
        .await?
        .execute("insert into steps values (8)", &[])
        .await?;
    assert_eq!(one::<i64>(&client, "select sum(n) from steps", &[]).await?, 5);
    Ok(())
}

async fn settings() -> Outcome {
    let client = open().await?;
    client
        .batch_execute("create schema if not exists compat_rust; set search_path to compat_rust")
        .await?;
    for _ in 0..8 {
        assert_eq!(
            one::<String>(&client, "select current_schema()::text", &[]).await?,
            "compat_rust"
        );
    }
    client.batch_execute("reset search_path").await?;
    assert_eq!(
        one::<String>(&client, "select current_schema()::text", &[]).await?,
        "public"
    );
    Ok(())
}

async fn startup_options() -> Outcome {
    let mut config: Config = argument(1).parse()?;
    config
        .options("-c statement_timeout=54321 -c search_path=pg_catalog")
        .application_name("compat");
    let client = connect_with(config).await?;
    let sql = "select name, setting from pg_settings where name = any($1)";
    let names = vec!["statement_timeout", "search_path", "application_name"];
    let rows = client.query(sql, &[&names]).await?;
    let found: HashMap<String, String> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(found["statement_timeout"], "54321");
    assert_eq!(found["search_path"], "pg_catalog");
    assert_eq!(found["application_name"], "compat");
    Ok(())
}

async fn temporary_tables() -> Outcome {
    let client = open().await?;
    client.batch_execute("create temp table mine (n int)").await?;
    for i in 0..10i32 {
        client.execute("insert into mine values ($1)", &[&i]).await?;
    }
    assert_eq!(one::<i64>(&client, "select count(*) from mine", &[]).await?, 10);
    Ok(())
}

async fn advisory_locks() -> Outcome {
    let (holder, other) = (open().await?, open().await?);
    let try_lock = "select pg_try_advisory_lock(4717)";
    holder.execute("select pg_advisory_lock(4717)", &[]).await?;
    assert!(!one::<bool>(&other, try_lock, &[]).await?);
    assert!(one::<bool>(&holder, "select pg_advisory_unlock(4717)", &[]).await?);
    assert!(one::<bool>(&other, try_lock, &[]).await?);
    Ok(())
}

async fn large_values() -> Outcome {
    let client = open().await?;
    let value = vec![7u8; 10_000_000];
    let back: Vec<u8> = one(&client, "select $1::bytea", &[&value]).await?;
    assert!(back == value);
    Ok(())
}

async fn many_connections() -> Outcome {
    let answers = try_join_all((0..60i32).map(|n| async move {
        let client = open().await?;
        one::<i32>(&client, "select $1::int4", &[&n]).await
    }));
    assert_eq!(answers.await?, (0..60).collect::<Vec<i32>>());
    Ok(())
}

async fn reuse_after_errors() -> Outcome {
    let client = open().await?;
    for i in 0..20i32 {
        fails(
            client.execute("select nonsense", &[]).await,
            &SqlState::UNDEFINED_COLUMN,
        );
        fails(
            client.execute("select 1 / $1::int4", &[&0i32]).await,
            &SqlState::DIVISION_BY_ZERO,
        );
        assert_eq!(one::<i32>(&client, "select $1::int4", &[&i]).await?, i);
    }
    Ok(())
}

async fn logins() -> Outcome {
    for number in [2, 3] {
        let url = argument(number);
        let client = connect(&url).await?;
        assert!(url.contains(&one::<String>(&client, "select current_user::text", &[]).await?));
        let mut wrong: Config = url.parse()?;
        wrong.password("wrong");
        fails(connect_with(wrong).await, &SqlState::INVALID_PASSWORD);
    }
    Ok(())
}
