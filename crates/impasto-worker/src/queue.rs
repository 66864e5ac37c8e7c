//! [`Queue`]: the jobs that wait, run and have ended.

use crate::address::Address;
use crate::attempt::{self, Record};
use crate::engine::Engine;
use crate::entry::{Entry, Filter, State};
use crate::error::QueueError;
use crate::key::Key;
use crate::order::Order;
use crate::pictures;
use crate::settings::Settings;
use crate::store::Store;
use crate::table::{Place, Table};
use serde_json::Value;
use std::time::Duration;

/// Shortest time for which a statement waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The jobs that wait, run and have ended, in a database that survives the programs of the queue. Clones share their
/// connections.
#[derive(Clone, Debug)]
pub struct Queue {
    pub(crate) engine: Engine,
    pub(crate) table: Table,
    pub(crate) store: Store,
    pub(crate) settings: Settings,
}

impl Queue {
    /// Opens a queue, and makes its tables if they are missing.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn open(address: &Address, store: Store, settings: Settings) -> Result<Self, QueueError> {
        let patience = settings.lease.max(PATIENCE);
        let connect = async || {
            let (engine, pool, bytes) = Engine::open(address).await?;
            Ok((engine, Table::open(pool, bytes, patience).await?))
        };
        // Programs that open a new file of SQLite at the same moment lock each other out.
        for pause in [50, 200, 800, 3200] {
            match connect().await {
                Err(QueueError::Database(problem)) if problem.contains("database is locked") => {}
                opened => return opened.map(|(engine, table)| Self { engine, table, store, settings }),
            }
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        connect().await.map(|(engine, table)| Self { engine, table, store, settings })
    }

    /// Adds a job, and returns it. A job that was asked for before, by anyone, is not added again, unless it failed or
    /// was cancelled. Once this returns, the job is not lost.
    ///
    /// # Errors
    /// [`QueueError::Refused`] if the job is too large or too many jobs of its user wait, [`QueueError::Store`] if its
    /// pictures cannot be kept, and [`QueueError::Database`] if the database does not answer.
    pub async fn submit(&self, order: Order) -> Result<Entry, QueueError> {
        let mut order = order.checked()?;
        pictures::store(&mut order.job, &self.store).await?;
        let (bytes, most) = (order.job.to_string().len(), self.settings.job_bytes);
        if bytes > most {
            return Err(QueueError::Refused(format!(
                "the job has {bytes} bytes without pictures; expected at most {most}"
            )));
        }
        let key = Key::new(&order.model, &order.job);
        let accepted = self.table.accept(key.clone(), &order, self.settings.waiting).await?;
        if accepted.state == State::Waiting {
            let pushed = self.engine.push(&order.model, &accepted.ticket, accepted.turn);
            let pushed = self.table.answer(pushed).await;
            if let Err(error) = pushed {
                // No worker would find the job. If the database does not answer, the job waits until it is asked for
                // again.
                drop(self.table.end(&key, State::Failed, 0, "the job could not be added").await);
                return Err(error);
            }
        }
        let lost = || QueueError::Database("the job was deleted as it was added".into());
        self.find(&key).await?.ok_or_else(lost)
    }

    /// Completes the waiting jobs of a model whose programs died in the middle of [`submit`](Self::submit), so that
    /// workers find these jobs. Workers and studios do so when they begin.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn mend(&self, model: &str) -> Result<(), QueueError> {
        let (table, kind) = self.engine.tasks(model);
        let mut place = Place::default();
        while let Some(found) = self.table.list_without_task(model, (table, &kind), &mut place).await? {
            for (ticket, turn) in found {
                self.table.answer(self.engine.push(model, &ticket, turn)).await?;
            }
        }
        Ok(())
    }

    /// Returns a job; `None` if there is none.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn find(&self, key: &Key) -> Result<Option<Entry>, QueueError> {
        self.table.find(key).await
    }

    /// Lists jobs, the latest first.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn list(&self, filter: &Filter) -> Result<Vec<Entry>, QueueError> {
        self.table.list(filter).await
    }

    /// Counts the jobs of each state.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn count(&self) -> Result<Vec<(State, u64)>, QueueError> {
        self.table.count().await
    }

    /// Cancels a job that waits or runs; false if it has ended or is not there. A worker gives the job up within about
    /// a second, at its next step.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn cancel(&self, key: &Key) -> Result<bool, QueueError> {
        self.table.end(key, State::Cancelled, 0, "").await
    }

    /// Returns the file of a painted picture; `None` if there is none.
    ///
    /// # Errors
    /// [`QueueError::Store`] if the store does not answer.
    pub async fn picture(&self, key: &Key, index: usize) -> Result<Option<Vec<u8>>, QueueError> {
        self.store.read(&attempt::picture(key, index)).await
    }

    /// Returns the file of the newest unfinished picture of a running job; `None` if there is none.
    ///
    /// # Errors
    /// [`QueueError::Database`] if the database does not answer.
    pub async fn preview(&self, key: &Key) -> Result<Option<Vec<u8>>, QueueError> {
        self.table.preview(key).await
    }

    /// Returns the report of a job that is done; `None` for any other job.
    ///
    /// # Errors
    /// [`QueueError::Store`] if the store does not answer, or the report is damaged.
    pub async fn report(&self, key: &Key) -> Result<Option<Value>, QueueError> {
        let Some(bytes) = self.store.read(&attempt::record(key)).await? else { return Ok(None) };
        let read = serde_json::from_slice(&bytes).map(|Record { report, .. }| report);
        let fail =
            |error: serde_json::Error| QueueError::Store { store: self.store.to_string(), problem: error.to_string() };
        read.map(Some).map_err(fail)
    }
}
