//! A snapshot on its way: a connection of its own.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

use futures::{Stream, StreamExt, stream::BoxStream};
use prost::Message;
use quorate_proto::raft::v1 as pb;
use quorate_raft_node::peer::transport::TransportError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{broken, endpoint};
use crate::{
    host,
    world::{self, ConnId, HostId},
};

/// Where the frames go at the called end; empty before it has taken the call, and after the last.
type Incoming = Arc<Mutex<Option<mpsc::UnboundedSender<pb::SnapshotFrame>>>>;

/// One snapshot transfer, the calling end: yields the replies.
pub(super) struct Transfer {
    conn: ConnId,
    frames: Incoming,
    replies: mpsc::UnboundedReceiver<Result<pb::SnapshotReplyFrame, TransportError>>,
}

impl Stream for Transfer {
    type Item = Result<pb::SnapshotReplyFrame, TransportError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.replies.poll_recv(cx)
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        world::close(self.conn);
    }
}

impl Transfer {
    /// A connection of its own to `to`; says through `opened` when it stands.
    pub(super) fn open(
        me: HostId,
        to: HostId,
        opened: oneshot::Sender<Result<(), TransportError>>,
    ) -> Self {
        let conn = world::open(me, to);
        let (reply_to, replies) = mpsc::unbounded_channel();
        let frames: Incoming = Arc::default();
        {
            let reply_to = reply_to.clone();
            world::on_break(conn, me, move || drop(reply_to.send(Err(broken()))));
        }
        {
            let frames = frames.clone();
            world::on_break(conn, to, move || {
                drop(frames.lock().unwrap_or_else(PoisonError::into_inner).take());
            });
        }
        let incoming = frames.clone();
        world::trace(format_args!("n{me}->n{to} snapshot"));
        world::send(conn, me, move || {
            let Some(endpoint) = endpoint(to) else { return world::close(conn) };
            let (frames, queue) = mpsc::unbounded_channel();
            incoming.lock().unwrap_or_else(PoisonError::into_inner).replace(frames);
            world::send(conn, to, move || drop(opened.send(Ok(()))));
            host::spawn(to, async move {
                let mut replies =
                    Box::pin(endpoint.snapshot(UnboundedReceiverStream::new(queue).boxed()));
                while let Some(reply) = replies.next().await {
                    let reply_to = reply_to.clone();
                    world::send(conn, to, move || drop(reply_to.send(Ok(reply))));
                }
                world::send(conn, to, move || world::close(conn));
            });
        });
        Self { conn, frames, replies }
    }

    /// Carries the frames of a transfer to the other end.
    pub(super) fn carry(
        &self,
        me: HostId,
        to: HostId,
        frames: BoxStream<'static, pb::SnapshotFrame>,
    ) -> impl Future<Output = ()> + use<> {
        carry(me, to, self.conn, self.frames.clone(), frames)
    }
}

async fn carry(
    me: HostId,
    to: HostId,
    conn: ConnId,
    incoming: Incoming,
    mut frames: BoxStream<'static, pb::SnapshotFrame>,
) {
    while let Some(frame) = frames.next().await {
        let incoming = incoming.clone();
        world::trace(format_args!("n{me}->n{to} snapshot frame ({} bytes)", frame.encoded_len()));
        world::send(conn, me, move || {
            let frames = incoming.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(frames) = &*frames {
                let _ = frames.send(frame);
            }
        });
    }
    // The end of the frames arrives behind the last of them.
    world::send(conn, me, move || {
        drop(incoming.lock().unwrap_or_else(PoisonError::into_inner).take());
    });
}
