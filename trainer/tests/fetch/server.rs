//! A file server with scripted responses, which serves one connection at a time.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

/// A received request.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// Returns the value of a header. `name` must be in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// Returns the first byte of the requested range, or `None` if the request has no range.
    pub fn start(&self) -> Option<usize> {
        self.header("range")
            .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// A scripted response.
#[derive(Clone, Debug)]
pub struct ScriptedResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// Number of bytes of the body that are sent, and what happens afterwards.
    end: ResponseEnd,
}

/// End of the transfer of a body.
#[derive(Clone, Copy, Debug)]
enum ResponseEnd {
    /// Sends the whole body.
    Whole,
    /// Closes the connection after this number of bytes.
    Break(usize),
    /// Sends nothing after this number of bytes, and keeps the connection open until the client closes it.
    Stall(usize),
    /// Sends the rest after this number of bytes when [`Server::release`] is called.
    Hold(usize),
}

impl ScriptedResponse {
    /// Returns a response without a body.
    pub fn status(status: u16) -> Self {
        ScriptedResponse { status, headers: Vec::new(), body: Vec::new(), end: ResponseEnd::Whole }
    }

    /// Returns a response with the whole body, as from a server that ignores the requested range.
    pub fn whole(body: &[u8]) -> Self {
        ScriptedResponse { body: body.to_vec(), ..ScriptedResponse::status(200) }
    }

    /// Returns the response of a server that respects the requested range and `If-Range`, for a file with this ETag.
    pub fn file(request: &Request, body: &[u8], etag: &str) -> Self {
        let is_current = request.header("if-range").is_none_or(|wanted| wanted == etag);
        let response = match request.start().filter(|_| is_current) {
            Some(start) if start >= body.len() => {
                ScriptedResponse::status(416).with_header("content-range", &format!("bytes */{}", body.len()))
            }
            Some(_) => ScriptedResponse::part(request, body, &[]),
            None => ScriptedResponse::whole(body),
        };
        response.with_header("etag", etag)
    }

    /// Returns the response of a server that respects the requested range but not `If-Range`. `headers` are added, and
    /// replace the correct `content-range`.
    pub fn part(request: &Request, body: &[u8], headers: &[(&str, &str)]) -> Self {
        let start = request.start().unwrap();
        let mut response = ScriptedResponse { status: 206, ..ScriptedResponse::whole(&body[start..]) };
        if !headers.iter().any(|(name, _)| *name == "content-range") {
            response =
                response.with_header("content-range", &format!("bytes {start}-{}/{}", body.len() - 1, body.len()));
        }
        headers.iter().fold(response, |response, (name, value)| response.with_header(name, value))
    }

    /// Changes the response to status 206 with this `content-range`, as if that range had been requested.
    pub fn partial(self, range: &str) -> Self {
        ScriptedResponse { status: 206, ..self.with_header("content-range", range) }
    }

    /// Returns a redirect to `location`.
    pub fn redirect(status: u16, location: &str) -> Self {
        ScriptedResponse::status(status).with_header("location", location)
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Closes the connection after this number of bytes of the body.
    pub fn broken_after(self, bytes: usize) -> Self {
        ScriptedResponse { end: ResponseEnd::Break(bytes), ..self }
    }

    /// Stops sending after this number of bytes of the body, and keeps the connection open.
    pub fn stalled_after(self, bytes: usize) -> Self {
        ScriptedResponse { end: ResponseEnd::Stall(bytes), ..self }
    }

    /// Stops sending after this number of bytes of the body until [`Server::release`] is called.
    pub fn held_after(self, bytes: usize) -> Self {
        ScriptedResponse { end: ResponseEnd::Hold(bytes), ..self }
    }
}

/// A server on a free port of this machine, which records its requests.
pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    release: Option<Sender<()>>,
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts a server. `script` receives the number of the request, counted from 0, and the request.
    pub fn start(mut script: impl FnMut(usize, &Request) -> ScriptedResponse + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, is_done) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (release, released) = channel();
        let (received, done) = (requests.clone(), is_done.clone());
        let thread = spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let Some(request) = read(&stream) else { continue };
                let number = received.lock().unwrap().len();
                received.lock().unwrap().push(request.clone());
                // Writing fails if the client has closed the connection.
                let _ = write(stream, &request, script(number, &request), &released);
            }
        });
        Server { port, requests, release: Some(release), is_done, thread: Some(thread) }
    }

    /// Returns the base URL.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Returns all requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Sends the rest of a response that is held.
    pub fn release(&self) {
        self.release.as_ref().unwrap().send(()).unwrap();
    }
}

/// Closes the port, so that further connections are refused.
impl Drop for Server {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::SeqCst);
        // End responses that are still held.
        self.release = None;
        // Wake the thread, which waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "a scripted server panicked");
    }
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let line = lines.next()?;
    let mut words = line.split(' ').map(str::to_owned);
    let (method, path) = (words.next()?, words.next()?);
    let headers = lines.take_while(|line| !line.is_empty());
    let header =
        |line: String| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()));
    Some(Request { method, path, headers: headers.filter_map(header).collect() })
}

fn write(
    mut stream: TcpStream,
    request: &Request,
    response: ScriptedResponse,
    released: &Receiver<()>,
) -> std::io::Result<()> {
    let ScriptedResponse { status, headers, body, end } = response;
    let mut head = format!("HTTP/1.1 {status} Scripted\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name == "content-length") {
        head += &format!("content-length: {}\r\n", body.len());
    }
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    match end {
        ResponseEnd::Whole => stream.write_all(&body),
        ResponseEnd::Break(bytes) => stream.write_all(&body[..bytes]),
        ResponseEnd::Stall(bytes) => {
            stream.write_all(&body[..bytes])?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        ResponseEnd::Hold(bytes) => {
            stream.write_all(&body[..bytes])?;
            released.recv().map_err(std::io::Error::other)?;
            stream.write_all(&body[bytes..])
        }
    }
}
