//! Reads, writes and the send queue of a shared [`TcpStream`].

use std::io::{ErrorKind, Result};
use std::task::{Context, Poll, ready};
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

pub fn read(stream: &TcpStream, context: &mut Context, buffer: &mut ReadBuf) -> Poll<Result<()>> {
    loop {
        ready!(stream.poll_read_ready(context))?;
        match stream.try_read_buf(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => (),
            result => return Poll::Ready(result.map(drop)),
        }
    }
}

pub fn write(
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

/// Returns the number of bytes in the send queue: those not yet sent, and those not yet acknowledged by the client.
#[cfg(target_os = "linux")]
pub fn send_queue_len(stream: &TcpStream) -> usize {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and TIOCOUTQ writes a `c_int` to the pointer.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &mut bytes) };
    if result == 0 { bytes.try_into().unwrap_or(0) } else { 0 }
}

#[cfg(not(target_os = "linux"))]
pub fn send_queue_len(_stream: &TcpStream) -> usize {
    0
}
