//! What slow, greedy and many clients meet.

use crate::own::{Own, SMALL, rest};
use crate::shared::{answer, photo};
use anyhow::{Result, ensure};
use std::io::Write;

/// A head that does not end, and a connection on which nothing is asked, are given up.
pub fn slow_heads() -> Result<()> {
    let own = Own::start(["--header-timeout", "300ms"])?;
    for words in ["", "GET /healthz HTTP/1.1\r\nHost: test\r\n"] {
        let answer = rest(&mut own.say(words.as_bytes())?)?;
        ensure!(!answer.contains("200 OK"), "{answer}");
    }
    // One that was answered may stay as long and no longer.
    let answer = rest(&mut own.say(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")?)?;
    ensure!(answer.contains("200 OK"), "{answer}");
    Ok(())
}

pub fn slow_bodies() -> Result<()> {
    let own = Own::start(["--stall-timeout", "300ms"])?;
    for path in ["/predict".to_owned(), format!("/v2/models/{SMALL}/infer")] {
        let words = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nten bytes.");
        let answer = rest(&mut own.say(words.as_bytes())?)?;
        ensure!(answer.starts_with("HTTP/1.1 408"), "{path}: {answer}");
    }
    Ok(())
}

/// A client that asks for much and takes nothing does not keep its connection.
pub fn slow_readers() -> Result<()> {
    let own = Own::start(["--stall-timeout", "300ms"])?;
    let models = answer(own.get("/models"))?.json(200)?;
    let words = format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", models["models"][0]["weights"].as_str().unwrap_or(""));
    let readers = (0..3).map(|_| own.say(words.as_bytes())).collect::<Result<Vec<_>>>()?;
    // The one that asks is open itself.
    own.until("three readers are given up", |own| Ok(own.metric("shortcut_connections")? <= 1.0))?;
    drop(readers);
    Ok(())
}

pub fn connections() -> Result<()> {
    let own = Own::start(["--max-connections", "2"])?;
    let mut open = vec![own.connect()?, own.connect()?];
    let refused = rest(&mut own.connect()?)?;
    ensure!(refused.starts_with("HTTP/1.1 503") && refused.contains("Retry-After: 1"), "{refused}");
    ensure!(refused.contains("\"overloaded\""), "{refused}");
    open.pop();
    own.until("a place is free again", |own| Ok(answer(own.get("/healthz")).is_ok_and(|answer| answer.status == 200)))
}

pub fn bytes_in_flight() -> Result<()> {
    let own = Own::start(["--max-in-flight", "1MB"])?;
    let mut first = own.say(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 950000\r\n\r\n")?;
    first.write_all(&[0; 900_000])?;
    own.until("the first is held", |own| Ok(own.metric("shortcut_in_flight_bytes")? == 900_000.0))?;
    answer(own.post("/predict").body(vec![0; 500_000]))?.overloaded()?;
    drop(first);
    own.until("nothing is held", |own| Ok(own.metric("shortcut_in_flight_bytes")? == 0.0))?;
    answer(own.post("/predict").body(vec![0; 500_000]))?.failure(415, "unsupported_format")
}

/// Who finds the queue full is told at once; all others get their answers.
pub fn full_queues() -> Result<()> {
    let own = Own::start(["--queue-size", "1", "--max-batch-size", "1"])?;
    let cat = photo("cat.jpg")?;
    let expected = answer(own.post("/predict").body(cat.clone()))?.json(200)?["predictions"].take();
    let answers = std::thread::scope(|scope| {
        let ask = || answer(own.post("/predict").body(cat.clone()));
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect::<Result<Vec<_>>>()
    })?;
    for answer in &answers {
        match answer.status {
            503 => answer.overloaded()?,
            _ => ensure!(answer.json(200)?["predictions"] == expected, "{}", answer.text()),
        }
    }
    let refused = answers.iter().filter(|answer| answer.status == 503).count();
    ensure!(refused > 0 && refused < answers.len(), "{refused} of {} were refused", answers.len());
    ensure!(own.metric("shortcut_refusals_total{reason=\"overloaded\"}")? == refused as f64, "not counted");
    Ok(())
}

pub fn deadlines() -> Result<()> {
    let own = Own::start(["--timeout", "1ms"])?;
    answer(own.post("/predict").body(photo("cat.jpg")?))?.failure(504, "deadline_exceeded")?;
    answer(own.post("/predict").header("x-timeout-ms", "60000").body(photo("cat.jpg")?))?
        .failure(504, "deadline_exceeded")?;
    answer(own.post("/predict").header("x-timeout-ms", "soon").body(photo("cat.jpg")?))?
        .failure(400, "malformed_request")?;
    let own = Own::start([])?;
    answer(own.post("/predict").header("x-timeout-ms", "60000").body(photo("cat.jpg")?))?.json(200)?;
    answer(own.post("/predict").header("x-timeout-ms", "1").body(photo("cat.jpg")?))?.failure(504, "deadline_exceeded")
}

pub fn large_heads() -> Result<()> {
    let own = Own::start([])?;
    let answer = answer(own.get("/healthz").header("x-much", "x".repeat(100_000)))?;
    ensure!(answer.status == 431, "{}", answer.status);
    Ok(())
}
