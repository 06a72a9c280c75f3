//! A client's connection that sends small things together.
//!
//! HTTP/2 underneath (the h2 crate) writes around its buffer what is larger than 256 bytes, if the
//! connection can write several pieces at once: good for large messages, but the answer to a read of
//! one small record is just above that, so that each of them cost a system call of its own: a
//! quarter of what serving linearizable reads took. A connection that says it can't is given up to
//! 1 KiB through the buffer, and what is ready at the same time goes out together.
//!
//! Larger pieces then come as two writes, a frame's header and its payload. What is small is copied
//! here and goes out with what follows it, so that nothing costs more system calls than before.
//!
//! HTTP/2 flushes whenever it has nothing more to send for now, so nothing stays here; an error of
//! a copied piece comes with the write or flush that follows.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Pieces below this are copied; what is larger is written from where it is, together with what
/// was copied before it.
const COPIED_BYTES: usize = 2 * 1024;

/// Copied pieces that may wait for the flush.
const STAGE_BYTES: usize = 16 * 1024;

/// A connection whose writes go out with the next flush.
pub(super) struct Gathered<C> {
    connection: C,
    /// Taken and not written yet.
    staged: Vec<u8>,
    /// Of `staged`, written already.
    written: usize,
}

impl<C> Gathered<C> {
    pub(super) fn new(connection: C) -> Self {
        Self { connection, staged: Vec::new(), written: 0 }
    }
}

impl<C: AsyncWrite + Unpin> Gathered<C> {
    fn poll_write_staged(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.staged.len() {
            let rest = &self.staged[self.written..];
            let count = ready!(Pin::new(&mut self.connection).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.staged.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

impl<C: AsyncRead + Unpin> AsyncRead for Gathered<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_read(cx, buffer)
    }
}

impl<C: AsyncWrite + Unpin> AsyncWrite for Gathered<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if bytes.len() < COPIED_BYTES {
            if this.staged.len() + bytes.len() > STAGE_BYTES {
                ready!(this.poll_write_staged(cx))?;
            }
            this.staged.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        loop {
            let staged = &this.staged[this.written..];
            let (before, both) = (staged.len(), [IoSlice::new(staged), IoSlice::new(bytes)]);
            let connection = Pin::new(&mut this.connection);
            let count = ready!(connection.poll_write_vectored(cx, &both))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            if count > before {
                this.staged.clear();
                this.written = 0;
                return Poll::Ready(Ok(count - before));
            }
            this.written += count;
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_staged(cx))?;
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write_staged(cx))?;
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }

    /// See the module: this is what makes small things go through the buffer.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

impl<C: Connected> Connected for Gathered<C> {
    type ConnectInfo = C::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Takes a few bytes at a time and counts how often it is asked.
    #[derive(Default)]
    struct Slow {
        taken: Vec<u8>,
        writes: usize,
        at_once: usize,
        /// Says "not now" every other time.
        stutters: bool,
        busy: bool,
    }

    impl AsyncWrite for Slow {
        fn poll_write(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.busy = self.stutters && !self.busy;
            if self.busy {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let count = bytes.len().min(self.at_once);
            self.taken.extend_from_slice(&bytes[..count]);
            self.writes += 1;
            Poll::Ready(Ok(count))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            pieces: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    fn numbers(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n % 251) as u8).collect()
    }

    #[tokio::test]
    async fn small_writes_go_out_with_one_call() {
        let mut gathered = Gathered::new(Slow { at_once: usize::MAX, ..Slow::default() });
        for piece in numbers(4000).chunks(1000) {
            gathered.write_all(piece).await.unwrap();
        }
        assert_eq!(gathered.connection.writes, 0, "not before the flush");
        assert!(!gathered.is_write_vectored(), "or h2 would write small things by themselves");
        gathered.flush().await.unwrap();
        assert_eq!((gathered.connection.writes, &gathered.connection.taken), (1, &numbers(4000)));
    }

    #[tokio::test]
    async fn a_large_write_takes_along_what_waits() {
        let mut gathered = Gathered::new(Slow { at_once: usize::MAX, ..Slow::default() });
        let all = numbers(9 + 100_000);
        gathered.write_all(&all[..9]).await.unwrap();
        gathered.write_all(&all[9..]).await.unwrap();
        assert!(gathered.connection.writes == 1 && gathered.connection.taken == all);
        gathered.flush().await.unwrap();
        assert_eq!(gathered.connection.writes, 1, "nothing was left");
    }

    #[tokio::test]
    async fn every_byte_in_order_whatever_the_connection_takes() {
        let small = [1, 300, COPIED_BYTES - 1, COPIED_BYTES, 9, COPIED_BYTES + 1, 3 * STAGE_BYTES];
        let many = [COPIED_BYTES - 1; 2 * STAGE_BYTES / COPIED_BYTES];
        let sizes = [&small[..], &many[..], &[STAGE_BYTES, 77]].concat();
        let all = numbers(sizes.iter().sum());
        for (at_once, stutters) in [(usize::MAX, false), (1000, false), (7, true), (5000, true)] {
            let slow = Slow { at_once, stutters, ..Slow::default() };
            let mut gathered = Gathered::new(slow);
            let mut rest = &all[..];
            for &size in &sizes {
                gathered.write_all(&rest[..size]).await.unwrap();
                rest = &rest[size..];
            }
            gathered.shutdown().await.unwrap();
            assert!(gathered.connection.taken == all, "{at_once} at once");
        }
    }

    #[tokio::test]
    async fn a_connection_that_takes_nothing_is_an_error() {
        let mut gathered = Gathered::new(Slow::default());
        gathered.write_all(b"x").await.unwrap();
        assert_eq!(gathered.flush().await.unwrap_err().kind(), io::ErrorKind::WriteZero);
        let large = gathered.write(&numbers(COPIED_BYTES)).await;
        assert_eq!(large.unwrap_err().kind(), io::ErrorKind::WriteZero);
    }

    #[tokio::test]
    async fn reads_pass_through() {
        let (ours, mut theirs) = tokio::io::duplex(64);
        let mut gathered = Gathered::new(ours);
        theirs.write_all(b"asked").await.unwrap();
        let mut asked = [0; 5];
        gathered.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"asked");
    }
}
