//! The clients of the soak test, each of which sends one kind of request repeatedly.

mod invalid;
mod slow;
mod valid;

use crate::expected::ExpectedPredictions;
use anyhow::{Context, Result, ensure};
use invalid::InvalidRequest;
use reqwest::{Client, Response};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Number of clients of each kind; twice as many send single photos.
const CLIENTS: usize = 2;
/// Time limit for each request, longer than all time limits of the server.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause after a rejected request.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

const REJECTED: &str = "rejected";

/// Numbers of completed requests by kind.
#[derive(Debug, Default)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, u64>,
    /// Names and versions of the models that classified a photo.
    versions: BTreeSet<(String, String)>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        other.counts.iter().for_each(|(kind, count)| *self.counts.entry(kind).or_default() += count);
        self.versions.extend(other.versions);
    }

    /// Checks that there were enough requests of every kind, and that both models used both checkpoints.
    pub fn check(&self) -> Result<()> {
        let minimums = [
            ("photos", 50),
            ("large photos", 5),
            ("slow photos", 5),
            ("tensors", 10),
            ("checkpoints", 2),
            ("invalid requests", 40),
            ("aborted requests", 10),
            (REJECTED, 1),
        ];
        for (kind, minimum) in minimums {
            ensure!(self.get(kind) >= minimum, "too few {kind}: {self:?}");
        }
        ensure!(self.versions.len() == 4, "not every version of every model was used: {self:?}");
        Ok(())
    }

    fn get(&self, kind: &str) -> u64 {
        self.counts.get(kind).copied().unwrap_or(0)
    }

    fn count(&mut self, kind: &'static str) {
        *self.counts.entry(kind).or_default() += 1;
    }

    /// Returns false and counts the request if the server was overloaded and rejected it.
    fn is_accepted(&mut self, response: &Response) -> Result<bool> {
        if response.status() != 503 {
            return Ok(true);
        }
        ensure!(response.headers().get("retry-after").is_some(), "503 without Retry-After");
        self.count(REJECTED);
        Ok(false)
    }
}

/// State shared by all clients.
#[derive(Clone)]
struct ClientContext {
    http: Client,
    url: String,
    expected: Arc<ExpectedPredictions>,
    invalid_requests: Arc<[InvalidRequest]>,
}

/// Starts all clients, which send requests until `end`.
pub fn start(url: &str, expected: &Arc<ExpectedPredictions>, end: Instant) -> JoinSet<Result<Tally>> {
    let context = ClientContext {
        http: Client::new(),
        url: url.to_owned(),
        expected: expected.clone(),
        invalid_requests: invalid::all_requests(&expected.photos[0]).into(),
    };
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(repeat(context.clone(), end, number, valid::photo));
        clients.spawn(repeat(context.clone(), end, number + CLIENTS, valid::photo));
        clients.spawn(repeat(context.clone(), end, number, valid::photo_for_watched_model));
        clients.spawn(repeat(context.clone(), end, number, valid::large_photo));
        clients.spawn(repeat(context.clone(), end, number, valid::several_photos));
        clients.spawn(repeat(context.clone(), end, number, valid::tensors));
        clients.spawn(repeat(context.clone(), end, number, invalid::request));
        clients.spawn(repeat(context.clone(), end, number, slow::upload));
        clients.spawn(repeat(context.clone(), end, number, slow::download));
        clients.spawn(repeat(context.clone(), end, number, slow::aborted));
        clients.spawn(repeat(context.clone(), end, number, slow::short_deadline));
    }
    clients
}

/// Sends requests until `end`, with the index `first` and every `2 * CLIENTS`-th one after it, so that clients send
/// different requests. Returns their counts.
async fn repeat(
    context: ClientContext,
    end: Instant,
    first: usize,
    request: impl AsyncFn(&ClientContext, usize, &mut Tally) -> Result<()>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut index = first;
    while Instant::now() < end {
        let rejected = tally.get(REJECTED);
        let result = timeout(REQUEST_TIMEOUT, request(&context, index, &mut tally)).await;
        result.with_context(|| format!("{} timed out", std::any::type_name_of_val(&request)))??;
        if tally.get(REJECTED) > rejected {
            sleep(RETRY_PAUSE).await;
        }
        index += 2 * CLIENTS;
    }
    Ok(tally)
}

/// Returns the JSON body of a response with status 200.
async fn successful_json(response: Response) -> Result<Value> {
    let status = response.status();
    let text = response.text().await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
