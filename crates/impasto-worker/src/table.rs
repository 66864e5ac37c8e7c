//! [`Table`]: what the queue knows of its jobs beside the engine's tasks, in the same database.
//!
//! The engine knows who works on a task and for how long. This table knows the job, its state for people, and its turn.
//!
//! # Turns
//!
//! Users of a class take turns by start-time fair queueing (Goyal, Vin and Cheng, 1996). Each job gets a tag when it is
//! accepted: one more than the larger of the class's virtual time and the user's last waiting tag. The virtual time is
//! the largest tag that was begun. Jobs are begun in the order of their tags, so a user's thousandth job comes after
//! the first jobs of all others.

use crate::entry::{Entry, Filter, State};
use crate::error::QueueError;
use crate::key::Key;
use crate::order::Order;
use crate::progress::Step;
use crate::ticket::{Ticket, Turn};
use serde_json::Value;
use sqlx::any::AnyRow;
use sqlx::{AnyPool, Row};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The statements that make the table. SQLite and PostgreSQL read the same words, except for one type.
const MAKE: [&str; 5] = [
    "CREATE TABLE IF NOT EXISTS impasto_jobs (key TEXT PRIMARY KEY, round BIGINT NOT NULL, model TEXT NOT NULL, \
     owner TEXT NOT NULL, class BIGINT NOT NULL, tag BIGINT NOT NULL, title TEXT NOT NULL, job TEXT NOT NULL, \
     state TEXT NOT NULL, tries BIGINT NOT NULL DEFAULT 0, failures BIGINT NOT NULL DEFAULT 0, step BIGINT NOT NULL DEFAULT 0, \
     steps BIGINT NOT NULL DEFAULT 0, preview BYTES, reason TEXT NOT NULL DEFAULT '', \
     pictures BIGINT NOT NULL DEFAULT 0, worker TEXT NOT NULL DEFAULT '', submitted BIGINT NOT NULL, \
     begun BIGINT NOT NULL DEFAULT 0, ended BIGINT NOT NULL DEFAULT 0)",
    "CREATE INDEX IF NOT EXISTS impasto_jobs_begun ON impasto_jobs (class, tag) WHERE begun > 0",
    "CREATE INDEX IF NOT EXISTS impasto_jobs_waiting ON impasto_jobs (owner, class, tag) WHERE state = 'waiting'",
    "CREATE INDEX IF NOT EXISTS impasto_jobs_state ON impasto_jobs (state, submitted)",
    "CREATE INDEX IF NOT EXISTS impasto_jobs_submitted ON impasto_jobs (submitted)",
];

/// The columns of an entry.
const COLUMNS: &str = "key, model, owner, title, state, tries, step, steps, reason, pictures, worker, submitted, ended";

/// A job as a worker takes it.
#[derive(Debug)]
pub struct Begun {
    pub job: Value,
    /// Number of times that the job was begun, with the present try.
    pub tries: u32,
    /// Number of tries that ended with a reason.
    pub failures: u32,
    /// Reason of the last failure; empty if there was none.
    pub reason: String,
}

/// A job that was accepted.
#[derive(Debug)]
pub struct Accepted {
    pub ticket: Ticket,
    pub turn: Turn,
    pub state: State,
}

/// A place among the waiting jobs, in the order of their times. The default is before the first one.
#[derive(Debug, Default)]
pub(crate) struct Place {
    submitted: i64,
    key: String,
}

/// Number of jobs that are looked at in one statement, so that a long queue keeps no connection for long.
const PAGE: i64 = 1000;

/// The table of jobs. Clones share its connections.
#[derive(Clone, Debug)]
pub struct Table {
    pool: AnyPool,
    /// Time in which a statement is answered. A network that is cut tells no one of it.
    patience: Duration,
}

impl Table {
    /// Makes the table unless it is there. `bytes` is the database's type for bytes.
    pub async fn open(pool: AnyPool, bytes: &str, patience: Duration) -> Result<Self, QueueError> {
        for statement in MAKE {
            let statement = statement.replace("BYTES", bytes);
            match sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await {
                // Another program of the queue makes the table at the same moment.
                Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {}
                Err(error) => return Err(error.into()),
                Ok(_) => {}
            }
        }
        Ok(Self { pool, patience })
    }

    /// Waits for the answer to a statement.
    ///
    /// # Errors
    /// The statement's error, and [`QueueError::Database`] if there is no answer.
    pub(crate) async fn answer<T, E: Into<QueueError>>(
        &self,
        statement: impl Future<Output = Result<T, E>>,
    ) -> Result<T, QueueError> {
        let late = |_| QueueError::Database(format!("no answer for {:?}", self.patience));
        tokio::time::timeout(self.patience, statement).await.map_err(late)?.map_err(Into::into)
    }

    /// Accepts a job, unless it waits, runs or is done. Returns the job as it is then.
    ///
    /// # Errors
    /// [`QueueError::Refused`] if `most` jobs of the user wait.
    pub async fn accept(&self, key: Key, order: &Order, most: u32) -> Result<Accepted, QueueError> {
        // A job that is asked for again takes its turn anew.
        let statement = "INSERT INTO impasto_jobs (key, round, model, owner, class, tag, title, job, state, submitted) \
             SELECT $1, 1, $2, $3, $4, 1 + CASE WHEN turn.begun > turn.last THEN turn.begun ELSE turn.last END, $5, $6, \
             'waiting', $7 FROM (SELECT \
             (SELECT COALESCE(MAX(tag), 0) FROM impasto_jobs WHERE class = $4 AND begun > 0) AS begun, \
             (SELECT COALESCE(MAX(tag), 0) FROM impasto_jobs WHERE owner = $3 AND class = $4 AND state = 'waiting') AS last, \
             (SELECT COUNT(*) FROM impasto_jobs WHERE owner = $3 AND state = 'waiting') AS waiting) AS turn \
             WHERE turn.waiting < $8 \
             ON CONFLICT (key) DO UPDATE SET round = impasto_jobs.round + 1, owner = excluded.owner, \
             class = excluded.class, tag = excluded.tag, title = excluded.title, state = 'waiting', tries = 0, failures = 0, step = 0, \
             steps = 0, reason = '', begun = 0, ended = 0, submitted = excluded.submitted \
             WHERE impasto_jobs.state IN ('failed', 'cancelled')";
        let query = sqlx::query(statement).bind(key.as_str()).bind(&order.model).bind(&order.owner);
        let query = query.bind(order.class.number()).bind(&order.title).bind(order.job.to_string());
        self.answer(query.bind(now() as i64).bind(i64::from(most)).execute(&self.pool)).await?;
        let query = sqlx::query("SELECT round, class, tag, state FROM impasto_jobs WHERE key = $1").bind(key.as_str());
        let Some(row) = self.answer(query.fetch_optional(&self.pool)).await? else {
            let problem =
                format!("{most} jobs of this user wait; expected fewer; wait for some of them or cancel some");
            return Err(QueueError::Refused(problem));
        };
        let turn = Turn { class: row.try_get("class")?, tag: row.try_get("tag")? };
        Ok(Accepted { ticket: Ticket { key, round: row.try_get("round")? }, turn, state: state(&row)? })
    }

    /// Lists those of the next waiting jobs of a model, in the order of their times, that have no task of the engine.
    /// `table` has the engine's tasks, under `kind`. Moves `place` to the last one of these jobs; `None` if there is no
    /// next job.
    pub(crate) async fn list_without_task(
        &self,
        model: &str,
        (table, kind): (&str, &str),
        place: &mut Place,
    ) -> Result<Option<Vec<(Ticket, Turn)>>, QueueError> {
        let statement = format!(
            "SELECT key, round, class, tag, submitted, (SELECT COUNT(*) FROM {table} WHERE job_type = $2 AND \
             idempotency_key = page.key || ':' || page.round) AS tasks FROM (SELECT key, round, class, tag, submitted \
             FROM impasto_jobs WHERE state = 'waiting' AND model = $1 AND submitted >= $3 AND (submitted > $3 OR key > $4) \
             ORDER BY submitted, key LIMIT $5) AS page"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(model).bind(kind);
        let query = query.bind(place.submitted).bind(&place.key).bind(PAGE);
        let rows = self.answer(query.fetch_all(&self.pool)).await?;
        let Some(last) = rows.last() else { return Ok(None) };
        (place.submitted, place.key) = (last.try_get("submitted")?, last.try_get("key")?);
        let mut found = Vec::new();
        for row in rows {
            if row.try_get::<i64, _>("tasks")? == 0 {
                let key = row.try_get::<String, _>("key")?.parse()?;
                let turn = Turn { class: row.try_get("class")?, tag: row.try_get("tag")? };
                found.push((Ticket { key, round: row.try_get("round")? }, turn));
            }
        }
        Ok(Some(found))
    }

    /// Begins a try of a job, for a worker; `None` if the job has ended, is not there, or was asked for again
    /// meanwhile.
    pub async fn begin(&self, key: &Key, round: i64, worker: &str) -> Result<Option<Begun>, QueueError> {
        let statement = "UPDATE impasto_jobs SET state = 'running', tries = tries + 1, worker = $2, begun = $3, step = 0, \
             steps = 0 WHERE key = $1 AND round = $4 AND state IN ('waiting', 'running')";
        let query = sqlx::query(statement).bind(key.as_str()).bind(worker).bind(now() as i64).bind(round);
        if self.answer(query.execute(&self.pool)).await?.rows_affected() == 0 {
            return Ok(None);
        }
        let query =
            sqlx::query("SELECT job, tries, failures, reason FROM impasto_jobs WHERE key = $1").bind(key.as_str());
        let Some(row) = self.answer(query.fetch_optional(&self.pool)).await? else { return Ok(None) };
        let text: String = row.try_get("job")?;
        let job =
            serde_json::from_str(&text).map_err(|error| QueueError::Database(format!("a job is damaged: {error}")))?;
        Ok(Some(Begun {
            job,
            tries: number(&row, "tries")?,
            failures: number(&row, "failures")?,
            reason: row.try_get("reason")?,
        }))
    }

    /// Gives a try back that the worker did not finish, because the worker ends.
    pub async fn hand_back(&self, key: &Key, worker: &str) -> Result<(), QueueError> {
        let statement = "UPDATE impasto_jobs SET state = 'waiting', tries = tries - 1 WHERE key = $1 AND worker = $2 AND \
             state = 'running'";
        self.answer(sqlx::query(statement).bind(key.as_str()).bind(worker).execute(&self.pool)).await?;
        Ok(())
    }

    /// Notes why a try failed. The job waits for its next one.
    pub async fn note(&self, key: &Key, worker: &str, reason: &str) -> Result<(), QueueError> {
        let statement = "UPDATE impasto_jobs SET state = 'waiting', failures = failures + 1, reason = $3 WHERE key = $1 AND worker = $2 AND \
             state = 'running'";
        let query = sqlx::query(statement).bind(key.as_str()).bind(worker).bind(reason);
        self.answer(query.execute(&self.pool)).await?;
        Ok(())
    }

    /// Tells why a job does not end although it is painted. Returns false if the job was cancelled, and if another
    /// worker has it.
    pub(crate) async fn explain(&self, key: &Key, worker: &str, reason: &str) -> Result<bool, QueueError> {
        let statement = "UPDATE impasto_jobs SET reason = $3 WHERE key = $1 AND worker = $2 AND state = 'running'";
        let query = sqlx::query(statement).bind(key.as_str()).bind(worker).bind(reason);
        Ok(self.answer(query.execute(&self.pool)).await?.rows_affected() > 0)
    }

    /// Ends a job that has not ended. Returns true if it is so ended.
    pub async fn end(&self, key: &Key, state: State, pictures: usize, reason: &str) -> Result<bool, QueueError> {
        let statement = "UPDATE impasto_jobs SET state = $2, pictures = $3, reason = $4, ended = $5, preview = NULL \
             WHERE key = $1 AND state IN ('waiting', 'running')";
        let query = sqlx::query(statement).bind(key.as_str()).bind(state.name()).bind(pictures as i64);
        let ended = self.answer(query.bind(reason).bind(now() as i64).execute(&self.pool)).await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Writes the newest step of a job. Returns false if the job was cancelled, and if another worker has it.
    pub async fn step(&self, key: &Key, worker: &str, step: Option<Step>) -> Result<bool, QueueError> {
        let query = match step {
            Some(Step { done, total, preview }) => {
                let statement = "UPDATE impasto_jobs SET step = $3, steps = $4, preview = $5 WHERE key = $1 AND \
                     worker = $2 AND state = 'running'";
                let query = sqlx::query(statement).bind(key.as_str()).bind(worker);
                let query = query.bind(i64::from(done)).bind(i64::from(total)).bind(preview);
                self.answer(query.execute(&self.pool)).await?.rows_affected()
            }
            None => {
                let statement = "SELECT key FROM impasto_jobs WHERE key = $1 AND worker = $2 AND state = 'running'";
                let query = sqlx::query(statement).bind(key.as_str()).bind(worker);
                u64::from(self.answer(query.fetch_optional(&self.pool)).await?.is_some())
            }
        };
        Ok(query > 0)
    }

    /// Returns the file of the newest unfinished picture of a running job; `None` if there is none.
    pub async fn preview(&self, key: &Key) -> Result<Option<Vec<u8>>, QueueError> {
        let statement = "SELECT preview FROM impasto_jobs WHERE key = $1 AND preview IS NOT NULL";
        let row = self.answer(sqlx::query(statement).bind(key.as_str()).fetch_optional(&self.pool)).await?;
        let bytes: Option<Vec<u8>> = row.map(|row| row.try_get("preview")).transpose()?;
        Ok(bytes.filter(|bytes| !bytes.is_empty()))
    }

    /// Returns a job; `None` if there is none.
    pub async fn find(&self, key: &Key) -> Result<Option<Entry>, QueueError> {
        let statement = format!("SELECT {COLUMNS} FROM impasto_jobs WHERE key = $1");
        let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(key.as_str());
        self.answer(query.fetch_optional(&self.pool)).await?.map(|row| entry(&row)).transpose()
    }

    /// Lists jobs, the latest first.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Entry>, QueueError> {
        let statement = format!(
            "SELECT {COLUMNS} FROM impasto_jobs WHERE ($1 = '' OR state = $1) AND ($2 = 0 OR owner = $3) AND \
             ($4 = '' OR title LIKE $4 ESCAPE '!') AND submitted < $5 ORDER BY submitted DESC, tag DESC LIMIT $6"
        );
        let escaped = filter.text.replace('!', "!!").replace('%', "!%").replace('_', "!_");
        let text = if escaped.is_empty() { escaped } else { format!("%{escaped}%") };
        let limit = if filter.limit == 0 { 100 } else { filter.limit.min(1000) };
        let before = filter.before.map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
        let query = sqlx::query(sqlx::AssertSqlSafe(statement)).bind(filter.state.map_or("", State::name));
        let query = query.bind(i64::from(filter.owner.is_some())).bind(filter.owner.as_deref().unwrap_or_default());
        let rows = self.answer(query.bind(text).bind(before).bind(i64::from(limit)).fetch_all(&self.pool)).await?;
        rows.iter().map(entry).collect()
    }

    /// Counts the jobs of each state.
    pub async fn count(&self) -> Result<Vec<(State, u64)>, QueueError> {
        let rows = sqlx::query("SELECT state, COUNT(*) AS jobs FROM impasto_jobs GROUP BY state");
        let rows = self.answer(rows.fetch_all(&self.pool)).await?;
        let counts =
            rows.iter().map(|row| Ok((state(row)?, u64::try_from(row.try_get::<i64, _>("jobs")?).unwrap_or(0))));
        counts.collect()
    }
}

/// Returns the seconds of Unix time by this machine's clock. They are for people: no decision is made by them.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs().max(1))
}

fn number(row: &AnyRow, column: &str) -> Result<u32, QueueError> {
    let number: i64 = row.try_get(column)?;
    Ok(u32::try_from(number.max(0)).unwrap_or(u32::MAX))
}

fn state(row: &AnyRow) -> Result<State, QueueError> {
    let name: String = row.try_get("state")?;
    let found = State::ALL.into_iter().find(|state| state.name() == name);
    found.ok_or_else(|| QueueError::Database(format!("a job has the state {name:?}, which this version does not know")))
}

fn entry(row: &AnyRow) -> Result<Entry, QueueError> {
    let seconds = |column: &str| Ok::<_, QueueError>(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default());
    Ok(Entry {
        key: row.try_get::<String, _>("key")?.parse()?,
        model: row.try_get("model")?,
        owner: row.try_get("owner")?,
        title: row.try_get("title")?,
        state: state(row)?,
        tries: number(row, "tries")?,
        step: number(row, "step")?,
        steps: number(row, "steps")?,
        reason: row.try_get("reason")?,
        pictures: number(row, "pictures")?,
        worker: row.try_get("worker")?,
        submitted: seconds("submitted")?,
        ended: seconds("ended")?,
    })
}
