//! A node's metrics, as its HTTP port gives them.

use std::{collections::HashMap, io, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// A node that has not answered after this is too busy to be asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// Every sample of one scrape, by its name with its labels: `quorate_raft_term{group="0"}`.
#[derive(Clone, Debug, Default)]
pub struct Metrics(HashMap<String, f64>);

impl Metrics {
    /// Asks a node, `HOST:PORT`.
    ///
    /// # Errors
    /// It does not answer, or not with metrics.
    pub async fn of(address: &str) -> io::Result<Self> {
        let answer = tokio::time::timeout(PATIENCE, get(address, "/metrics")).await;
        let answer = answer.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split(' ').nth(1) {
            Some("200") => Ok(Self::parse(body)),
            _ => Err(io::Error::other(head.lines().next().unwrap_or("no answer").to_owned())),
        }
    }

    fn parse(text: &str) -> Self {
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        let samples = samples.filter_map(|line| {
            // Label values of this server hold no blanks.
            let mut words = line.split(' ');
            Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// One sample; 0 if it is not there, as counters are before their first event.
    #[must_use]
    pub fn get(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// The sum over all labels of one name.
    #[must_use]
    pub fn sum(&self, name: &str) -> f64 {
        let of_name = |key: &str| key.split('{').next() == Some(name);
        self.0.iter().filter(|(key, _)| of_name(key)).map(|(_, value)| value).sum()
    }
}

async fn get(address: &str, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    String::from_utf8(answer).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_by_name_and_label() {
        let metrics = Metrics::parse(
            "# TYPE a gauge\na{group=\"0\"} 7\na{group=\"1\"} 2\nab 1\nb_total 1e3\nbad x\n# EOF\n",
        );
        assert_eq!(metrics.get("a{group=\"0\"}"), 7.0);
        assert_eq!(metrics.sum("a"), 9.0);
        assert_eq!((metrics.get("b_total"), metrics.sum("b_total")), (1000.0, 1000.0));
        assert_eq!((metrics.get("bad"), metrics.sum("none")), (0.0, 0.0));
    }

    #[tokio::test]
    async fn only_200_is_an_answer() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("its address").to_string();
        tokio::spawn(async move {
            for status in ["200 OK", "503 Busy"] {
                let (mut stream, _) = listener.accept().await.expect("a caller");
                let mut asked = [0; 512];
                let read = stream.read(&mut asked).await.expect("a request");
                assert!(asked[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
                let answer = format!("HTTP/1.1 {status}\r\nx: y\r\n\r\nup 1\n");
                stream.write_all(answer.as_bytes()).await.expect("the caller listens");
            }
        });
        assert_eq!(Metrics::of(&address).await.expect("an answer").get("up"), 1.0);
        assert!(Metrics::of(&address).await.unwrap_err().to_string().contains("503"));
    }
}
