//! The text form of a list of endpoints, with the shorthand people type.

/// Where the quickstart cluster listens, and so what `quorate` asks unless told otherwise.
pub const DEFAULT: &str = "http://127.0.0.1:7101,7102,7103";

/// A list of endpoints as given on the command line: at least one, in the order given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints(pub Vec<String>);

/// Why a list of endpoints was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// The list has no item.
    #[error("the list of endpoints is empty")]
    Empty,
    /// An item without a port between 1 and 65535.
    #[error("{0:?} is not an endpoint: write http://HOST:PORT, HOST:PORT or, after another, PORT")]
    Malformed(String),
    /// The server speaks plain HTTP/2 only so far.
    #[error("{0:?}: only http:// endpoints are supported")]
    Scheme(String),
}

impl std::str::FromStr for Endpoints {
    type Err = BadEndpoint;

    /// Reads a comma list of `http://HOST:PORT`, `HOST:PORT`, or just `PORT`, which means the host
    /// of the item before it (127.0.0.1 for the first).
    fn from_str(text: &str) -> Result<Self, BadEndpoint> {
        let mut host = "127.0.0.1".to_owned();
        let mut list: Vec<String> = Vec::new();
        for item in text.split(',').map(str::trim).filter(|item| !item.is_empty()) {
            let malformed = || BadEndpoint::Malformed(item.to_owned());
            let bare = match item.split_once("://") {
                Some(("http", rest)) => rest.trim_end_matches('/'),
                Some(_) => return Err(BadEndpoint::Scheme(item.to_owned())),
                None => item,
            };
            let port = match bare.rsplit_once(':') {
                Some((name, port)) => {
                    let bracketed = name.starts_with('[') && name.ends_with(']');
                    let clean = !name.contains([':', '/', '@', '?', '#', ' ']) || bracketed;
                    if name.is_empty() || !clean {
                        return Err(malformed());
                    }
                    name.clone_into(&mut host);
                    port
                }
                None => bare,
            };
            let port: u16 = port.parse().map_err(|_| malformed())?;
            if port == 0 {
                return Err(malformed());
            }
            let endpoint = format!("http://{host}:{port}");
            if !list.contains(&endpoint) {
                list.push(endpoint);
            }
        }
        if list.is_empty() { Err(BadEndpoint::Empty) } else { Ok(Self(list)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<String>, BadEndpoint> {
        text.parse::<Endpoints>().map(|e| e.0)
    }

    #[test]
    fn shorthand() {
        let local = ["http://127.0.0.1:7101", "http://127.0.0.1:7102", "http://127.0.0.1:7103"];
        assert_eq!(parsed(DEFAULT).unwrap(), local);
        assert_eq!(parsed("7101, 7102,7103,").unwrap(), local);
        assert_eq!(
            parsed("a:1,2,http://b:3/,4").unwrap(),
            ["http://a:1", "http://a:2", "http://b:3", "http://b:4"]
        );
        assert_eq!(parsed("[::1]:7101,7102").unwrap(), ["http://[::1]:7101", "http://[::1]:7102"]);
        assert_eq!(parsed("a:1,a:1").unwrap(), ["http://a:1"], "an endpoint counts once");
    }

    #[test]
    fn refusals() {
        for text in ["", " , "] {
            assert_eq!(parsed(text), Err(BadEndpoint::Empty), "{text:?}");
        }
        for text in ["host", "host:", "host:0", "host:70000", ":7101", "::1:7101", "a/b:1", "a:1/x"]
        {
            assert!(matches!(parsed(text), Err(BadEndpoint::Malformed(_))), "{text:?}");
        }
        assert!(matches!(parsed("https://a:1"), Err(BadEndpoint::Scheme(_))));
    }
}
