//! What has come on a client's connection is taken in with one system call.
//!
//! HTTP/2 underneath (the h2 crate) asks for what it knows of: the frame that it has begun, or 8 KiB.
//! A request of some kilobytes then costs two system calls, and as many acknowledgements that wake
//! its sender. Where more comes than can be served, most of that is for bodies that nobody wants, and
//! appends don't get the time. Here one call takes in what has come, and frames are handed out of it.
//! A frame for which HTTP/2 has made room by itself goes there, without being copied once more.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::coop,
};
use tokio_util::io::poll_read_buf;

/// Taken in with one call: several requests of the sizes that come by the ten thousand, and little
/// enough to be in the processor's cache still when it is handed out. Only what was ever filled of
/// it is memory.
const AHEAD_BYTES: usize = 64 * 1024;

/// What was taken in and is not handed out yet.
#[derive(Default)]
pub(super) struct Ahead {
    /// Without memory until something comes, then always the same.
    taken: BytesMut,
}

impl Ahead {
    /// As [`AsyncRead::poll_read`] of `connection`, whose bytes all go through here.
    pub(super) fn poll_read(
        &mut self,
        connection: impl AsyncRead + Unpin,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut connection = connection;
        let connection = Pin::new(&mut connection);
        if !self.taken.is_empty() {
            // As often as a connection that reads by itself would, one with much to hand out lets
            // the others of its thread have their turn.
            ready!(coop::poll_proceed(cx)).made_progress();
        } else if buffer.remaining() >= AHEAD_BYTES {
            return connection.poll_read(cx, buffer);
        } else {
            // Nothing is left of it, so this is room in the same memory.
            self.taken.clear();
            self.taken.reserve(AHEAD_BYTES);
            ready!(poll_read_buf(connection, cx, &mut self.taken))?;
        }
        let count = self.taken.len().min(buffer.remaining());
        buffer.put_slice(&self.taken[..count]);
        self.taken.advance(count);
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    /// Has bytes to give, at most so many at a time, and counts how often it is asked.
    #[derive(Default)]
    struct Sender {
        bytes: BytesMut,
        at_once: usize,
        reads: usize,
        /// Says "not now" every other time.
        stutters: bool,
        busy: bool,
        /// Told behind the last byte.
        error: Option<io::ErrorKind>,
    }

    impl AsyncRead for Sender {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.busy = self.stutters && !self.busy;
            if self.busy {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.reads += 1;
            if let (true, Some(error)) = (self.bytes.is_empty(), self.error) {
                return Poll::Ready(Err(error.into()));
            }
            let count = self.bytes.len().min(self.at_once).min(buffer.remaining());
            buffer.put_slice(&self.bytes.split_to(count));
            Poll::Ready(Ok(()))
        }
    }

    fn numbers(count: usize) -> BytesMut {
        (0..count).map(|n| (n % 251) as u8).collect()
    }

    async fn read(ahead: &mut Ahead, sender: &mut Sender, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; room];
        let mut buffer = ReadBuf::new(&mut bytes);
        poll_fn(|cx| ahead.poll_read(&mut *sender, cx, &mut buffer)).await?;
        let count = buffer.filled().len();
        bytes.truncate(count);
        Ok(bytes)
    }

    #[tokio::test]
    async fn what_has_come_is_taken_in_with_one_call() {
        let all = numbers(3 * 16_500);
        let mut sender = Sender { bytes: all.clone(), at_once: usize::MAX, ..Sender::default() };
        let (mut ahead, mut got) = (Ahead::default(), Vec::new());
        // Three requests, as HTTP/2 reads them: 8 KiB, then the rest of the frame.
        for _ in 0..3 {
            got.extend(read(&mut ahead, &mut sender, 8192).await.unwrap());
            got.extend(read(&mut ahead, &mut sender, 16_500 - 8192).await.unwrap());
        }
        assert!(got == all, "every byte in order");
        assert_eq!(sender.reads, 1);
    }

    #[tokio::test]
    async fn every_byte_in_order_whatever_is_asked_for() {
        let all = numbers(20 * AHEAD_BYTES + 77);
        // Room for all of it at once, too, while something is left of what was taken in.
        let rooms = [1, 9, AHEAD_BYTES, 8192, 3 * AHEAD_BYTES, AHEAD_BYTES - 1];
        for (at_once, stutters) in [(usize::MAX, false), (1000, true), (AHEAD_BYTES, true)] {
            let mut sender = Sender { bytes: all.clone(), at_once, stutters, ..Sender::default() };
            let (mut ahead, mut got) = (Ahead::default(), Vec::new());
            for room in rooms.iter().cycle() {
                let piece = read(&mut ahead, &mut sender, *room).await.unwrap();
                if piece.is_empty() {
                    break;
                }
                got.extend(piece);
            }
            assert!(got == all, "{at_once} at once: {} of {}", got.len(), all.len());
        }
    }

    #[tokio::test]
    async fn who_has_room_for_that_much_gets_it_without_a_copy() {
        let bytes = numbers(2 * AHEAD_BYTES);
        let mut sender = Sender { bytes, at_once: usize::MAX, ..Sender::default() };
        let mut ahead = Ahead::default();
        let room = 2 * AHEAD_BYTES;
        assert_eq!(read(&mut ahead, &mut sender, room).await.unwrap().len(), room);
        assert_eq!((sender.reads, ahead.taken.capacity()), (1, 0));
    }

    #[tokio::test]
    async fn its_memory_is_bounded_however_much_comes() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.taken.capacity(), 0, "who says nothing costs nothing");
        let bytes = numbers(50 * AHEAD_BYTES);
        let mut sender = Sender { bytes, at_once: usize::MAX, ..Sender::default() };
        while !read(&mut ahead, &mut sender, 9000).await.unwrap().is_empty() {
            assert!(ahead.taken.capacity() <= AHEAD_BYTES, "{}", ahead.taken.capacity());
        }
    }

    #[tokio::test]
    async fn an_error_comes_behind_the_bytes_before_it() {
        let mut sender = Sender {
            bytes: numbers(100),
            at_once: usize::MAX,
            error: Some(io::ErrorKind::ConnectionReset),
            ..Sender::default()
        };
        let mut ahead = Ahead::default();
        assert_eq!(read(&mut ahead, &mut sender, 60).await.unwrap().len(), 60);
        assert_eq!(read(&mut ahead, &mut sender, 60).await.unwrap().len(), 40);
        let error = read(&mut ahead, &mut sender, 60).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    /// A task that never waits is made to, after so many turns; hand-outs are turns, too.
    #[tokio::test]
    async fn others_have_their_turn_while_much_is_handed_out() {
        let bytes = numbers(AHEAD_BYTES);
        let mut sender = Sender { bytes, at_once: usize::MAX, ..Sender::default() };
        let mut ahead = Ahead::default();
        let handed_out = crate::runtime::spawn(async move {
            let mut count = 0;
            poll_fn(|cx| {
                let mut byte = [0];
                let mut buffer = ReadBuf::new(&mut byte);
                while ahead.poll_read(&mut sender, cx, &mut buffer).is_ready() {
                    if buffer.filled().is_empty() {
                        break;
                    }
                    buffer.clear();
                    count += 1;
                }
                Poll::Ready(count)
            })
            .await
        });
        let handed_out = handed_out.await.unwrap();
        assert!((1..AHEAD_BYTES / 2).contains(&handed_out), "{handed_out} without a pause");
    }
}
