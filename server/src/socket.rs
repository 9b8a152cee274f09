//! A client's connection, as HTTP is spoken over it, with what HTTP knows nothing of: a client that takes nothing, one that
//! has gone, and one that is still sending when it has its answer.

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

/// Bytes taken that give a second of patience back.
const RATE: f64 = 1024.0;
/// How long a client may go on sending when it has its answer, and how long it may pause meanwhile.
const LINGERS: Duration = Duration::from_secs(30);
const PAUSES: Duration = Duration::from_secs(2);

pub struct Socket {
    stream: Arc<TcpStream>,
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    patience: Patience,
    is_sending: Arc<AtomicBool>,
    lingering: Option<Lingering>,
}

impl Socket {
    /// The client may take nothing for as long as `patience`.
    pub fn new(stream: TcpStream, patience: Duration) -> Self {
        let stream = Arc::new(stream);
        let gone = Box::pin(gone(stream.clone()));
        Socket { stream, gone, patience: Patience::new(patience), is_sending: Arc::default(), lingering: None }
    }

    /// To be set when it is known that the client is still sending what nobody reads.
    pub fn is_sending(&self) -> Arc<AtomicBool> {
        self.is_sending.clone()
    }

    fn watch(&mut self, wrote: Poll<Result<usize>>, context: &mut Context) -> Poll<Result<usize>> {
        let stream = &self.stream;
        self.patience.watch(wrote, || unsent(stream), context)
    }

    /// Whether something of the client's is there that nobody has read.
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
        let wrote = write(&self.stream, context, |stream| stream.try_write(bytes));
        self.watch(wrote, context)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, context: &mut Context, bytes: &[IoSlice]) -> Poll<Result<usize>> {
        let wrote = write(&self.stream, context, |stream| stream.try_write_vectored(bytes));
        self.watch(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Fails if the client has gone. Hyper, which flushes whenever something happens, sees that by itself when it reads; but it does
    /// not read on while it has more of the client's than the request that is being answered.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        match self.gone.as_mut().poll(context) {
            Poll::Ready(()) => {
                self.gone = Box::pin(std::future::ready(()));
                Poll::Ready(Err(Error::new(ErrorKind::ConnectionAborted, "the client has gone")))
            }
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }

    /// Ends the answer, and reads on if the client is sending: it would be told that the connection is broken, and might not see why.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context) -> Poll<Result<()>> {
        if self.lingering.is_none() {
            SockRef::from(&*self.stream).shutdown(Shutdown::Write)?;
            if !self.is_sending.load(Ordering::Relaxed) && !self.has_unread(context) {
                return Poll::Ready(Ok(()));
            }
        }
        let Socket { stream, lingering, .. } = &mut *self;
        lingering.get_or_insert_with(Lingering::new).poll(stream, context)
    }
}

/// Returns when the client has ended its side, however much of what it has sent nobody has read.
#[cfg(target_os = "linux")]
async fn gone(stream: Arc<TcpStream>) {
    // Nothing is sent as urgent to who does not ask for it: what is left of this interest is the end.
    let _ = stream.ready(tokio::io::Interest::PRIORITY).await;
}

/// Other systems do not tell.
#[cfg(not(target_os = "linux"))]
async fn gone(_stream: Arc<TcpStream>) {
    std::future::pending().await
}

/// Bytes that the client has not taken yet.
#[cfg(target_os = "linux")]
fn unsent(stream: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and what is asked of it is written to an integer of the size that it has.
    let asked = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if asked == 0 { bytes.try_into().unwrap_or(0) } else { 0 }
}

#[cfg(not(target_os = "linux"))]
fn unsent(_stream: &TcpStream) -> usize {
    0
}

fn read(stream: &TcpStream, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            read => return Poll::Ready(read.map(drop)),
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
            wrote => return Poll::Ready(wrote),
        }
    }
}

/// For who is slow to take what it is sent. Silence uses it up, and what is taken gives some of it back: a byte now and then would
/// hold a connection for ever.
struct Patience {
    /// What the client has at most.
    most: Duration,
    /// What is left of it when the client is waited for.
    left: Duration,
    waiting: Option<Waiting>,
}

struct Waiting {
    since: Instant,
    unsent: usize,
    end: Pin<Box<Sleep>>,
}

impl Patience {
    fn new(most: Duration) -> Self {
        Patience { most, left: most, waiting: None }
    }

    /// Of what the stream says to some bytes, and how many the client has not taken yet, which the stream takes no more of until
    /// there are much fewer.
    fn watch(
        &mut self,
        wrote: Poll<Result<usize>>,
        unsent: impl Fn() -> usize,
        context: &mut Context,
    ) -> Poll<Result<usize>> {
        if wrote.is_ready() {
            if let Some(Waiting { since, .. }) = self.waiting.take() {
                self.left = self.left.saturating_sub(since.elapsed());
            }
            if let Poll::Ready(Ok(bytes)) = &wrote {
                self.reward(*bytes);
            }
            return wrote;
        }
        loop {
            let left = self.left;
            let begin = || Waiting {
                since: Instant::now(),
                unsent: unsent(),
                end: Box::pin(sleep_until(Instant::now() + left)),
            };
            let waiting = self.waiting.get_or_insert_with(begin);
            ready!(waiting.end.as_mut().poll(context));
            let taken = waiting.unsent.saturating_sub(unsent());
            (self.waiting, self.left) = (None, Duration::ZERO);
            if taken == 0 {
                return Poll::Ready(Err(Error::new(ErrorKind::TimedOut, "the client does not take its answer")));
            }
            self.reward(taken);
        }
    }

    fn reward(&mut self, bytes: usize) {
        self.left = (self.left + Duration::from_secs_f64(bytes as f64 / RATE)).min(self.most);
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

    fn poll(&mut self, stream: &TcpStream, context: &mut Context) -> Poll<Result<()>> {
        let mut thrown_away = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut thrown_away);
            match read(stream, context, &mut buffer) {
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

    /// What is soon there if it comes at all.
    const SOON: Duration = Duration::from_secs(20);

    /// Our side of a connection, and the client's.
    async fn connected() -> (Socket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (ours, _) = listener.accept().await.unwrap();
        (Socket::new(ours, PAUSES), client)
    }

    /// Whether half a second of patience outlasts a client that takes so many bytes behind every 60 milliseconds, of which the
    /// stream tells at once or, by fewer that are unsent, for a long time not.
    async fn outlasts(bytes: usize, at_once: bool) -> bool {
        let mut patience = Patience::new(Duration::from_millis(500));
        for taken in 0..20 {
            let unsent = || if at_once { 1 << 20 } else { (1 << 20) - taken * bytes };
            let given_up = poll_fn(|context| patience.watch(Poll::Pending, unsent, context));
            if timeout(Duration::from_millis(60), given_up).await.is_ok() {
                return false;
            }
            if at_once {
                let wrote = poll_fn(|context| patience.watch(Poll::Ready(Ok(bytes)), unsent, context));
                assert_eq!(wrote.await.unwrap(), bytes);
            }
        }
        true
    }

    #[tokio::test]
    async fn who_takes_a_byte_now_and_then_is_given_up() {
        assert!(!outlasts(1, true).await);
        assert!(!outlasts(1, false).await);
    }

    #[tokio::test]
    async fn who_is_slow_is_waited_for() {
        assert!(outlasts(1024, true).await);
        assert!(outlasts(1024, false).await);
    }

    #[tokio::test]
    async fn who_has_gone_is_noticed_whatever_is_unread() {
        for unread in [&b""[..], b"another request"] {
            let (mut ours, mut client) = connected().await;
            client.write_all(unread).await.unwrap();
            ours.flush().await.unwrap();
            drop(client);
            let noticed = async {
                while ours.flush().await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(SOON, noticed).await.unwrap();
        }
    }

    #[tokio::test]
    async fn who_is_still_sending_gets_the_answer() {
        let (mut ours, mut client) = connected().await;
        ours.is_sending().store(true, Ordering::Relaxed);
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
        for (is_sending, at_most) in [(false, PAUSES / 2), (true, LINGERS / 2)] {
            let (mut ours, _client) = connected().await;
            ours.is_sending().store(is_sending, Ordering::Relaxed);
            timeout(at_most, ours.shutdown()).await.unwrap().unwrap();
        }
    }
}
