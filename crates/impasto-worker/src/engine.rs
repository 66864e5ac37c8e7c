//! [`Engine`]: the tasks of apalis, in SQLite or PostgreSQL.
//!
//! The engine gives each ticket to one worker at a time, and gives the tickets of workers without a sign of life to
//! others.

use crate::address::Address;
use crate::error::QueueError;
use crate::settings::Settings;
use crate::stop::Stop;
use crate::ticket::{Ticket, Turn};
use apalis::prelude::{
    BoxDynError, Data, Event, EventListenerExt, TaskBuilder, TaskSink, TaskSinkError, WorkerBuilder, WorkerBuilderExt,
};
use apalis::prelude::{WorkerContext, WorkerError};
use apalis_postgres::PostgresStorage;
use apalis_sqlite::SqliteStorage;
use futures_util::future::BoxFuture;
use futures_util::{Stream, StreamExt};
use sqlx::any::AnyPoolOptions;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use sqlx::{AnyPool, Connection, Executor, PgConnection, PgPool, SqlitePool};
use std::convert::Infallible;
use std::path::Path;
use std::pin::pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use url::Url;

/// Number of times that the engine hands a ticket out. The queue counts tries itself, because only some of them are the
/// job's fault.
const HANDED_OUT: usize = 1_000_000;

/// Time that a connection waits for another program's transaction.
const BUSY: Duration = Duration::from_secs(30);

/// Time in which a server answers the shortest statement. A network that is cut tells no one of it, so a connection
/// without an answer is given up.
const PING: Duration = Duration::from_secs(2);

/// Settings of a connection to PostgreSQL. The first one is the time after which the server ends a transaction whose
/// client has fallen silent, as its locks would keep a job from all workers. The others let the server look for the few
/// tasks that a worker takes by their ids. It expects to take a tenth of all tasks, and would read all of them first,
/// which takes 35 ms if 100,000 wait.
const SETTINGS: &str = "SET idle_in_transaction_session_timeout = '10s'; SET enable_hashjoin = off; \
     SET enable_mergejoin = off";

/// Statements that tell SQLite how many tasks have one id, and how many one state. Without such figures it looks for a
/// task's id among all tasks that wait, which takes 40 ms if 100,000 wait.
const FIGURES: [&str; 5] = [
    "PRAGMA analysis_limit = 1", // the table is read for a moment only, as its figures are not those of a full queue
    "ANALYZE Jobs",
    "DELETE FROM sqlite_stat1 WHERE tbl = 'Jobs'",
    "INSERT INTO sqlite_stat1 (tbl, idx, stat) VALUES ('Jobs', 'sqlite_autoindex_Jobs_1', '1000000 1'), \
     ('Jobs', 'idx_jobs_status_run_at', '1000000 200000 200000')",
    "ANALYZE sqlite_schema",
];

/// The statements that move signs of life out of the future.
const LATE_IN_SQLITE: &str = "UPDATE Workers SET last_seen = CAST(strftime('%s', 'now') AS INTEGER) \
     WHERE last_seen > CAST(strftime('%s', 'now') AS INTEGER)";
const LATE_IN_POSTGRES: &str = "UPDATE apalis.workers SET last_seen = NOW() WHERE last_seen > NOW()";

/// Connections of a program.
const CONNECTIONS: u32 = 4;

/// The tasks of apalis. Clones share their connections.
#[derive(Clone, Debug)]
pub enum Engine {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// The work on a ticket.
#[derive(Clone)]
pub struct Handler(pub Arc<dyn Fn(String) -> BoxFuture<'static, Result<(), BoxDynError>> + Send + Sync>);

impl Engine {
    /// Connects to a database and makes the engine's tables. Also returns connections for other statements, and the
    /// database's type for bytes.
    pub async fn open(address: &Address) -> Result<(Self, AnyPool, &'static str), QueueError> {
        sqlx::any::install_default_drivers();
        match address {
            Address::Sqlite(path) => {
                let file = SqliteConnectOptions::new().filename(path).create_if_missing(true).busy_timeout(BUSY);
                let file = file.journal_mode(SqliteJournalMode::Wal);
                let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS).connect_with(file).await?;
                // `SqliteStorage::setup` would also give up durability for speed.
                settle(async || SqliteStorage::migrations().run(&pool).await).await?;
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                for statement in FIGURES {
                    transaction.execute(statement).await?;
                }
                transaction.commit().await?;
                let other = AnyPoolOptions::new().max_connections(CONNECTIONS);
                Ok((Self::Sqlite(pool), other.connect(&url(path)?).await?, "BLOB"))
            }
            Address::Postgres(url) => {
                let options = PgConnectOptions::from_str(url.as_str())?;
                // A pool tries a refused connection again for half a minute before it tells the refusal.
                PgConnection::connect_with(&options).await?.close().await?;
                let pool = PgPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
                let pool = pool.after_connect(|connection, _| {
                    Box::pin(async move { connection.execute(SETTINGS).await.map(drop) })
                });
                let pool = pool.before_acquire(|connection, _| ping(connection));
                let pool = pool.after_release(|connection, _| ping(connection)).connect_with(options).await?;
                settle(async || PostgresStorage::migrations().run(&pool).await).await?;
                let other = AnyPoolOptions::new().max_connections(CONNECTIONS).test_before_acquire(false);
                let other = other.before_acquire(|connection, _| ping(connection));
                let other = other.after_release(|connection, _| ping(connection)).connect(url.as_str()).await?;
                Ok((Self::Postgres(pool), other, "BYTEA"))
            }
        }
    }

    /// Returns the table of tasks, and its name for the jobs of a model.
    pub(crate) fn tasks(&self, model: &str) -> (&'static str, String) {
        let table = match self {
            Self::Sqlite(_) => "Jobs",
            Self::Postgres(_) => "apalis.jobs",
        };
        (table, tasks(model))
    }

    /// Adds a ticket, unless it was added before.
    pub async fn push(&self, model: &str, ticket: &Ticket, turn: Turn) -> Result<(), QueueError> {
        let ticket = ticket.to_string();
        // Without a time of its own a task would wait for the clock of the machine that adds it.
        let task = TaskBuilder::new(ticket.clone()).idempotency_key(ticket).run_at_timestamp(0);
        let task = task.priority(turn.priority()).max_attempts(HANDED_OUT).build();
        match self {
            Self::Sqlite(pool) => {
                let config = apalis_sqlite::Config::default().queue(tasks(model));
                let mut storage = SqliteStorage::<String>::new(pool).with_config(config);
                storage.push_task(task).await.map_err(fail)
            }
            Self::Postgres(pool) => {
                let config = apalis_postgres::Config::default().queue(tasks(model));
                let mut storage = PostgresStorage::<String>::new(pool).with_config(config);
                match storage.push_task(task).await {
                    Err(TaskSinkError::PushError(apalis_postgres::Error::Database(sqlx::Error::Database(error))))
                        if error.is_unique_violation() =>
                    {
                        Ok(())
                    }
                    pushed => pushed.map_err(fail),
                }
            }
        }
    }

    /// Takes the tickets of a model, one after the other, until `stop` is true. The handler then has the end of its
    /// ticket.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer for the time of a lease. The handler's future is then
    /// dropped.
    pub async fn serve(
        &self,
        model: &str,
        name: &str,
        settings: &Settings,
        handler: Handler,
        stop: Stop,
    ) -> Result<(), QueueError> {
        let beats = (settings.lease.as_millis() / settings.beat.as_millis().max(1)).clamp(2, 1_000_000) as usize;
        let context = WorkerContext::new(name);
        let (sign, signs) = watch::channel(());
        let note = move |_: &WorkerContext, event: &Event| {
            if matches!(event, Event::HeartBeat) {
                sign.send_replace(());
            }
        };
        let serving = async {
            match self {
                Self::Sqlite(pool) => {
                    let config = apalis_sqlite::Config::default().queue(tasks(model)).batch_size(1);
                    let config = config.heartbeat_interval(settings.beat).missed_heartbeats(beats);
                    let storage = SqliteStorage::<String>::new(pool).with_config(config);
                    let worker = WorkerBuilder::new(&context).backend(storage).concurrency(1).data(handler);
                    follow(worker.on_event(note).build(work).stream(), &context, signs, settings.lease, stop).await
                }
                Self::Postgres(pool) => {
                    let config = apalis_postgres::Config::default().queue(tasks(model)).batch_size(1);
                    let config = config.heartbeat_interval(settings.beat).missed_heartbeats(beats);
                    let storage = PostgresStorage::<String>::new(pool).with_config(config);
                    let worker = WorkerBuilder::new(&context).backend(storage).concurrency(1).data(handler);
                    follow(worker.on_event(note).build(work).stream(), &context, signs, settings.lease, stop).await
                }
            }
        };
        tokio::select! {
            served = serving => served,
            never = self.correct_signs(settings.lease) => match never {},
        }
    }

    /// Moves signs of life out of the future, again and again. After the database's clock was set back by a day, a
    /// worker that had died before would seem alive for that day.
    async fn correct_signs(&self, lease: Duration) -> Infallible {
        loop {
            // Without an answer the signs are looked at again later.
            match self {
                Self::Sqlite(pool) => drop(pool.execute(LATE_IN_SQLITE).await),
                Self::Postgres(pool) => drop(pool.execute(LATE_IN_POSTGRES).await),
            }
            tokio::time::sleep(lease).await;
        }
    }
}

/// Returns the engine's name for the jobs of a model.
fn tasks(model: &str) -> String {
    format!("impasto:{model}")
}

fn fail(error: impl std::fmt::Display) -> QueueError {
    QueueError::Database(error.to_string())
}

/// Returns the address of a file of SQLite for connections of any database.
fn url(path: &Path) -> Result<String, QueueError> {
    let path = std::path::absolute(path).map_err(fail)?;
    let url = Url::from_file_path(&path).map_err(|()| fail(format_args!("{} is no path", path.display())))?;
    Ok(format!("sqlite{}", url.as_str().trim_start_matches("file")))
}

/// Runs migrations, again if other programs of the queue run them at the same moment.
async fn settle(migrate: impl AsyncFn() -> Result<(), sqlx::migrate::MigrateError>) -> Result<(), QueueError> {
    for pause in [50, 200, 800] {
        if migrate().await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    migrate().await.map_err(fail)
}

/// Calls the handler for a ticket.
async fn work(ticket: String, handler: Data<Handler>) -> Result<(), BoxDynError> {
    (handler.0.0)(ticket).await
}

/// Returns true if the server answers on a connection.
fn ping<C: Connection>(connection: &mut C) -> BoxFuture<'_, Result<bool, sqlx::Error>> {
    Box::pin(async move {
        match tokio::time::timeout(PING, connection.ping()).await {
            Ok(answer) => answer.map(|()| true),
            Err(_) => Err(sqlx::Error::PoolTimedOut),
        }
    })
}

/// Drives a worker of the engine to its end, or to the end of a lease without a sign of life.
async fn follow(
    events: impl Stream<Item = Result<Event, WorkerError>>,
    context: &WorkerContext,
    mut signs: watch::Receiver<()>,
    lease: Duration,
    mut stop: Stop,
) -> Result<(), QueueError> {
    let mut events = pin!(events);
    let mut silence = pin!(tokio::time::sleep(lease));
    let mut stopping = false;
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(Ok(_)) => {}
                // After an error the engine's worker must not be driven on: its parts may have ended.
                Some(Err(error)) => return Err(fail(error)),
                None => return Ok(()),
            },
            Ok(()) = signs.changed() => silence.as_mut().reset(tokio::time::Instant::now() + lease),
            () = &mut silence => return Err(fail(format_args!("no answer for {lease:?}"))),
            () = stop.wait(), if !stopping => {
                stopping = true;
                context.stop().map_err(fail)?;
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sqlx::Row;

    /// The plan of the statement by which the engine gives tasks to a worker.
    const TAKEN: &str = "EXPLAIN QUERY PLAN UPDATE Jobs SET status = 'Running', lock_by = 'worker' \
        WHERE id IN (SELECT value FROM json_each('[\"task\"]')) \
        AND (status = 'Queued' OR status = 'Pending' OR (status = 'Failed' AND attempts < max_attempts))";

    #[tokio::test]
    async fn refused_connection_is_told_at_once() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("postgres://127.0.0.1:{free}/none").parse().unwrap();
        let started = std::time::Instant::now();
        let error = Engine::open(&address).await.unwrap_err().to_string();
        assert!(error.contains("refused") && started.elapsed().as_secs() < 10, "{error} {:?}", started.elapsed());
    }

    #[tokio::test]
    async fn sqlite_looks_for_tasks_by_their_ids() {
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Sqlite(folder.path().join("queue.db"));
        let (Engine::Sqlite(pool), ..) = Engine::open(&address).await.unwrap() else { panic!("another database") };
        // Every connection of a program plans alike.
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(pool.acquire().await.unwrap());
        }
        for connection in &mut connections {
            // Before its first statement, a connection does not see that the figures have changed.
            connection.execute("SELECT id FROM Jobs").await.unwrap();
            let plan = sqlx::query(TAKEN).fetch_one(&mut **connection).await.unwrap();
            assert_eq!(plan.get::<String, _>("detail"), "SEARCH Jobs USING INDEX sqlite_autoindex_Jobs_1 (id=?)");
        }
    }
}
