//! A server for files that behaves as it is told to, one connection after the other.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};

/// What came.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    headers: Vec<(String, String)>,
}

impl Request {
    /// By its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The first byte that is asked for.
    pub fn start(&self) -> Option<usize> {
        self.header("range")
            .map(|range| range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse().unwrap())
    }
}

/// What goes back.
#[derive(Clone, Debug)]
pub struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    /// How much of the body is sent, and what happens then.
    end: End,
}

#[derive(Clone, Copy, Debug)]
enum End {
    Whole,
    /// The connection is closed after so many bytes.
    Break(usize),
    /// Nothing more is sent after so many bytes, until the other side has had enough.
    Stall(usize),
    /// The rest comes when [`Server::release`] is called.
    Hold(usize),
}

impl Answer {
    pub fn status(status: u16) -> Self {
        Answer { status, headers: Vec::new(), body: Vec::new(), end: End::Whole }
    }

    /// All of it, whatever range was asked for.
    pub fn whole(body: &[u8]) -> Self {
        Answer { body: body.to_vec(), ..Answer::status(200) }
    }

    /// The range that was asked for, if the version is the one that was asked for, too.
    pub fn file(request: &Request, body: &[u8], tag: &str) -> Self {
        let is_current = request.header("if-range").is_none_or(|wanted| wanted == tag);
        let answer = match request.start().filter(|_| is_current) {
            Some(start) if start >= body.len() => {
                Answer::status(416).with("content-range", &format!("bytes */{}", body.len()))
            }
            Some(_) => Answer::part(request, body, &[]),
            None => Answer::whole(body),
        };
        answer.with("etag", tag)
    }

    /// The range that was asked for, whatever else was, with headers in place of what would be right.
    pub fn part(request: &Request, body: &[u8], headers: &[(&str, &str)]) -> Self {
        let start = request.start().unwrap();
        let mut answer = Answer { status: 206, ..Answer::whole(&body[start..]) };
        if !headers.iter().any(|(name, _)| *name == "content-range") {
            answer = answer.with("content-range", &format!("bytes {start}-{}/{}", body.len() - 1, body.len()));
        }
        headers.iter().fold(answer, |answer, (name, value)| answer.with(name, value))
    }

    /// As if a range had been asked for.
    pub fn partial(self, range: &str) -> Self {
        Answer { status: 206, ..self.with("content-range", range) }
    }

    pub fn redirect(status: u16, location: &str) -> Self {
        Answer::status(status).with("location", location)
    }

    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub fn broken_after(self, bytes: usize) -> Self {
        Answer { end: End::Break(bytes), ..self }
    }

    pub fn stalled_after(self, bytes: usize) -> Self {
        Answer { end: End::Stall(bytes), ..self }
    }

    pub fn held_after(self, bytes: usize) -> Self {
        Answer { end: End::Hold(bytes), ..self }
    }
}

pub struct Server {
    port: u16,
    requests: Arc<Mutex<Vec<Request>>>,
    release: Option<Sender<()>>,
    is_done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// `script` gets the number of the request, from 0 on, and the request.
    pub fn start(mut script: impl FnMut(usize, &Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (requests, is_done) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicBool>::default());
        let (release, released) = channel();
        let (kept, done) = (requests.clone(), is_done.clone());
        let thread = spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if done.load(Ordering::SeqCst) {
                    return;
                }
                let Some(request) = read(&stream) else { continue };
                let number = kept.lock().unwrap().len();
                kept.lock().unwrap().push(request.clone());
                // Who was sent enough, or interrupted, closes its side.
                let _ = write(stream, &request, script(number, &request), &released);
            }
        });
        Server { port, requests, release: Some(release), is_done, thread: Some(thread) }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// Lets the rest of an answer go that is held.
    pub fn release(&self) {
        self.release.as_ref().unwrap().send(()).unwrap();
    }
}

/// From now on connections are refused.
impl Drop for Server {
    fn drop(&mut self) {
        self.is_done.store(true, Ordering::SeqCst);
        // What is still held is held no longer.
        self.release = None;
        // It waits for somebody to come.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "the script of a server panicked");
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

fn write(mut stream: TcpStream, request: &Request, answer: Answer, released: &Receiver<()>) -> std::io::Result<()> {
    let Answer { status, headers, body, end } = answer;
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
        End::Whole => stream.write_all(&body),
        End::Break(bytes) => stream.write_all(&body[..bytes]),
        End::Stall(bytes) => {
            stream.write_all(&body[..bytes])?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
        End::Hold(bytes) => {
            stream.write_all(&body[..bytes])?;
            released.recv().map_err(std::io::Error::other)?;
            stream.write_all(&body[bytes..])
        }
    }
}
