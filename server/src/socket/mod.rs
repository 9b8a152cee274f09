//! The TCP stream under an HTTP connection. It handles what hyper does not: clients that stop reading their response
//! (see [`WriteTimeout`]), clients that disconnect while their request is processed, and clients that are still sending
//! when the response is complete (see [`LingeringClose`]).

use socket2::SockRef;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Minimum average rate at which a client must receive, in bytes per second.
const MIN_RATE: f64 = 1024.0;
/// Maximum time for which a client may go on sending after its response is complete.
const LINGER_TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum pause of a client that goes on sending.
const LINGER_IDLE_TIMEOUT: Duration = Duration::from_secs(2);

pub struct Socket {
    stream: Arc<TcpStream>,
    peer_closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    write_timeout: WriteTimeout,
    client_is_sending: Arc<AtomicBool>,
    lingering_close: Option<LingeringClose>,
}

impl Socket {
    /// Writes fail when the client has received nothing for `write_timeout`.
    pub fn new(stream: TcpStream, write_timeout: Duration) -> Self {
        let stream = Arc::new(stream);
        Socket {
            peer_closed: Box::pin(peer_closed(stream.clone())),
            stream,
            write_timeout: WriteTimeout::new(write_timeout),
            client_is_sending: Arc::default(),
            lingering_close: None,
        }
    }

    /// Returns a flag for the caller to set when the client is still sending a request body that the server does not
    /// read.
    pub fn client_is_sending(&self) -> Arc<AtomicBool> {
        self.client_is_sending.clone()
    }

    fn apply_write_timeout(&mut self, written: Poll<Result<usize>>, context: &mut Context) -> Poll<Result<usize>> {
        let stream = &self.stream;
        self.write_timeout.apply(written, || send_queue_len(stream), context)
    }

    /// Returns whether the receive buffer holds unread bytes.
    fn has_unread(&self, context: &mut Context) -> bool {
        let mut byte = [0];
        let peeked = self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(1..)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        read(&self.stream, context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = write(&self.stream, context, |stream| stream.try_write(bytes));
        self.apply_write_timeout(written, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[IoSlice]) -> Poll<Result<usize>> {
        let written = write(&self.stream, context, |stream| stream.try_write_vectored(bytes));
        self.apply_write_timeout(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Fails if the client has disconnected. Hyper flushes whenever it is polled, and would otherwise detect a
    /// disconnect only when it reads, which it does not while its buffer holds data after the current request.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        match self.peer_closed.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.peer_closed = Box::pin(std::future::ready(()));
                Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "client disconnected")))
            }
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// Closes the sending direction, and reads on if the client is still sending: closing a socket with unread data
    /// resets the connection, and the client might lose the response.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        if self.lingering_close.is_none() {
            SockRef::from(&*self.stream).shutdown(Shutdown::Write)?;
            if !self.client_is_sending.load(Ordering::Relaxed) && !self.has_unread(context) {
                return Poll::Ready(Ok(()));
            }
        }
        let Socket { stream, lingering_close, .. } = &mut *self;
        lingering_close.get_or_insert_with(LingeringClose::new).poll(stream, context)
    }
}

/// Returns when the client has closed its side of the connection, even if the receive buffer holds unread data.
#[cfg(target_os = "linux")]
async fn peer_closed(stream: Arc<TcpStream>) {
    // We expect no out-of-band data, so readiness for PRIORITY means that the peer hung up.
    let _ = stream.ready(tokio::io::Interest::PRIORITY).await;
}

/// Never returns, because other systems offer no readiness event for this.
#[cfg(not(target_os = "linux"))]
async fn peer_closed(_stream: Arc<TcpStream>) {
    std::future::pending().await
}

/// Returns the number of bytes in the send queue: those not yet sent, and those not yet acknowledged by the client.
#[cfg(target_os = "linux")]
fn send_queue_len(stream: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and TIOCOUTQ writes a `c_int` to the pointer.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result == 0 { bytes.try_into().unwrap_or(0) } else { 0 }
}

#[cfg(not(target_os = "linux"))]
fn send_queue_len(_stream: &TcpStream) -> usize {
    0
}

fn read(stream: &TcpStream, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            result => return Poll::Ready(result.map(drop)),
        }
    }
}

fn write(
    stream: &TcpStream,
    context: &mut Context,
    write: impl Fn(&TcpStream) -> Result<usize>,
) -> Poll<Result<usize>> {
    loop {
        ready!(stream.poll_write_ready(context))?;
        match write(stream) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            result => return Poll::Ready(result),
        }
    }
}

/// Time limit for writes to a client that receives slowly. Time without progress uses up an allowance, and each
/// received byte restores some of it. With a limit on pauses alone, a client that receives one byte now and then would
/// hold its connection indefinitely.
struct WriteTimeout {
    /// Maximum allowance.
    limit: Duration,
    /// Allowance at the time of the last progress.
    remaining: Duration,
    stall: Option<Stall>,
}

/// A write that waits for room in the send queue.
struct Stall {
    since: Instant,
    /// Length of the send queue when the wait began.
    send_queue_len: usize,
    timer: Pin<Box<Sleep>>,
}

impl WriteTimeout {
    fn new(limit: Duration) -> Self {
        WriteTimeout { limit, remaining: limit, stall: None }
    }

    /// Passes on the result of a write, or fails if it is pending and the client made no progress for too long. The
    /// length of the send queue is checked as well, because a stream becomes writable only after its queue has shrunk
    /// considerably.
    fn apply(
        &mut self,
        written: Poll<Result<usize>>,
        send_queue_len: impl Fn() -> usize,
        context: &mut Context,
    ) -> Poll<Result<usize>> {
        if written.is_ready() {
            if let Some(Stall { since, .. }) = self.stall.take() {
                self.remaining = self.remaining.saturating_sub(since.elapsed());
            }
            if let Poll::Ready(Ok(bytes)) = &written {
                self.restore(*bytes);
            }
            return written;
        }
        loop {
            let remaining = self.remaining;
            let begin_stall = || Stall {
                since: Instant::now(),
                send_queue_len: send_queue_len(),
                timer: Box::pin(sleep_until(Instant::now() + remaining)),
            };
            let stall = self.stall.get_or_insert_with(begin_stall);
            ready!(stall.timer.as_mut().poll(context));
            let received = stall.send_queue_len.saturating_sub(send_queue_len());
            (self.stall, self.remaining) = (None, Duration::ZERO);
            if received == 0 {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "client stopped reading the response")));
            }
            self.restore(received);
        }
    }

    fn restore(&mut self, bytes: usize) {
        self.remaining = (self.remaining + Duration::from_secs_f64(bytes as f64 / MIN_RATE)).min(self.limit);
    }
}

/// Reads and discards what the client sends after the response is complete, within time limits.
struct LingeringClose {
    deadline: Instant,
    /// Fires when the client pauses for too long, at the latest at `deadline`.
    timer: Pin<Box<Sleep>>,
}

impl LingeringClose {
    fn new() -> Self {
        LingeringClose { deadline: Instant::now() + LINGER_TIMEOUT, timer: Box::pin(sleep(LINGER_IDLE_TIMEOUT)) }
    }

    fn poll(&mut self, stream: &TcpStream, context: &mut Context) -> Poll<Result<()>> {
        let mut discarded = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut discarded);
            match read(stream, context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let end = (Instant::now() + LINGER_IDLE_TIMEOUT).min(self.deadline);
                    self.timer.as_mut().reset(end);
                }
                Poll::Ready(result) => return Poll::Ready(result),
                Poll::Pending => return self.timer.as_mut().poll(context).map(Ok),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::timeout;

    /// Time limit for events that are expected within milliseconds.
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Returns the server's and the client's side of a connection.
    async fn connected_pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        (Socket::new(server, LINGER_IDLE_TIMEOUT), client)
    }

    /// Returns whether a client that receives `bytes` every 60 milliseconds outlasts a write timeout of half a second.
    /// The stream becomes writable each time if `is_writable`; otherwise only the length of the send queue shows the
    /// progress.
    async fn outlasts_timeout(bytes: usize, is_writable: bool) -> bool {
        let mut write_timeout = WriteTimeout::new(Duration::from_millis(500));
        for received in 0..20 {
            let send_queue_len = || if is_writable { 1 << 20 } else { (1 << 20) - received * bytes };
            let timed_out = poll_fn(|context| write_timeout.apply(Poll::Pending, send_queue_len, context));
            if timeout(Duration::from_millis(60), timed_out).await.is_ok() {
                return false;
            }
            if is_writable {
                let written = poll_fn(|context| write_timeout.apply(Poll::Ready(Ok(bytes)), send_queue_len, context));
                assert_eq!(written.await.unwrap(), bytes);
            }
        }
        true
    }

    #[tokio::test(start_paused = true)]
    async fn client_below_minimum_rate_times_out() {
        assert!(!outlasts_timeout(1, true).await);
        assert!(!outlasts_timeout(1, false).await);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_client_above_minimum_rate_is_served() {
        assert!(outlasts_timeout(1024, true).await);
        assert!(outlasts_timeout(1024, false).await);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn disconnect_is_detected_despite_unread_data() {
        for unread in [&b""[..], b"another request"] {
            let (mut server, mut client) = connected_pair().await;
            client.write_all(unread).await.unwrap();
            server.flush().await.unwrap();
            drop(client);
            let disconnect_detected = async {
                while server.flush().await.is_ok() {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(TIMEOUT, disconnect_detected).await.unwrap();
        }
    }

    #[tokio::test]
    async fn client_that_is_still_sending_receives_the_response() {
        let (mut server, mut client) = connected_pair().await;
        server.client_is_sending().store(true, Ordering::Relaxed);
        let response_sent = tokio::spawn(async move {
            server.write_all(b"no").await.unwrap();
            server.shutdown().await.unwrap();
        });
        // More than all buffers between client and server hold.
        client.write_all(&vec![0; 32 << 20]).await.unwrap();
        let mut response = String::new();
        client.read_to_string(&mut response).await.unwrap();
        assert_eq!(response, "no");
        drop(client);
        response_sent.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn close_does_not_wait_long_for_an_idle_client() {
        for (is_sending, limit) in [(false, LINGER_IDLE_TIMEOUT / 2), (true, LINGER_TIMEOUT / 2)] {
            let (mut server, _client) = connected_pair().await;
            server.client_is_sending().store(is_sending, Ordering::Relaxed);
            timeout(limit, server.shutdown()).await.unwrap().unwrap();
        }
    }
}
