//! The store as a web page, for this machine only: what stands in it is nobody else's business, and
//! it is served without a password.

mod zip;

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use axum::{
    Router,
    body::Body,
    extract::{Path as UrlPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::ReceiverStream;

use super::summary::{self, Summary};

/// Pieces of a file on their way into a socket that is slower than the disk.
const IN_FLIGHT: usize = 8;

/// Bytes of one piece.
const PIECE: usize = 64 * 1024;

#[derive(Debug)]
struct Served {
    /// Canonical, so that what it contains can be told by its path.
    store: PathBuf,
}

/// An answer other than the one that was asked for.
#[derive(Debug, thiserror::Error)]
enum Refused {
    /// There is no such file, or it is not in the store.
    #[error("there is no such file in the store")]
    NotFound,
    /// It is there and cannot be read.
    #[error("{0:#}")]
    Broken(#[from] anyhow::Error),
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = match &self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Broken(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        (status, format!("{self}\n")).into_response()
    }
}

/// Serves the store until the process ends.
///
/// # Errors
/// The port is taken, or the store is none.
pub async fn serve(store: &Path, port: u16) -> Result<()> {
    std::fs::create_dir_all(store).with_context(|| format!("creating {}", store.display()))?;
    let store = store.canonicalize()?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    println!("http://{}/  serves {}", listener.local_addr()?, store.display());
    Ok(axum::serve(listener, router(store)).await?)
}

fn router(store: PathBuf) -> Router {
    Router::new()
        .route("/", get(runs))
        .route("/files/{*path}", get(file))
        .route("/zip/{name}/{time}", get(zipped))
        .layer(middleware::from_fn(only_by_its_own_name))
        .with_state(Arc::new(Served { store }))
}

/// A page of another site can make a browser ask here under that site's name. It gets nothing.
async fn only_by_its_own_name(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let name = host.map(|host| host.rsplit_once(':').map_or(host, |(name, _)| name));
    match name {
        Some("127.0.0.1" | "localhost") => next.run(request).await,
        _ => (StatusCode::FORBIDDEN, "ask for 127.0.0.1 or localhost\n").into_response(),
    }
}

async fn runs(State(served): State<Arc<Served>>) -> Result<Html<String>, Refused> {
    let work = move || -> Result<String> {
        Ok(summary::page(&Summary::all(&served.store)?, "/files/", Some("/zip/")))
    };
    Ok(Html(blocking(work).await?))
}

async fn file(
    State(served): State<Arc<Served>>,
    UrlPath(path): UrlPath<String>,
) -> Result<Response, Refused> {
    let found = inside(&served.store, &path)?;
    if found.is_dir() {
        let listed = path.clone();
        return Ok(Html(blocking(move || folder(&found, &listed)).await?).into_response());
    }
    let file = tokio::fs::File::open(&found).await.map_err(|_| Refused::NotFound)?;
    let length = file.metadata().await.map_err(anyhow::Error::from)?.len();
    let (to, from) = tokio::sync::mpsc::channel(IN_FLIGHT);
    // It may be written to at this moment: no more than its length is sent.
    tokio::spawn(send_file(file, length, to));
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(from)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type(&found)));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

async fn send_file(
    file: tokio::fs::File,
    length: u64,
    to: tokio::sync::mpsc::Sender<std::io::Result<Vec<u8>>>,
) {
    use tokio::io::AsyncReadExt as _;
    let mut file = file.take(length);
    loop {
        let mut piece = Vec::with_capacity(PIECE);
        let read = file.read_buf(&mut piece).await;
        let last = !matches!(read, Ok(1..));
        let sent = match read {
            Ok(0) => return,
            Ok(_) => to.send(Ok(piece)).await,
            Err(why) => to.send(Err(why)).await,
        };
        // Nobody listens any more.
        if last || sent.is_err() {
            return;
        }
    }
}

async fn zipped(
    State(served): State<Arc<Served>>,
    UrlPath((name, time)): UrlPath<(String, String)>,
) -> Result<Response, Refused> {
    let dir = inside(&served.store, &format!("{name}/{time}"))?;
    let below = dir.strip_prefix(&served.store).map_or(0, |path| path.components().count());
    if !dir.is_dir() || below != 2 {
        return Err(Refused::NotFound);
    }
    let (to, from) = tokio::sync::mpsc::channel(IN_FLIGHT);
    let (prefix, ends) = (format!("{name}-{time}"), to.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(why) = zip::write(&dir, &prefix, zip::Pieces::new(to)) {
            // The browser sees a download that broke off; if it is gone itself, nobody need know.
            let _ = ends.blocking_send(Err(why));
        }
    });
    let mut response = Response::new(Body::from_stream(ReceiverStream::new(from)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/zip"));
    let plain = |c: &char| c.is_ascii_alphanumeric() || "-_.+".contains(*c);
    let name: String = format!("{name}-{time}").chars().filter(plain).collect();
    let disposition = format!("attachment; filename=\"{name}.zip\"");
    let disposition = HeaderValue::from_str(&disposition).map_err(anyhow::Error::from)?;
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    Ok(response)
}

/// The file of this path below the store, wherever links and dots in it lead.
fn inside(store: &Path, path: &str) -> Result<PathBuf, Refused> {
    let found = store.join(path).canonicalize().map_err(|_| Refused::NotFound)?;
    if found.starts_with(store) { Ok(found) } else { Err(Refused::NotFound) }
}

fn folder(dir: &Path, path: &str) -> Result<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let slash = if entry.path().is_dir() { "/" } else { "" };
        names.push((entry.file_name().to_string_lossy().into_owned(), slash));
    }
    names.sort();
    let at = path.trim_matches('/').split('/').map(summary::url).collect::<Vec<_>>().join("/");
    let items = names.iter().map(|(name, slash)| {
        let text = crate::report::escape(name);
        format!(
            "<li><a href=\"/files/{at}/{}{slash}\">{text}{slash}</a></li>\n",
            summary::url(name)
        )
    });
    Ok(format!(
        "<!doctype html>\n<meta charset=\"utf-8\"><title>{0}</title>\n<style>{1}</style>\n\
         <h1>{0}</h1>\n<p><a href=\"/\">all runs</a></p><ul>{2}</ul>\n",
        crate::report::escape(path),
        crate::report::STYLE,
        items.collect::<String>()
    ))
}

fn content_type(path: &Path) -> &'static str {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("html") => "text/html; charset=utf-8",
        Some("json") => "application/json",
        // So that a browser shows it instead of storing it.
        Some("txt" | "log" | "jsonl" | "edn" | "toml") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.context("the work ended early")?
}
