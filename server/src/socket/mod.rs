//! The TCP stream under an HTTP connection. It handles what hyper does not: clients that send nothing or only part of a
//! request (see [`ReadTimeout`]), clients that stop reading their response (see [`WriteTimeout`]), clients that disconnect
//! while their request is processed (see [`Disconnect`]), and clients that are still sending when the response is complete
//! (see [`LingeringClose`]).

mod disconnect;
mod lingering_close;
mod read_timeout;
mod stream_io;
mod write_timeout;

use crate::exchange::{Exchange, Phase};
use disconnect::Disconnect;
use lingering_close::LingeringClose;
use read_timeout::ReadTimeout;
use socket2::SockRef;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::net::Shutdown;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use stream_io::{read, send_queue_len, write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use write_timeout::WriteTimeout;

/// Time limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For receiving the head of a request.
    pub head: Duration,
    /// For an idle connection.
    pub idle: Duration,
    /// For a client that receives nothing of its response.
    pub write: Duration,
}

pub struct Socket {
    stream: Arc<TcpStream>,
    exchange: Exchange,
    disconnect: Disconnect,
    read_timeout: ReadTimeout,
    write_timeout: WriteTimeout,
    client_is_sending: Arc<AtomicBool>,
    lingering_close: Option<LingeringClose>,
}

impl Socket {
    pub fn new(stream: TcpStream, timeouts: Timeouts) -> Self {
        let (stream, exchange) = (Arc::new(stream), Exchange::new());
        Socket {
            disconnect: Disconnect::new(stream.clone()),
            stream,
            read_timeout: ReadTimeout::new(exchange.clone(), timeouts.head, timeouts.idle),
            exchange,
            write_timeout: WriteTimeout::new(timeouts.write),
            client_is_sending: Arc::default(),
            lingering_close: None,
        }
    }

    /// Returns the phase of the connection, which the HTTP service must update.
    pub fn exchange(&self) -> Exchange {
        self.exchange.clone()
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

    fn record_written(&mut self, written: &Poll<Result<usize>>, bytes: &[u8]) {
        if let Poll::Ready(Ok(_)) = written {
            self.disconnect.record_written(bytes, self.exchange.phase());
        }
    }

    /// Returns whether the receive buffer holds unread bytes.
    fn has_unread(&self, context: &mut Context) -> bool {
        let mut byte = [0];
        let peeked = self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte));
        matches!(peeked, Poll::Ready(Ok(1..)))
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        let Socket { stream, exchange, read_timeout, .. } = &mut *self;
        let before = buffer.filled().len();
        match read(stream, context, buffer) {
            Poll::Pending => match ready!(read_timeout.poll(context)) {
                // As if the client had closed the connection, which is no error.
                Phase::Idle => Poll::Ready(Ok(())),
                _ => {
                    Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the head of a request was not received in time")))
                }
            },
            result => {
                if buffer.filled().len() > before {
                    exchange.record_received();
                }
                result
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = write(&self.stream, context, |stream| stream.try_write(bytes));
        self.record_written(&written, bytes);
        self.apply_write_timeout(written, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[IoSlice]) -> Poll<Result<usize>> {
        let written = write(&self.stream, context, |stream| stream.try_write_vectored(bytes));
        self.record_written(&written, bytes.first().map_or(&[][..], |first| first));
        self.apply_write_timeout(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Fails if the client has disconnected. Hyper flushes whenever it is polled, once it has written everything.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let phase = self.exchange.phase();
        Poll::Ready(self.disconnect.check(phase, context))
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

#[cfg(test)]
mod tests {
    use super::disconnect::INTERIM_RESPONSE;
    use super::lingering_close::{LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT};
    use super::*;
    use axum::http::Version;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::{sleep, timeout};

    /// Time limit for events that are expected within milliseconds.
    const TIMEOUT: Duration = Duration::from_secs(20);

    /// Returns the server's and the client's side of a connection.
    async fn connected_pair() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let timeouts = Timeouts { head: TIMEOUT, idle: TIMEOUT, write: LINGER_IDLE_TIMEOUT };
        (Socket::new(server, timeouts), client)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn disconnect_is_detected_despite_unread_data() {
        for unread in [&b""[..], b"another request"] {
            let (mut server, mut client) = connected_pair().await;
            client.write_all(unread).await.unwrap();
            server.exchange().begin_request(Version::HTTP_11);
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

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn client_that_closed_its_sending_side_receives_an_interim_response() {
        for (version, interim) in [(Version::HTTP_11, INTERIM_RESPONSE), (Version::HTTP_10, b"")] {
            let (mut server, mut client) = connected_pair().await;
            server.exchange().begin_request(version);
            client.shutdown().await.unwrap();
            for _ in 0..40 {
                server.flush().await.unwrap();
                sleep(Duration::from_millis(50)).await;
            }
            server.write_all(b"response").await.unwrap();
            server.flush().await.unwrap();
            drop(server);
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.unwrap();
            assert_eq!(received, [interim, b"response"].concat());
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
