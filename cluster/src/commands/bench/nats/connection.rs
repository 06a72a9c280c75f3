//! One connection to a NATS server.

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::protocol::{self, Said};
use crate::exit::Failure;

/// Bytes asked of the operating system at once.
const READ_BYTES: usize = 64 << 10;

/// What a server says of itself, as far as we care.
#[derive(Debug, Deserialize)]
struct Info {
    server_name: String,
    version: String,
}

/// A connection with a subscription to everything sent to its own inbox.
pub struct Connection {
    stream: TcpStream,
    received: BytesMut,
    /// What will be sent with the next [`Connection::flush`].
    pub out: BytesMut,
    /// The server's name.
    pub server: String,
    /// The server's version.
    pub version: String,
    inbox: String,
}

/// A failure of the connection or of the server behind it.
pub fn broken(address: &str, why: impl std::fmt::Display) -> Failure {
    Failure::unknown(format!("NATS at {address}: {why}"))
}

impl Connection {
    /// Connects, greets and subscribes.
    ///
    /// # Errors
    /// Nobody is there, or it isn't NATS.
    pub async fn open(address: &str, id: usize) -> Result<Self, Failure> {
        let host = address.trim_start_matches("http://");
        let stream = TcpStream::connect(host).await.map_err(|e| {
            Failure::refused(format!("{host} cannot be reached: {e}"))
                .advise("check that it runs, and the --endpoints")
        })?;
        stream.set_nodelay(true).map_err(|e| broken(host, e))?;
        let mut connection = Self {
            stream,
            received: BytesMut::with_capacity(READ_BYTES),
            out: BytesMut::new(),
            server: String::new(),
            version: String::new(),
            inbox: format!("_INBOX.{}.{id}", uuid::Uuid::new_v4().simple()),
        };
        let Said::Info(info) = connection.next().await? else {
            return Err(broken(host, "it does not greet"));
        };
        let info: Info = serde_json::from_slice(&info).map_err(|e| broken(host, e))?;
        (connection.server, connection.version) = (info.server_name, info.version);
        let connect = r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"lang":"rust","name":"quorate-bench","version":"1","protocol":1}"#;
        let subscribe = format!("{connect}\r\nSUB {}.* 1\r\nPING\r\n", connection.inbox);
        connection.out.extend_from_slice(subscribe.as_bytes());
        connection.flush().await?;
        match connection.next().await? {
            Said::Pong => Ok(connection),
            other => Err(broken(host, format_args!("{other:?}"))),
        }
    }

    /// Where the answer to request number `slot` is to be sent.
    #[must_use]
    pub fn reply_to(&self, slot: usize) -> String {
        format!("{}.{slot}", self.inbox)
    }

    /// Which request a message to `subject` answers.
    #[must_use]
    pub fn slot(subject: &[u8]) -> Option<usize> {
        let number = subject.rsplit(|b| *b == b'.').next()?;
        std::str::from_utf8(number).ok()?.parse().ok()
    }

    /// Sends what is in [`Connection::out`].
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn flush(&mut self) -> Result<(), Failure> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.stream.write_all(&self.out).await.map_err(|e| broken(&self.server, e))?;
        self.out.clear();
        Ok(())
    }

    /// The next thing said that was received already.
    ///
    /// # Errors
    /// It isn't NATS.
    pub fn buffered(&mut self) -> Result<Option<Said>, Failure> {
        protocol::take(&mut self.received).map_err(|e| broken(&self.server, e))
    }

    /// The next thing said. Answers pings on the way.
    ///
    /// # Errors
    /// The connection is gone, or it isn't NATS.
    pub async fn next(&mut self) -> Result<Said, Failure> {
        loop {
            match self.buffered()? {
                Some(Said::Ping) => {
                    self.out.extend_from_slice(b"PONG\r\n");
                    self.flush().await?;
                }
                Some(said) => return Ok(said),
                None => {
                    self.received.reserve(READ_BYTES);
                    let read = self.stream.read_buf(&mut self.received).await;
                    match read.map_err(|e| broken(&self.server, e))? {
                        0 => return Err(broken(&self.server, "it closed the connection")),
                        _ => continue,
                    }
                }
            }
        }
    }

    /// Asks and waits for the answer; for the few requests around a measurement.
    ///
    /// # Errors
    /// The connection is gone; nobody serves the subject.
    pub async fn ask(&mut self, subject: &str, request: &impl Serialize) -> Result<Bytes, Failure> {
        let body = crate::output::json_text(request, false);
        let reply_to = self.reply_to(0);
        protocol::publish(subject, &reply_to, body.as_bytes(), &mut self.out);
        self.flush().await?;
        loop {
            match self.next().await? {
                Said::Message { status: Some(status), .. } => {
                    return Err(broken(&self.server, format_args!("{subject}: {status}")));
                }
                Said::Message { payload, .. } => return Ok(payload),
                Said::Err(why) => return Err(broken(&self.server, why)),
                _ => {}
            }
        }
    }
}
