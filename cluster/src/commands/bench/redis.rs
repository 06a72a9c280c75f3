//! The comparison with Redis: `XADD` to a stream, and `WAIT` for a replica to have it.
//!
//! `WAIT` holds up the connection it is sent on, so each caller has a connection of its own.

use bytes::{Bytes, BytesMut};
use rand::{SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    load::{Client, Work, closed_loop, drive},
    payload::Payload,
    plan::Plan,
    report::Report,
};
use crate::{args::Load, exit::Failure, output::Output};

/// The stream that is appended to.
const KEY: &str = "bench";

/// How long `WAIT` may wait, in milliseconds: far above any latency worth reporting.
const WAIT_MS: &str = "30000";

/// `quorate bench redis-xadd`.
///
/// # Errors
/// When Redis can't be reached or keeps refusing.
pub async fn run(plan: &Plan, load: &Load, replicas: u32, output: Output) -> Result<(), Failure> {
    let payload = Payload::new(plan.size);
    let mut first = Connection::open(&plan.endpoints[0]).await?;
    let run = plan.run();
    let mut adders = Vec::with_capacity(load.clients as usize);
    for id in 0..load.clients as usize {
        let adder = Adder {
            connection: Connection::open(&plan.endpoints[0]).await?,
            payload: payload.clone(),
            rng: SmallRng::from_os_rng(),
            replicas,
        };
        adders.push(closed_loop(run.clone(), id, adder));
    }
    let measured = drive(&run, load.warm_up, adders).await;
    first.ask(&[b"UNLINK", KEY.as_bytes()]).await?;
    let mut settings = plan.settings(&format!("redis xadd (wait {replicas})"), 1, 1);
    settings.connections = load.clients;
    settings.endpoints.truncate(1);
    Report::new(settings, &measured?).write(output)
}

/// Whether so many replicas follow the master at `address`.
///
/// # Errors
/// They don't.
pub async fn is_ready(address: &str, replicas: u32) -> Result<(), Failure> {
    let mut connection = Connection::open(address).await?;
    connection.ask(&[b"SET", b"ready", b"?"]).await?;
    match connection.ask(&[b"WAIT", replicas.to_string().as_bytes(), b"1000"]).await? {
        Answer::Number(have) if have >= i64::from(replicas) => Ok(()),
        other => Err(Failure::refused(format!("Redis: replicas that follow: {other:?}"))),
    }
}

struct Adder {
    connection: Connection,
    payload: Payload,
    rng: SmallRng,
    replicas: u32,
}

impl Client for Adder {
    async fn call(&mut self) -> Result<Work, Failure> {
        let value = self.payload.next(&mut self.rng);
        let connection = &mut self.connection;
        connection.say(&[b"XADD", KEY.as_bytes(), b"*", b"v", &value]);
        let replicas = self.replicas.to_string();
        connection.say(&[b"WAIT", replicas.as_bytes(), WAIT_MS.as_bytes()]);
        connection.flush().await?;
        connection.answer().await?;
        match connection.answer().await? {
            Answer::Number(have) if have >= i64::from(self.replicas) => {
                Ok(Work { records: 1, bytes: value.len() as u64 })
            }
            other => Err(Failure::unknown(format!("Redis: too few replicas have it: {other:?}"))),
        }
    }
}

/// What Redis answers, as far as we ask.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answer {
    Text(Bytes),
    Number(i64),
}

struct Connection {
    input: BufReader<OwnedReadHalf>,
    output: OwnedWriteHalf,
    out: BytesMut,
    line: Vec<u8>,
}

impl Connection {
    async fn open(address: &str) -> Result<Self, Failure> {
        let host = address.trim_start_matches("http://");
        let unreachable = |e: std::io::Error| {
            Failure::refused(format!("{host} cannot be reached: {e}"))
                .advise("check that it runs, and the --endpoints")
        };
        let stream = TcpStream::connect(host).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let (input, output) = stream.into_split();
        let input = BufReader::with_capacity(4096, input);
        let mut connection = Self { input, output, out: BytesMut::new(), line: Vec::new() };
        connection.ask(&[b"PING"]).await?;
        Ok(connection)
    }

    /// Adds a command to what will be sent.
    fn say(&mut self, words: &[&[u8]]) {
        self.out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            self.out.extend_from_slice(word);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        self.output.write_all(&self.out).await.map_err(broken)?;
        self.out.clear();
        Ok(())
    }

    async fn ask(&mut self, words: &[&[u8]]) -> Result<Answer, Failure> {
        self.say(words);
        self.flush().await?;
        self.answer().await
    }

    async fn answer(&mut self) -> Result<Answer, Failure> {
        self.line.clear();
        if self.input.read_until(b'\n', &mut self.line).await.map_err(broken)? == 0 {
            return Err(broken("it closed the connection"));
        }
        match head(&self.line)? {
            Head::Done(answer) => Ok(answer),
            Head::Bytes(count) => {
                let mut bytes = vec![0; count + 2];
                self.input.read_exact(&mut bytes).await.map_err(broken)?;
                bytes.truncate(count);
                Ok(Answer::Text(bytes.into()))
            }
        }
    }
}

fn broken(why: impl std::fmt::Display) -> Failure {
    Failure::unknown(format!("Redis: {why}"))
}

/// The first line of an answer.
#[derive(Debug, PartialEq, Eq)]
enum Head {
    Done(Answer),
    /// So many bytes of it follow.
    Bytes(usize),
}

fn head(line: &[u8]) -> Result<Head, Failure> {
    let text = String::from_utf8_lossy(line.trim_ascii_end());
    let malformed = || broken(format_args!("not the Redis protocol: {text:?}"));
    let Some((kind, rest)) = text.split_at_checked(1) else { return Err(malformed()) };
    Ok(match kind {
        "+" => Head::Done(Answer::Text(Bytes::copy_from_slice(rest.as_bytes()))),
        ":" => Head::Done(Answer::Number(rest.parse().map_err(|_| malformed())?)),
        "$" => Head::Bytes(rest.parse().map_err(|_| malformed())?),
        "-" => return Err(broken(rest)),
        _ => return Err(malformed()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        assert_eq!(head(b"+OK\r\n"), Ok(Head::Done(Answer::Text("OK".into()))));
        assert_eq!(head(b":2\r\n"), Ok(Head::Done(Answer::Number(2))));
        assert_eq!(head(b"$15\r\n"), Ok(Head::Bytes(15)));
        assert!(head(b"-ERR no\r\n").unwrap_err().what.ends_with("Redis: ERR no"));
        for nonsense in [&b""[..], b"\r\n", b"$-1\r\n", b"$x\r\n", b"*2\r\n", b":\r\n"] {
            head(nonsense).unwrap_err();
        }
    }
}
