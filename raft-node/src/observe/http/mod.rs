//! The HTTP endpoint for operators: scrapers, probes, load balancers.
//!
//! | Path | Answer |
//! |---|---|
//! | `GET /metrics` | OpenMetrics text |
//! | `GET /livez` | 200: the event loop answers |
//! | `GET /readyz` | 200 if every group is ready by evidence ([`Health`]), else 503; one line a reason |
//! | `GET /readyz?max_lag=500ms` | the same, but 503 as well if this replica is further behind in any group |
//! | `GET /replica?max_lag=500ms` | 200 if this replica is within the bound (10 s by default) in every group and has been for a while, else 503; one line a reason |
//! | `GET /leader` | 200, who leads each group (JSON) |
//! | `GET /leader?local=1` | the same, but 503 unless this node leads every group |
//!
//! It says nothing secret and changes nothing, has neither TLS nor authentication, and belongs on
//! the operators' network.
mod server;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde::{Deserialize, Serialize};
use tokio::{net::TcpListener, sync::Semaphore};

use super::{
    health::{GroupLeader, Health, NotReady},
    metrics::{Metrics, scrape, sources::Sources},
};
use crate::runtime;

/// A scrape that takes longer is no use to the scraper (Prometheus waits 10 s by default).
const SCRAPE_LIMIT: Duration = Duration::from_secs(5);

/// Bound of `/replica` when none is asked for.
const DEFAULT_MAX_LAG: Duration = Duration::from_secs(10);

/// Bound of the ages in a scrape: a proof younger than this is as good as a new one.
const SCRAPE_AGE: Duration = Duration::from_millis(100);

struct App<V> {
    metrics: Arc<Metrics>,
    vitals: Arc<V>,
    /// One scrape at a time, however many ask: they all want the same numbers.
    scraping: Arc<Semaphore>,
}

impl<V> Clone for App<V> {
    fn clone(&self) -> Self {
        Self {
            metrics: self.metrics.clone(),
            vitals: self.vitals.clone(),
            scraping: self.scraping.clone(),
        }
    }
}

/// Answers until `stopped` resolves, and finishes what it has begun, for a moment. Does not fail:
/// trouble with single connections is logged, and a node without its HTTP endpoint still does its
/// work.
pub async fn serve<V: Health + Sources>(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    vitals: Arc<V>,
    stopped: impl Future<Output = ()>,
) {
    let router = Router::new()
        .route("/metrics", get(metrics_page::<V>))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz::<V>))
        .route("/replica", get(replica::<V>))
        .route("/leader", get(leader::<V>))
        .with_state(App { metrics, vitals, scraping: Arc::new(Semaphore::new(1)) });
    server::serve(listener, router, stopped).await;
}

async fn metrics_page<V: Health + Sources>(State(app): State<App<V>>) -> Response {
    let scrape = async {
        let permit = app.scraping.acquire_owned().await;
        // Nobody may have read for long, and then no age is known that means anything.
        app.vitals.lags(SCRAPE_AGE).await;
        runtime::blocking(move || {
            // Held by the work itself: when the wait below gives up, the next scrape still comes
            // after this one.
            let _permit = permit;
            app.metrics.text(&*app.vitals)
        })
        .await
    };
    match runtime::timeout(SCRAPE_LIMIT, scrape).await {
        Ok(text) => ([(header::CONTENT_TYPE, scrape::CONTENT_TYPE)], text).into_response(),
        Err(_) => {
            tracing::warn!("a scrape of the metrics took too long");
            (StatusCode::SERVICE_UNAVAILABLE, "collecting the metrics took too long\n")
                .into_response()
        }
    }
}

#[derive(Deserialize)]
struct LagQuery {
    max_lag: Option<String>,
}

impl LagQuery {
    /// The bound that was asked for: `500ms`, `2s`, or a number of milliseconds.
    fn bound(&self) -> Result<Option<Duration>, (StatusCode, &'static str)> {
        const WRONG: &str = "max_lag is a time, like 500ms or 2s\n";
        let Some(text) = self.max_lag.as_deref() else { return Ok(None) };
        let (digits, unit_ms) = match (text.strip_suffix("ms"), text.strip_suffix('s')) {
            (Some(digits), _) => (digits, 1),
            (None, Some(digits)) => (digits, 1_000),
            (None, None) => (text, 1),
        };
        let number = digits.parse::<u32>().map_err(|_| (StatusCode::BAD_REQUEST, WRONG))?;
        Ok(Some(Duration::from_millis(u64::from(number) * unit_ms)))
    }
}

fn verdict(good: &'static str, reasons: &[NotReady]) -> Response {
    if reasons.is_empty() {
        return good.into_response();
    }
    let body: String = reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
}

async fn readyz<V: Health>(State(app): State<App<V>>, Query(query): Query<LagQuery>) -> Response {
    let bound = match query.bound() {
        Ok(bound) => bound,
        Err(wrong) => return wrong.into_response(),
    };
    let mut reasons = app.vitals.not_ready();
    if let Some(bound) = bound {
        let lags = app.vitals.lags(bound).await;
        reasons.extend(lags.iter().filter_map(|lag| {
            Some(NotReady { group: Some(lag.group), why: lag.within(bound).err()? })
        }));
    }
    verdict("ready\n", &reasons)
}

/// For load balancers that spread reads. It says nothing about writes, and nothing about a leader:
/// a replica within its bound is of use without one.
async fn replica<V: Health>(State(app): State<App<V>>, Query(query): Query<LagQuery>) -> Response {
    let bound = match query.bound() {
        Ok(bound) => bound.unwrap_or(DEFAULT_MAX_LAG),
        Err(wrong) => return wrong.into_response(),
    };
    let leaving = app.vitals.not_ready().into_iter().filter(|reason| reason.group.is_none());
    let mut reasons: Vec<NotReady> = leaving.collect();
    let lags = app.vitals.probation(bound).await;
    reasons.extend(lags.iter().filter_map(|lag| {
        Some(NotReady { group: Some(lag.group), why: lag.proven(bound).err()? })
    }));
    verdict("serve\n", &reasons)
}

#[derive(Deserialize)]
struct LeaderQuery {
    local: Option<String>,
}

#[derive(Serialize)]
struct Leaders {
    groups: Vec<Leader>,
}

#[derive(Serialize)]
struct Leader {
    group: u32,
    term: u64,
    /// `null`: this node knows no leader.
    leader: Option<LeaderNode>,
    /// The node that answers leads.
    local: bool,
}

#[derive(Serialize)]
struct LeaderNode {
    id: u64,
    client: String,
}

impl From<GroupLeader> for Leader {
    fn from(of: GroupLeader) -> Self {
        Self {
            group: of.group.0,
            term: of.term.0,
            leader: of.leader.map(|(id, client)| LeaderNode { id, client }),
            local: of.leads_here,
        }
    }
}

async fn leader<V: Health>(
    State(app): State<App<V>>,
    Query(query): Query<LeaderQuery>,
) -> Response {
    let must_be_local = match query.local.as_deref() {
        None | Some("0" | "false") => false,
        Some("1" | "true") => true,
        Some(_) => return (StatusCode::BAD_REQUEST, "local is 0 or 1\n").into_response(),
    };
    let groups: Vec<Leader> = app.vitals.leaders().into_iter().map(Leader::from).collect();
    // A node without groups leads nothing: "all of none" must not attract writes.
    let all_local = !groups.is_empty() && groups.iter().all(|group| group.local);
    let status = match must_be_local && !all_local {
        true => StatusCode::SERVICE_UNAVAILABLE,
        false => StatusCode::OK,
    };
    match serde_json::to_string(&Leaders { groups }) {
        Ok(body) => {
            (status, [(header::CONTENT_TYPE, "application/json")], body + "\n").into_response()
        }
        Err(error) => {
            tracing::error!(%error, "/leader can't be written as JSON");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
