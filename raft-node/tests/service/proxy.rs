//! A TCP proxy that can be cut: what others send to a node goes through it.

use tokio::{
    io,
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Ends with the test's runtime.
pub struct Proxy {
    cut: watch::Sender<bool>,
}

impl Proxy {
    /// Listens on `from` and passes everything on to `to`, both on the loopback interface.
    pub async fn start(from: u16, to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", from)).await.expect("a free port");
        let (cut, is_cut) = watch::channel(false);
        quorate_raft_node::runtime::spawn(async move {
            loop {
                let (caller, _) = listener.accept().await.expect("a caller");
                let mut is_cut = is_cut.clone();
                quorate_raft_node::runtime::spawn(async move {
                    tokio::select! {
                        // Dropping both ends is what a cut looks like.
                        _ = is_cut.wait_for(|cut| *cut) => {}
                        _ = pass(caller, to) => {}
                    }
                });
            }
        });
        Self { cut }
    }

    /// Nothing that is sent from now on comes through, and what was connected is no more.
    pub async fn cut(&self) {
        self.cut.send_replace(true);
        // Each connection holds a receiver until it is dropped; one is the listener's.
        while self.cut.receiver_count() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

async fn pass(mut caller: TcpStream, to: u16) -> io::Result<()> {
    let mut node = TcpStream::connect(("127.0.0.1", to)).await?;
    caller.set_nodelay(true)?;
    node.set_nodelay(true)?;
    io::copy_bidirectional(&mut caller, &mut node).await.map(drop)
}
