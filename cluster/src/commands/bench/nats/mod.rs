//! The comparison with NATS: publishing to a JetStream stream, each publication acknowledged.
//!
//! Spoken over plain sockets, with as many callers' requests as there are on one connection written
//! and read together: less work for the load generator than with any client library, so that the
//! servers get what the machine has.

mod connection;
mod protocol;
mod stream;

use std::{sync::Arc, time::Instant};

use rand::{SeedableRng, rngs::SmallRng};

use self::{
    connection::{Connection, broken},
    protocol::Said,
    stream::Stream,
};
use super::{
    load::{Measured, Run, Ticket, Work, bear, drive},
    payload::Payload,
    plan::Plan,
    report::Report,
};
use crate::{args::Load, exit::Failure, output::Output};
pub use stream::{is_ready, make_stream, stream_leader};

/// `quorate bench nats-publish`.
///
/// # Errors
/// When NATS can't be reached or keeps refusing.
pub async fn run(plan: &Plan, load: &Load, replicas: u32, output: Output) -> Result<(), Failure> {
    let stream = Stream::create(plan, replicas).await?;
    let measured = measure(plan, load, &stream).await;
    stream.delete().await?;
    let mut settings = plan.settings(&format!("nats publish (R{replicas})"), 1, 1);
    settings.endpoints = vec![stream.leader];
    Report::new(settings, &measured?).write(output)
}

async fn measure(plan: &Plan, load: &Load, stream: &Stream) -> Result<Measured, Failure> {
    let run = plan.run();
    let connections = plan.connections.min(load.clients) as usize;
    let payload = Payload::new(plan.size);
    let publishers = (0..connections).map(|id| {
        // Callers as even over the connections as they go.
        let callers = load.clients as usize / connections
            + usize::from(id < load.clients as usize % connections);
        let publisher = Publisher {
            address: stream.leader.clone(),
            subject: stream.name.clone(),
            payload: payload.clone(),
            rng: SmallRng::from_os_rng(),
            id,
            callers,
        };
        publisher.run(run.clone())
    });
    drive(&run, load.warm_up, publishers.collect::<Vec<_>>()).await
}

/// Publications over one connection, answered in any order.
pub struct Conversation(Connection);

impl Conversation {
    /// Connects.
    ///
    /// # Errors
    /// The server can't be reached.
    pub async fn open(endpoint: &str) -> Result<Self, Failure> {
        Connection::open(endpoint, 0).await.map(Self)
    }

    /// Publishes, under a number that its answer will have.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn publish(
        &mut self,
        subject: &str,
        number: usize,
        value: &[u8],
    ) -> Result<(), Failure> {
        let reply_to = self.0.reply_to(number);
        protocol::publish(subject, &reply_to, value, &mut self.0.out);
        self.0.flush().await
    }

    /// The next answer: the number, and whether it is an acknowledgement. May be given up: what was
    /// received stays, and what it sends (a line now and then) fits into the socket.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn acknowledgement(&mut self) -> Result<(usize, bool), Failure> {
        loop {
            match self.0.next().await? {
                Said::Message { subject, payload, status } => {
                    let Some(number) = Connection::slot(&subject) else { continue };
                    return Ok((number, status.is_none() && is_acknowledgement(&payload)));
                }
                Said::Err(why) => return Err(broken(&self.0.server, why)),
                _ => {}
            }
        }
    }
}

/// The callers of one connection.
struct Publisher {
    address: String,
    subject: String,
    payload: Payload,
    rng: SmallRng,
    id: usize,
    callers: usize,
}

/// A caller whose publication is not answered yet.
type Waiting = Option<(Ticket, Instant, Work)>;

impl Publisher {
    async fn run(mut self, run: Arc<Run>) -> Result<(), Failure> {
        let mut in_a_row = 0;
        while let Some(first) = run.admit() {
            match self.connected(&run, first, &mut in_a_row).await {
                Ok(()) => return Ok(()),
                Err(failure) => {
                    in_a_row += 1;
                    bear(&run, failure, in_a_row).await?;
                }
            }
        }
        Ok(())
    }

    /// Until the run is over or the connection is.
    async fn connected(
        &mut self,
        run: &Run,
        first: Ticket,
        in_a_row: &mut u32,
    ) -> Result<(), Failure> {
        let mut connection = Connection::open(&self.address, self.id).await?;
        let replies: Vec<String> = (0..self.callers).map(|s| connection.reply_to(s)).collect();
        let mut waiting: Vec<Waiting> = vec![None; self.callers];
        let mut idle: Vec<usize> = (0..self.callers).collect();
        let mut next = Some(first);
        loop {
            while let Some(slot) = idle.pop() {
                let Some(ticket) = next.take().or_else(|| run.admit()) else {
                    idle.push(slot);
                    break;
                };
                let value = self.payload.next(&mut self.rng);
                let work = Work { records: 1, bytes: value.len() as u64 };
                waiting[slot] = Some((ticket, Instant::now(), work));
                protocol::publish(&self.subject, &replies[slot], &value, &mut connection.out);
            }
            if idle.len() == self.callers {
                return Ok(());
            }
            connection.flush().await?;
            let mut said = Some(connection.next().await?);
            while let Some(one) = said {
                if one == Said::Ping {
                    connection.out.extend_from_slice(b"PONG\r\n");
                } else if let Some((slot, outcome)) = self.answer(one, &connection)?
                    && let Some((ticket, sent, work)) = waiting.get_mut(slot).and_then(Option::take)
                {
                    idle.push(slot);
                    match outcome {
                        Ok(()) => {
                            *in_a_row = 0;
                            run.done(self.id, ticket, sent.elapsed(), work);
                        }
                        Err(failure) => {
                            *in_a_row += 1;
                            bear(run, failure, *in_a_row).await?;
                        }
                    }
                }
                said = connection.buffered()?;
            }
        }
    }

    /// Which caller is answered, and how.
    fn answer(
        &self,
        said: Said,
        connection: &Connection,
    ) -> Result<Option<(usize, Result<(), Failure>)>, Failure> {
        let failed = |why: &str| broken(&connection.server, why);
        let (subject, payload, status) = match said {
            Said::Message { subject, payload, status } => (subject, payload, status),
            Said::Err(why) => return Err(failed(&why)),
            _ => return Ok(None),
        };
        let Some(slot) = Connection::slot(&subject) else { return Ok(None) };
        let outcome = match status {
            Some(status) => Err(failed(&status)),
            None if is_acknowledgement(&payload) => Ok(()),
            None => Err(failed(&String::from_utf8_lossy(&payload))),
        };
        Ok(Some((slot, outcome)))
    }
}

/// `{"stream":"S","seq":7}`; a refusal has an `error`, and may have a sequence of 0 beside it.
/// Looked at as text: parsing JSON for each would be work that the others' answers don't cause.
fn is_acknowledgement(payload: &[u8]) -> bool {
    let has = |text: &[u8]| memchr::memmem::find(payload, text).is_some();
    has(b"\"seq\":") && !has(b"\"error\":")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::commands::bench::load::Extent;

    #[test]
    fn a_refusal_is_no_acknowledgement() {
        assert!(is_acknowledgement(br#"{"stream":"S","seq":7}"#));
        assert!(is_acknowledgement(br#"{"stream":"S", "domain":"D", "seq":7,"duplicate":true}"#));
        let refused = br#"{"error":{"code":503,"description":"x"},"stream":"S","seq":0}"#;
        assert!(!is_acknowledgement(refused));
        assert!(!is_acknowledgement(b""));
    }

    /// A server that acknowledges, in an order of its own, refuses every tenth, and pings.
    async fn serve(stream: TcpStream) -> std::io::Result<()> {
        let (input, mut output) = stream.into_split();
        let mut input = BufReader::new(input);
        output.write_all(b"INFO {\"server_name\":\"n\",\"version\":\"2\"}\r\n").await?;
        let (mut line, mut count) = (String::new(), 0);
        let mut held: Option<String> = None;
        while input.read_line(&mut line).await? > 0 {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                ["PING"] => output.write_all(b"PONG\r\n").await?,
                ["PUB", _, reply_to, len] => {
                    let mut payload = vec![0; len.parse::<usize>().expect("a number") + 2];
                    input.read_exact(&mut payload).await?;
                    count += 1;
                    let text = match count % 10 {
                        0 => "{\"error\":{},\"seq\":0}",
                        _ => "{\"stream\":\"s\",\"seq\":1}",
                    };
                    let answer = format!("MSG {reply_to} 1 {}\r\n{text}\r\n", text.len());
                    // Every other one waits for the next, unless there may be none.
                    let answers = match held.take() {
                        None if input.buffer().contains(&b'P') => {
                            held = Some(answer);
                            String::new()
                        }
                        before => answer + "PING\r\n" + &before.unwrap_or_default(),
                    };
                    output.write_all(answers.as_bytes()).await?;
                }
                _ => {}
            }
            line.clear();
        }
        Ok(())
    }

    #[tokio::test]
    async fn every_answer_is_its_callers() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        let run = Run::new(Extent::Count(500));
        let publisher = Publisher {
            address,
            subject: "s".into(),
            payload: Payload::new(100),
            rng: SmallRng::seed_from_u64(1),
            id: 0,
            callers: 16,
        };
        let measured = drive(&run, Duration::ZERO, [publisher.run(run.clone())]);
        let measured = tokio::time::timeout(Duration::from_secs(60), measured).await;
        let measured = measured.expect("it ends").expect("it is served");
        assert_eq!(measured.latency_ns.len() + measured.failures, 500);
        assert_eq!(measured.failures, 50);
        assert_eq!(measured.work.bytes, 450 * 100);
    }
}
