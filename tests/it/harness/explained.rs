//! A superuser's session that shows the plan of every statement, those inside functions included.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt as _;
use futures_util::stream;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use super::TestDb;

/// One executed statement.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Its text.
    pub(crate) query: String,
    /// The root of its plan, as JSON.
    pub(crate) root: Value,
}

/// The session.
pub(crate) struct Explained {
    client: Client,
    plans: Arc<Mutex<Vec<Plan>>>,
    _driver: JoinSet<()>,
}

impl Explained {
    /// Opens one with `auto_explain` loaded, under a `plan_cache_mode`.
    pub(crate) async fn open(db: &TestDb, plan_cache_mode: &str) -> Self {
        let (client, mut connection) = tokio_postgres::connect(&db.admin_url(), NoTls)
            .await
            .unwrap();
        let plans: Arc<Mutex<Vec<Plan>>> = Arc::default();
        let seen = plans.clone();
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if let AsyncMessage::Notice(notice) = message
                    && let Some((_, json)) = notice.message().split_once("plan:\n")
                    && let Ok(plan) = serde_json::from_str::<Value>(json)
                {
                    seen.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(Plan {
                            query: plan["Query Text"].as_str().unwrap_or_default().to_owned(),
                            root: plan["Plan"].clone(),
                        });
                }
            }
        });
        client
            .batch_execute(&format!(
                "load 'auto_explain';
                 set auto_explain.log_analyze = on; set auto_explain.log_buffers = on;
                 set auto_explain.log_timing = off; set auto_explain.log_format = json;
                 set auto_explain.log_nested_statements = on;
                 set plan_cache_mode = {plan_cache_mode}; set client_min_messages = log;
                 set auto_explain.log_min_duration = 0"
            ))
            .await
            .unwrap();
        Self {
            client,
            plans,
            _driver: driver,
        }
    }

    /// Runs a function of ours; answers its value and the plans of all statements that it ran, the
    /// call itself last.
    pub(crate) async fn call(
        &self,
        sql: &str,
        params: &[&(dyn ToSql + Sync)],
    ) -> (Value, Vec<Plan>) {
        self.plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        let row = self.client.query_one(sql, params).await.unwrap();
        let plans = self
            .plans
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        (row.get(0), plans)
    }
}

impl Plan {
    /// Every node: its type, the table and the index, where it has them.
    pub(crate) fn nodes(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        let mut open = vec![&self.root];
        while let Some(node) = open.pop() {
            let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
            found.push((text("Node Type"), text("Relation Name"), text("Index Name")));
            open.extend(node["Plans"].as_array().into_iter().flatten());
        }
        found
    }

    /// Shared buffers that it touched, with everything below it.
    pub(crate) fn buffers(&self) -> i64 {
        ["Shared Hit Blocks", "Shared Read Blocks"]
            .iter()
            .map(|key| self.root[key].as_i64().unwrap_or(0))
            .sum()
    }
}
