//! Limits on slow clients, large requests and many clients.

use crate::http::{form, photo, send};
use crate::test_server::{TestServer, read_to_end};
use anyhow::{Context, Result, ensure};
use model::preprocess::Photo;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::time::{Duration, Instant};
use tests::server;
use tests::workspace::{self, SMALL_MODEL, checkpoint};

const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n";

/// Connections with an incomplete request head, or without a request, are closed.
pub fn slow_heads() -> Result<()> {
    let server = TestServer::start(["--header-timeout", "300ms"])?;
    for request in ["", "GET /healthz HTTP/1.1\r\nHost: test\r\n"] {
        let response = read_to_end(&mut server.send_raw(request.as_bytes())?)?;
        ensure!(!response.contains("200 OK"), "{response}");
    }
    // Connections stay open while they are idle, but the next head must be complete in time.
    let mut idle = server.send_raw(HEALTH)?;
    ensure!(read_status(&mut BufReader::new(idle.try_clone()?))? == 200, "not healthy");
    std::thread::sleep(Duration::from_millis(900));
    idle.write_all(HEALTH)?;
    ensure!(read_status(&mut BufReader::new(idle.try_clone()?))? == 200, "the idle connection was closed");
    idle.write_all(b"GET /healthz HTTP/1.1\r\n")?;
    let response = read_to_end(&mut idle)?;
    ensure!(response.is_empty(), "{response}");
    Ok(())
}

/// Connections are closed when they have been idle for too long.
pub fn idle_connections() -> Result<()> {
    let server = TestServer::start(["--idle-timeout", "300ms", "--header-timeout", "60s"])?;
    let response = read_to_end(&mut server.send_raw(HEALTH)?)?;
    ensure!(response.contains("200 OK"), "{response}");
    Ok(())
}

/// A client that closes its sending side after its request receives the response, also if that takes a while.
pub fn half_closed_clients() -> Result<()> {
    let server = TestServer::start(["--max-queue-delay", "3s", "--max-batch-size", "64"])?;
    let cat = photo("cat.jpg")?;
    let post = |body: &[u8]| {
        let head = format!("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    for (request, is_slow) in [(HEALTH.to_vec(), false), (post(b"no photo"), false), (post(&cat), true)] {
        let mut connection = server.send_raw(&request)?;
        connection.shutdown(Shutdown::Write)?;
        let response = read_to_end(&mut connection)?;
        // Sent after a second, to find out whether the client has disconnected.
        let interim = "HTTP/1.1 100 Continue\r\n\r\n";
        let last = response.strip_prefix(interim);
        ensure!(last.is_some() || !is_slow, "no interim response: {response}");
        let last = last.unwrap_or(&response);
        ensure!(last.starts_with("HTTP/1.1 ") && !last.contains(interim), "{response}");
        ensure!(!is_slow || last.contains("predictions"), "{response}");
    }
    ensure!(server.metric("shortcut_refusals_total{reason=\"client_gone\"}").is_err(), "a client counted as gone");
    Ok(())
}

/// A client that waits for permission to send a body beyond the limit is told at once that it is too large.
pub fn expected_bodies(server: &TestServer) -> Result<()> {
    for (path, length) in [("/predict", 21_000_000u64), ("/predict", 1 << 40), ("/v2/models/x/infer", 21_000_000)] {
        for encoding in ["identity", "gzip"] {
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\
                 Content-Encoding: {encoding}\r\n\r\n"
            );
            let response = read_to_end(&mut server.send_raw(request.as_bytes())?)?;
            ensure!(response.starts_with("HTTP/1.1 413"), "{path}, {length}, {encoding}: {response}");
        }
    }
    Ok(())
}

pub fn slow_bodies(server: &TestServer) -> Result<()> {
    for path in ["/predict".to_owned(), format!("/v2/models/{SMALL_MODEL}/infer")] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nten bytes.");
        let response = read_to_end(&mut server.send_raw(request.as_bytes())?)?;
        ensure!(response.starts_with("HTTP/1.1 408"), "{path}: {response}");
    }
    Ok(())
}

/// The connection of a client that does not read its response is closed.
pub fn slow_readers(server: &TestServer) -> Result<()> {
    let models = send(server.get("/models"))?.json(200)?;
    let request =
        format!("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", models["models"][0]["weights"].as_str().unwrap_or(""));
    let readers = (0..3).map(|_| server.send_raw(request.as_bytes())).collect::<Result<Vec<_>>>()?;
    // The remaining connection is that of the request for the metrics, since other tests close theirs.
    server.wait_until("three connections are closed", |server| Ok(server.metric("shortcut_connections")? <= 1.0))?;
    drop(readers);
    Ok(())
}

pub fn connections() -> Result<()> {
    let server = TestServer::start(["--max-connections", "2"])?;
    let mut open = vec![server.connect()?, server.connect()?];
    let rejected = read_to_end(&mut server.connect()?)?;
    ensure!(rejected.starts_with("HTTP/1.1 503") && rejected.contains("Retry-After: 1"), "{rejected}");
    ensure!(rejected.contains("\"overloaded\""), "{rejected}");
    open.pop();
    server.wait_until("a connection is accepted again", |server| {
        Ok(send(server.get("/healthz")).is_ok_and(|response| response.status == 200))
    })
}

/// A process that may open fewer files than connections are allowed accepts fewer connections, instead of failing for
/// all.
pub fn file_descriptors() -> Result<()> {
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -n 200 && exec \"$0\" \"$@\""]).arg(workspace::binary("server")?);
    limited.current_dir(workspace::root()).args(server::small_model()).args(["--log", "error"]);
    let server = TestServer::run(limited)?;
    let open = (0..8).map(|_| server.connect()).collect::<Result<Vec<_>>>()?;
    let rejected = read_to_end(&mut server.connect()?)?;
    ensure!(rejected.starts_with("HTTP/1.1 503"), "{rejected}");
    drop(open);
    server.wait_until("a connection is accepted again", |server| {
        Ok(send(server.get("/healthz")).is_ok_and(|response| response.status == 200))
    })?;
    ensure!(server.metric("process_max_fds")? == 200.0, "unexpected file limit");
    Ok(())
}

/// Disconnected clients are detected while their image is queued, even if they have sent part of another request.
pub fn disconnected_clients() -> Result<()> {
    let server = TestServer::start(["--max-queue-delay", "60s", "--max-batch-size", "64"])?;
    let cat = photo("cat.jpg")?;
    let head = format!("POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", cat.len());
    let one = [head.as_bytes(), &cat].concat();
    for (pipelined, disconnected) in [(&b""[..], 1.0), (b"GET /healthz HTTP/1.1\r\n", 2.0), (&one, 3.0)] {
        let connection = server.send_raw(&[&one, pipelined].concat())?;
        server.wait_until("the photo is decoded", |server| {
            Ok(server.metric("shortcut_decode_seconds_count")? == disconnected)
        })?;
        drop(connection);
        server.wait_until("the disconnect is detected", |server| {
            Ok(server
                .metric("shortcut_refusals_total{reason=\"client_gone\"}")
                .is_ok_and(|count| count == disconnected))
        })?;
    }
    Ok(())
}

/// Clients receive errors that are decided before their large body is read.
pub fn early_errors(server: &TestServer) -> Result<()> {
    let body = vec![0; 15_000_000];
    let post_body = |path: &str, headers: &[(&str, &str)]| {
        let request = headers.iter().fold(server.post(path), |request, (name, value)| request.header(*name, *value));
        Ok::<_, anyhow::Error>(send(request.body(body.clone()))?.status)
    };
    for (status, path, headers) in [
        (401, "/predict", &[][..]),
        (404, "/nowhere", &[]),
        (405, "/models", &[]),
        (400, "/predict", &[("x-api-key", "one"), ("x-timeout-ms", "soon")]),
        (415, "/predict", &[("x-api-key", "one"), ("content-encoding", "br")]),
        (403, "/v2/repository/index", &[]),
    ] {
        let actual = post_body(path, headers).with_context(|| format!("{path}, {headers:?}"))?;
        ensure!(actual == status, "{path}, {headers:?}: expected {status}, got {actual}");
    }
    // The response is not sent before the whole form is received: some clients treat that as a failure.
    for _ in 0..20 {
        send(server.post("/predict").multipart(form([photo("cat.jpg")?])))?.expect_error(401, "key_missing")?;
    }
    Ok(())
}

pub fn memory_budget() -> Result<()> {
    let server = TestServer::start(["--max-body", "1MB", "--max-in-flight", "3MB"])?;
    let uploads = (0..3).map(|_| {
        let mut upload = server.send_raw(b"POST /predict HTTP/1.1\r\nHost: test\r\nContent-Length: 950000\r\n\r\n")?;
        upload.write_all(&[0; 900_000])?;
        Ok(upload)
    });
    let uploads = uploads.collect::<Result<Vec<_>>>()?;
    server.wait_until("memory is reserved for three bodies", |server| {
        Ok(server.metric("shortcut_in_flight_bytes")? == 2_700_000.0)
    })?;
    send(server.post("/predict").body(vec![0; 500_000]))?.expect_overloaded()?;
    drop(uploads);
    server.wait_until("no memory is reserved", |server| Ok(server.metric("shortcut_in_flight_bytes")? == 0.0))?;
    send(server.post("/predict").body(vec![0; 500_000]))?.expect_error(415, "unsupported_format")
}

/// A connection stays open after an error, for requests one after the other and for pipelined ones.
pub fn persistent_connections(server: &TestServer) -> Result<()> {
    let cat = photo("cat.jpg")?;
    let post = |path: &str, body: &[u8]| {
        let head = format!("POST {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    };
    let (good, large) = (post("/predict", &cat), vec![0; 300_000]);
    for (status, rejected) in [
        (404, post("/nowhere", &large)),
        (405, post("/models", &large)),
        (415, post("/predict", &large)),
        (404, post("/predict?model=nonesuch", &large)),
        (403, post("/v2/repository/index", &large)),
    ] {
        let mut connection = BufReader::new(server.connect()?);
        for (status, request) in [(status, &rejected), (200, &good)] {
            connection.get_mut().write_all(request)?;
            ensure!(read_status(&mut connection)? == status, "expected {status}");
        }
        connection.get_mut().write_all(&[&rejected[..], &good].concat())?;
        for status in [status, 200] {
            ensure!(read_status(&mut connection)? == status, "expected {status} for pipelined requests");
        }
    }
    Ok(())
}

/// Reads the next response to its end and returns its status.
fn read_status(connection: &mut impl BufRead) -> Result<u16> {
    let lines = connection.by_ref().lines().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
    let head = lines.collect::<Result<Vec<_>, _>>()?.join("\n").to_lowercase();
    ensure!(!head.contains("connection: close"), "the connection will be closed: {head}");
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).context("no length")?;
    let mut body = vec![0; length.parse()?];
    connection.read_exact(&mut body)?;
    Ok(head.split(' ').nth(1).context("no status")?.parse()?)
}

/// A client that reads a megabyte per second keeps its connection, although network buffers of several megabytes let the
/// server make no progress for longer than the stall timeout.
pub fn steady_readers() -> Result<()> {
    let server = TestServer::start(["--stall-timeout", "1s"])?;
    let models = send(server.get("/models"))?.json(200)?;
    let path = models["models"][0]["weights"].as_str().context("no weights")?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let mut connection = server.send_raw(request.as_bytes())?;
    let (mut weights, mut chunk) = (Vec::new(), vec![0; 100_000]);
    for _ in 0..25 {
        connection.read_exact(&mut chunk)?;
        weights.extend_from_slice(&chunk);
        std::thread::sleep(Duration::from_millis(100));
    }
    connection.read_to_end(&mut weights)?;
    let expected = std::fs::read(checkpoint(SMALL_MODEL))?;
    ensure!(weights.ends_with(&expected), "received {} of {} bytes", weights.len(), expected.len());
    Ok(())
}

/// Requests that find the queue full are rejected at once; all others get a prediction.
pub fn full_queue() -> Result<()> {
    let server = TestServer::start(["--queue-size", "1", "--max-batch-size", "1"])?;
    let cat = photo("cat.jpg")?;
    let expected = send(server.post("/predict").body(cat.clone()))?.json(200)?["predictions"].take();
    let responses = std::thread::scope(|scope| {
        let predict = || send(server.post("/predict").body(cat.clone()));
        let clients: Vec<_> = (0..24).map(|_| scope.spawn(predict)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("client threads do not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    for response in &responses {
        match response.status {
            503 => response.expect_overloaded()?,
            _ => ensure!(response.json(200)?["predictions"] == expected, "{}", response.text()),
        }
    }
    let rejected = responses.iter().filter(|response| response.status == 503).count();
    ensure!(rejected > 0 && rejected < responses.len(), "{rejected} of {} were rejected", responses.len());
    ensure!(
        server.metric("shortcut_refusals_total{reason=\"overloaded\"}")? == rejected as f64,
        "rejections were not counted"
    );
    Ok(())
}

/// Requests that find the decode queue full are rejected at once.
pub fn full_decode_queue() -> Result<()> {
    // The size of a camera's photos.
    let large = Photo::from_rgba(4000, 3000, &vec![100; 4 * 4000 * 3000])?.to_png();
    let server = TestServer::start(["--decode-queue", "1", "--decode-threads", "1"])?;
    let responses = std::thread::scope(|scope| {
        let predict = || {
            let start = Instant::now();
            Ok((send(server.post("/predict").body(large.clone()))?, start.elapsed()))
        };
        let clients: Vec<_> = (0..8).map(|_| scope.spawn(predict)).collect();
        clients
            .into_iter()
            .map(|client| client.join().expect("client threads do not panic"))
            .collect::<Result<Vec<_>>>()
    })?;
    let (rejected, predicted): (Vec<_>, Vec<_>) = responses.iter().partition(|(response, _)| response.status == 503);
    rejected.iter().try_for_each(|(response, _)| response.expect_overloaded())?;
    predicted.iter().try_for_each(|(response, _)| response.json(200).map(drop))?;
    let fastest = |responses: &[&(_, _)]| responses.iter().map(|(_, duration)| *duration).min();
    let (rejection, prediction) =
        (fastest(&rejected).context("no request was rejected")?, fastest(&predicted).context("no prediction")?);
    ensure!(rejection < prediction, "rejected after {rejection:?}, predicted after {prediction:?}");
    Ok(())
}

/// A request with more photos than the queue holds could never be accepted.
pub fn photo_count() -> Result<()> {
    let server = TestServer::start(["--queue-size", "2"])?;
    let predict = |photos: usize| -> Result<_> {
        let photos = (0..photos).map(|_| photo("cat.jpg")).collect::<Result<Vec<_>>>()?;
        send(server.post("/predict").multipart(form(photos)))
    };
    predict(3)?.expect_error(413, "too_large")?;
    let response = predict(2)?.json(200)?;
    let results = response["results"].as_array().context("no results")?;
    ensure!(results.len() == 2 && results.iter().all(|result| result["predictions"].is_array()), "{response}");
    Ok(())
}

/// A photo that needs more memory than the limit is rejected; a baseline JPEG needs eight bytes per pixel.
pub fn decode_memory() -> Result<()> {
    let server = TestServer::start(["--max-decode-memory", "1500kB"])?;
    let predict = |name: &str| send(server.post("/predict").body(photo(name)?));
    predict("rocket.jpg")?.expect_error(413, "too_large")?;
    predict("cat.jpg")?.json(200).map(drop)
}

pub fn deadlines(server: &TestServer) -> Result<()> {
    let impatient = TestServer::start(["--timeout", "1ms"])?;
    send(impatient.post("/predict").body(photo("cat.jpg")?))?.expect_error(504, "deadline_exceeded")?;
    send(impatient.post("/predict").header("x-timeout-ms", "60000").body(photo("cat.jpg")?))?
        .expect_error(504, "deadline_exceeded")?;
    send(impatient.post("/predict").header("x-timeout-ms", "soon").body(photo("cat.jpg")?))?
        .expect_error(400, "malformed_request")?;
    send(server.post("/predict").header("x-timeout-ms", "60000").body(photo("cat.jpg")?))?.json(200)?;
    send(server.post("/predict").header("x-timeout-ms", "1").body(photo("cat.jpg")?))?
        .expect_error(504, "deadline_exceeded")
}

pub fn large_heads(server: &TestServer) -> Result<()> {
    let response = send(server.get("/healthz").header("x-much", "x".repeat(100_000)))?;
    ensure!(response.status == 431, "{}", response.status);
    Ok(())
}
