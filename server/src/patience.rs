//! A connection whose client has to take what it is sent. Silence uses its time up, and what it takes gives it some back: a byte
//! now and then would hold a connection for ever.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that give a second back.
const RATE: f64 = 1024.0;

pub struct Patient<S> {
    stream: S,
    /// What the client may have at most.
    patience: Duration,
    /// What is left to it when it is waited for.
    left: Duration,
    /// Since when it is, with the end of that.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<S> Patient<S> {
    pub fn new(stream: S, patience: Duration) -> Self {
        Patient { stream, patience, left: patience, waiting: None }
    }

    /// Of what the stream says to some bytes.
    fn wrote(&mut self, wrote: Poll<Result<usize>>, context: &mut Context) -> Poll<Result<usize>> {
        if wrote.is_pending() {
            let left = self.left;
            let begin = || (Instant::now(), Box::pin(sleep_until(Instant::now() + left)));
            let (_, end) = self.waiting.get_or_insert_with(begin);
            ready!(end.as_mut().poll(context));
            return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not take its answer")));
        }
        if let Some((since, _)) = self.waiting.take() {
            self.left = self.left.saturating_sub(since.elapsed());
        }
        if let Poll::Ready(Ok(bytes)) = &wrote {
            self.left = (self.left + Duration::from_secs_f64(*bytes as f64 / RATE)).min(self.patience);
        }
        wrote
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.wrote(wrote, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[IoSlice]) -> Poll<Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.wrote(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    /// What comes of writing to a client that takes so many bytes every 200 ms and may have half a second, eight times over.
    async fn written(bytes: usize) -> Result<()> {
        let (ours, mut clients) = duplex(1);
        let client = tokio::spawn(async move {
            let mut taken = vec![0; bytes];
            loop {
                tokio::time::sleep(Duration::from_millis(200)).await;
                clients.read_exact(&mut taken).await.unwrap();
            }
        });
        let written = Patient::new(ours, Duration::from_millis(500)).write_all(&vec![0; 8 * bytes]).await;
        client.abort();
        written
    }

    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_given_up() {
        assert_eq!(written(1).await.unwrap_err().kind(), ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_is_slow_is_waited_for() {
        written(10 * 1024).await.unwrap();
    }
}
