//! A client's connection, as HTTP is spoken over it, with what HTTP knows nothing of: a client that takes nothing, one that
//! has gone, and one that is still sending when it has its answer.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep, sleep_until};

/// Bytes taken that give a second of patience back.
const RATE: f64 = 1024.0;
/// How long a client may go on sending when it has its answer, and how long it may pause meanwhile.
const LINGERS: Duration = Duration::from_secs(30);
const PAUSES: Duration = Duration::from_secs(2);

pub struct Socket {
    stream: TcpStream,
    patience: Patience,
    lingering: Option<Lingering>,
}

impl Socket {
    /// The client may take nothing for as long as `patience`.
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        Socket { stream, patience: Patience::new(patience), lingering: None }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[u8]) -> Poll<Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.patience.watch(wrote, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[IoSlice]) -> Poll<Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.patience.watch(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Fails if the client has gone. Hyper, which flushes whenever something happens, sees that by itself when it reads; but it does
    /// not read on while it has more of the client's than the request that is being answered.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let mut byte = [0];
        match self.stream.poll_peek(context, &mut ReadBuf::new(&mut byte)) {
            Poll::Ready(Ok(0)) => Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "the client has gone"))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Ends the answer, and reads on: a connection that is closed while its client is sending is reset, and the client might not
    /// see why.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        let Socket { stream, lingering, .. } = &mut *self;
        if lingering.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        lingering.get_or_insert_with(Lingering::new).poll(stream, context)
    }
}

/// For who is slow to take what it is sent. Silence uses it up, and what is taken gives some of it back: a byte now and then would
/// hold a connection for ever.
struct Patience {
    /// What the client has at most.
    most: Duration,
    /// What is left of it when the client is waited for.
    left: Duration,
    /// Since when it is, with the end of that.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Patience {
    fn new(most: Duration) -> Self {
        Patience { most, left: most, waiting: None }
    }

    /// Of what the stream says to some bytes.
    fn watch(&mut self, wrote: Poll<Result<usize>>, context: &mut Context) -> Poll<Result<usize>> {
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
            self.left = (self.left + Duration::from_secs_f64(*bytes as f64 / RATE)).min(self.most);
        }
        wrote
    }
}

/// Reading on behind an answer.
struct Lingering {
    /// When it ends at the latest.
    last: Instant,
    /// When it ends if nothing more comes.
    end: Pin<Box<Sleep>>,
}

impl Lingering {
    fn new() -> Self {
        Lingering { last: Instant::now() + LINGERS, end: Box::pin(sleep(PAUSES)) }
    }

    fn poll(&mut self, stream: &mut TcpStream, context: &mut Context) -> Poll<Result<()>> {
        let mut thrown_away = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match pin!(&mut *stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    let end = (Instant::now() + PAUSES).min(self.last);
                    self.end.as_mut().reset(end);
                }
                Poll::Ready(ended) => return Poll::Ready(ended),
                Poll::Pending => return self.end.as_mut().poll(context).map(Ok),
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

    /// Our side of a connection, with a small buffer, and the client's.
    async fn connected(patience: Duration) -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        (Socket::new(ours, patience), client)
    }

    /// Whether half a second of patience outlasts a client that takes so many bytes behind every 60 milliseconds.
    async fn outlasts(bytes: usize) -> bool {
        let mut patience = Patience::new(Duration::from_millis(500));
        for _ in 0..20 {
            let given_up = poll_fn(|context| patience.watch(Poll::Pending, context));
            if timeout(Duration::from_millis(60), given_up).await.is_ok() {
                return false;
            }
            let taken = poll_fn(|context| patience.watch(Poll::Ready(Ok(bytes)), context));
            assert_eq!(taken.await.unwrap(), bytes);
        }
        true
    }

    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_given_up() {
        assert!(!outlasts(1).await);
    }

    #[tokio::test]
    async fn who_is_slow_is_waited_for() {
        assert!(outlasts(1024).await);
    }

    #[tokio::test]
    async fn who_has_gone_is_noticed_when_something_is_flushed() {
        let (mut ours, client) = connected(PAUSES).await;
        ours.flush().await.unwrap();
        drop(client);
        while ours.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn who_is_still_sending_gets_the_answer() {
        let (mut ours, mut client) = connected(PAUSES).await;
        let answered = tokio::spawn(async move {
            ours.write_all(b"no").await.unwrap();
            ours.shutdown().await.unwrap();
        });
        // More than any buffer on the way holds.
        client.write_all(&vec![0; 32 << 20]).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!(answer, "no");
        drop(client);
        answered.await.unwrap();
    }

    #[tokio::test]
    async fn who_sends_nothing_more_is_not_waited_for_long() {
        let (mut ours, _client) = connected(PAUSES).await;
        let begun = Instant::now();
        ours.shutdown().await.unwrap();
        assert!(begun.elapsed() < LINGERS);
    }
}
