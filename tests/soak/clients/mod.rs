//! Who asks the server for what, again and again.

mod bad;
mod good;
mod slow;

use crate::expected::Expected;
use anyhow::{Context, Result, ensure};
use bad::Bad;
use reqwest::{Client, Response};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Clients of each kind; those of one photo are twice as many.
const CLIENTS: usize = 2;
/// How long any of them waits: longer than the server lets anybody wait.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long who was refused stays away.
const RETRY: Duration = Duration::from_millis(100);

const REFUSED: &str = "refused";

/// What happened.
#[derive(Debug, Default)]
pub struct Tally {
    pub counts: BTreeMap<&'static str, u64>,
    /// The models that answered one photo, with their versions.
    seen: BTreeSet<(String, String)>,
}

impl Tally {
    pub fn add(&mut self, other: Tally) {
        other.counts.iter().for_each(|(what, count)| *self.counts.entry(what).or_default() += count);
        self.seen.extend(other.seen);
    }

    /// Whether enough of everything happened, and both models answered by both checkpoints.
    pub fn check(&self) -> Result<()> {
        let least = [("photos", 50), ("large photos", 5), ("tensors", 10), ("bad requests", 40), ("given up", 10)];
        for (what, least) in least.into_iter().chain([("slow photos", 5), ("checkpoints", 2), (REFUSED, 1)]) {
            ensure!(self.of(what) >= least, "too few {what}: {self:?}");
        }
        ensure!(self.seen.len() == 4, "not every version of every model was seen: {self:?}");
        Ok(())
    }

    fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or(0)
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// False, and counted, if the server had too much to do and said so.
    fn took(&mut self, answer: &Response) -> Result<bool> {
        if answer.status() != 503 {
            return Ok(true);
        }
        ensure!(answer.headers().get("retry-after").is_some(), "503 without Retry-After");
        self.count(REFUSED);
        Ok(false)
    }
}

/// What a client needs.
#[derive(Clone)]
struct Visit {
    client: Client,
    url: String,
    expected: Arc<Expected>,
    bad: Arc<[Bad]>,
}

pub fn start(url: &str, expected: &Arc<Expected>, until: Instant) -> JoinSet<Result<Tally>> {
    let bad = bad::all(&expected.photos[0]).into();
    let visit = Visit { client: Client::new(), url: url.to_owned(), expected: expected.clone(), bad };
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        clients.spawn(repeat(visit.clone(), until, number, good::one));
        clients.spawn(repeat(visit.clone(), until, number + CLIENTS, good::one));
        clients.spawn(repeat(visit.clone(), until, number, good::of_watched));
        clients.spawn(repeat(visit.clone(), until, number, good::large));
        clients.spawn(repeat(visit.clone(), until, number, good::several));
        clients.spawn(repeat(visit.clone(), until, number, good::tensors));
        clients.spawn(repeat(visit.clone(), until, number, bad::one));
        clients.spawn(repeat(visit.clone(), until, number, slow::sender));
        clients.spawn(repeat(visit.clone(), until, number, slow::reader));
        clients.spawn(repeat(visit.clone(), until, number, slow::aborted));
        clients.spawn(repeat(visit.clone(), until, number, slow::late));
    }
    clients
}

async fn repeat(
    visit: Visit,
    until: Instant,
    number: usize,
    ask: impl AsyncFn(&Visit, usize, &mut Tally) -> Result<()>,
) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut count = number;
    while Instant::now() < until {
        let refused = tally.of(REFUSED);
        let asked = timeout(PATIENCE, ask(&visit, count, &mut tally)).await;
        asked.with_context(|| format!("{} hangs", std::any::type_name_of_val(&ask)))??;
        if tally.of(REFUSED) > refused {
            sleep(RETRY).await;
        }
        count += 1;
    }
    Ok(tally)
}

async fn json_of(answer: Response) -> Result<Value> {
    let status = answer.status();
    let text = answer.text().await?;
    ensure!(status == 200, "{status}: {text}");
    Ok(serde_json::from_str(&text)?)
}
