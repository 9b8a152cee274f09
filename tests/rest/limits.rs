//! What slow, greedy and many clients meet.

use crate::own::{Own, SMALL, checkpoint, rest};
use crate::shared::{answer, form, photo};
use anyhow::{Context, Result, ensure};
use model::preprocess::Photo;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Command;
use std::time::{Duration, Instant};
use tests::workspace;

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

/// A process that may open fewer files than there may be connections has fewer of these, rather than none for anybody.
pub fn descriptors() -> Result<()> {
    let named = format!("{SMALL}={}", checkpoint(SMALL).display());
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]).arg(workspace::binary("server")?);
    limited.current_dir(workspace::root()).args(["--model", &named, "--log", "error"]);
    let own = Own::run(limited)?;
    let open = (0..8).map(|_| own.connect()).collect::<Result<Vec<_>>>()?;
    let refused = rest(&mut own.connect()?)?;
    ensure!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    drop(open);
    own.until("a place is free again", |own| Ok(answer(own.get("/healthz")).is_ok_and(|answer| answer.status == 200)))?;
    ensure!(own.metric("process_max_fds")? == 200.0, "the limit is another");
    Ok(())
}

/// Whose image still waits, though it has sent the beginning of another request.
pub fn gone_clients() -> Result<()> {
    let own = Own::start(["--max-queue-delay", "60s", "--max-batch-size", "64"])?;
    let cat = photo("cat.jpg")?;
    let head = format!("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", cat.len());
    let one = [head.as_bytes(), &cat].concat();
    for (behind, gone) in [(&b""[..], 1.0), (b"GET /healthz HTTP/1.1\r\n", 2.0), (&one, 3.0)] {
        let connection = own.say(&[&one, behind].concat())?;
        own.until("the photo is decoded", |own| Ok(own.metric("shortcut_decode_seconds_count")? == gone))?;
        drop(connection);
        own.until("it is noticed", |own| {
            Ok(own.metric("shortcut_refusals_total{reason=\"client_gone\"}").is_ok_and(|count| count == gone))
        })?;
    }
    Ok(())
}

/// Who is refused before a large body is read sees why.
pub fn early_refusals() -> Result<()> {
    let own = Own::start(["--api-keys", "key"])?;
    let body = vec![0; 15_000_000];
    let send = |path: &str, headers: &[(&str, &str)]| {
        let request = headers.iter().fold(own.post(path), |request, (name, value)| request.header(*name, *value));
        Ok::<_, anyhow::Error>(answer(request.body(body.clone()))?.status)
    };
    for (status, path, headers) in [
        (401, "/predict", &[][..]),
        (404, "/nowhere", &[]),
        (405, "/models", &[]),
        (400, "/predict", &[("x-api-key", "key"), ("x-timeout-ms", "soon")]),
        (415, "/predict", &[("x-api-key", "key"), ("content-encoding", "gzip")]),
        (403, "/v2/repository/index", &[]),
    ] {
        let found = send(path, headers).with_context(|| format!("{path}, {headers:?}"))?;
        ensure!(found == status, "{path}, {headers:?}: {found} instead of {status}");
    }
    // Nor does an answer come before the whole form is sent, which some clients take for a failure.
    for _ in 0..20 {
        answer(own.post("/predict").multipart(form([photo("cat.jpg")?])))?.failure(401, "key_missing")?;
    }
    Ok(())
}

pub fn bytes_in_flight() -> Result<()> {
    let own = Own::start(["--max-body", "1MB", "--max-in-flight", "3MB"])?;
    let begun = (0..3).map(|_| {
        let mut begun = own.say(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 950000\r\n\r\n")?;
        begun.write_all(&[0; 900_000])?;
        Ok(begun)
    });
    let begun = begun.collect::<Result<Vec<_>>>()?;
    own.until("three are held", |own| Ok(own.metric("shortcut_in_flight_bytes")? == 2_700_000.0))?;
    answer(own.post("/predict").body(vec![0; 500_000]))?.overloaded()?;
    drop(begun);
    own.until("nothing is held", |own| Ok(own.metric("shortcut_in_flight_bytes")? == 0.0))?;
    answer(own.post("/predict").body(vec![0; 500_000]))?.failure(415, "unsupported_format")
}

/// One after the other on one connection, refused or not, and both at once.
pub fn kept_connections() -> Result<()> {
    let own = Own::start([])?;
    let cat = photo("cat.jpg")?;
    let post = |path: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let (good, large) = (post("/predict", &cat), vec![0; 300_000]);
    for (status, refused) in [
        (404, post("/nowhere", &large)),
        (405, post("/models", &large)),
        (415, post("/predict", &large)),
        (404, post("/predict?model=nonesuch", &large)),
        (403, post("/v2/repository/index", &large)),
    ] {
        let mut connection = BufReader::new(own.connect()?);
        for (status, request) in [(status, &refused), (200, &good)] {
            connection.get_mut().write_all(request)?;
            ensure!(status_of(&mut connection)? == status, "not {status}");
        }
        connection.get_mut().write_all(&[&refused[..], &good].concat())?;
        for status in [status, 200] {
            ensure!(status_of(&mut connection)? == status, "not {status} of two at once");
        }
    }
    Ok(())
}

/// Of the next answer, which is read to its end.
fn status_of(connection: &mut impl BufRead) -> Result<u16> {
    let lines = connection.by_ref().lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    let head = lines.collect::<Result<Vec<_>, _>>()?.join("\n").to_lowercase();
    ensure!(!head.contains("connection: close"), "the connection ends: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let mut body = vec![0; length.parse()?];
    connection.read_exact(&mut body)?;
    Ok(head.split(' ').nth(1).context("no status")?.parse()?)
}

/// Who takes half a megabyte a second is waited for, though with buffers of several on the way the server gets rid of nothing for
/// longer than it waits.
pub fn steady_readers() -> Result<()> {
    let own = Own::start(["--stall-timeout", "2s"])?;
    let models = answer(own.get("/models"))?.json(200)?;
    let path = models["models"][0]["weights"].as_str().context("no weights")?;
    let words = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut connection = own.say(words.as_bytes())?;
    let (mut weights, mut piece) = (Vec::new(), vec![0; 100_000]);
    for _ in 0..25 {
        connection.read_exact(&mut piece)?;
        weights.extend_from_slice(&piece);
        std::thread::sleep(Duration::from_millis(200));
    }
    connection.read_to_end(&mut weights)?;
    let expected = std::fs::read(checkpoint(SMALL))?;
    ensure!(weights.ends_with(&expected), "{} of {} bytes came", weights.len(), expected.len());
    Ok(())
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

/// Who finds as many photos waiting to be decoded as may is told at once.
pub fn full_decode_queue() -> Result<()> {
    // As large as a camera's.
    let large = Photo::from_rgba(4000, 3000, &vec![100; 4 * 4000 * 3000])?.to_png();
    let own = Own::start(["--decode-queue", "1", "--decode-threads", "1"])?;
    let answers = std::thread::scope(|scope| {
        let ask = || {
            let begun = Instant::now();
            Ok((answer(own.post("/predict").body(large.clone()))?, begun.elapsed()))
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        clients.into_iter().map(|client| client.join().expect("a client does not panic")).collect::<Result<Vec<_>>>()
    })?;
    let (refused, answered): (Vec<_>, Vec<_>) = answers.iter().partition(|(answer, _)| answer.status == 503);
    refused.iter().try_for_each(|(answer, _)| answer.overloaded())?;
    answered.iter().try_for_each(|(answer, _)| answer.json(200).map(drop))?;
    let soonest = |answers: &[&(_, _)]| answers.iter().map(|(_, took)| *took).min();
    let (refusal, prediction) =
        (soonest(&refused).context("none refused")?, soonest(&answered).context("none answered")?);
    ensure!(refusal < prediction, "refused after {refusal:?}, answered after {prediction:?}");
    Ok(())
}

/// More photos than may wait would never be taken.
pub fn photos() -> Result<()> {
    let own = Own::start(["--queue-size", "2"])?;
    let ask = |photos: usize| -> Result<_> {
        let photos = (0..photos).map(|_| photo("cat.jpg")).collect::<Result<Vec<_>>>()?;
        answer(own.post("/predict").multipart(form(photos)))
    };
    ask(3)?.failure(413, "too_large")?;
    let answered = ask(2)?.json(200)?;
    let results = answered["results"].as_array().context("no results")?;
    ensure!(results.len() == 2 && results.iter().all(|result| result["predictions"].is_array()), "{answered}");
    Ok(())
}

/// Eight bytes for a pixel of a plain JPEG.
pub fn decode_memory() -> Result<()> {
    let own = Own::start(["--max-decode-memory", "1500kB"])?;
    let ask = |name: &str| answer(own.post("/predict").body(photo(name)?));
    ask("rocket.jpg")?.failure(413, "too_large")?;
    ask("cat.jpg")?.json(200).map(drop)
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
