//! Health and metrics over HTTP: `/healthz`, `/readyz`, `/metrics`, and a page that names them.
//!
//! It never stands in the way of the engine: a port that is taken is tried again, and each request is answered by what
//! the hot thread says within [`PATIENCE`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use axum::serve::Listener;
use stats::Format;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};

use crate::engine::EngineHandle;
use crate::log::Log;

/// How long the hot thread may take to say something. It answers within milliseconds unless it hangs.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two attempts to get a port that is taken.
const RETRY: Duration = Duration::from_secs(10);
/// Connections at a time: several scrapers, people and probes. Further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection may live: whoever opens one and says nothing keeps its place no longer.
const CONNECTION_AGE_MAX: Duration = Duration::from_secs(120);

const PAGE: &str = "<!doctype html><title>crdt-engine</title><h1>crdt-engine</h1><ul>\
<li><a href=\"/metrics\">metrics</a><li><a href=\"/readyz\">ready?</a><li><a href=\"/healthz\">alive?</a></ul>\n";

/// Serves until the task is dropped. A port that cannot be had is logged and tried again.
pub async fn serve(address: SocketAddr, handle: EngineHandle, log: Log) {
    let mut is_told = false;
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => {
                let bound = listener.local_addr().unwrap_or(address);
                log.info("health and metrics are served", &[("address", &bound)]);
                is_told = false;
                if let Err(error) = axum::serve(Capped::new(listener), router(handle.clone())).await {
                    log.warn("ERR_HTTP", "health and metrics ended; they are begun anew", &[("error", &error)]);
                }
            }
            Err(error) => {
                if !is_told {
                    is_told = true;
                    let (code, message) = refusal(&error);
                    log.warn(code, message, &[("address", &address), ("error", &error)]);
                }
            }
        }
        sleep(RETRY).await;
    }
}

fn refusal(error: &io::Error) -> (&'static str, &'static str) {
    if error.kind() == io::ErrorKind::AddrInUse {
        let message = "the port of health and metrics is taken (node_exporter has the same default); the engine runs on \
                       without them and tries again; see who has it with: ss -tlnp, or set http.listen";
        ("ERR_HTTP_PORT_TAKEN", message)
    } else {
        ("ERR_HTTP", "health and metrics cannot be served; the engine runs on and tries again; set http.listen")
    }
}

fn router(handle: EngineHandle) -> Router {
    Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(|| async {
            plain(StatusCode::NOT_FOUND, "there are /healthz, /readyz and /metrics here\n".to_owned())
        })
        .with_state(handle)
}

/// 200 while the hot thread answers.
async fn healthz(State(handle): State<EngineHandle>) -> Response {
    match timeout(PATIENCE, handle.status()).await {
        Ok(Ok(_)) => plain(StatusCode::OK, "ok\n".to_owned()),
        Ok(Err(error)) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{} {error}\n", error.code())),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, hung()),
    }
}

/// 200 while the node takes writes; else why it does not, one reason a line.
async fn readyz(State(handle): State<EngineHandle>) -> Response {
    match timeout(PATIENCE, handle.status()).await {
        Ok(Ok(status)) if status.unready.is_empty() => plain(StatusCode::OK, "ready\n".to_owned()),
        Ok(Ok(status)) => {
            let reasons = status.unready.iter().map(|unready| format!("{} {}\n", unready.code, unready.reason));
            plain(StatusCode::SERVICE_UNAVAILABLE, reasons.collect())
        }
        Ok(Err(error)) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{} {error}\n", error.code())),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, hung()),
    }
}

async fn metrics(State(handle): State<EngineHandle>, headers: HeaderMap) -> Response {
    let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let format = Format::of_accept(accept);
    match timeout(PATIENCE, handle.metrics()).await {
        Ok(Ok(snapshot)) => {
            let kind = HeaderValue::from_static(format.content_type());
            (StatusCode::OK, [(CONTENT_TYPE, kind)], format.render(&snapshot)).into_response()
        }
        Ok(Err(error)) => plain(StatusCode::SERVICE_UNAVAILABLE, format!("{} {error}\n", error.code())),
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, hung()),
    }
}

fn hung() -> String {
    format!("ERR_ENGINE_HUNG the hot thread has not answered for {} s\n", PATIENCE.as_secs())
}

fn plain(status: StatusCode, text: String) -> Response {
    let never = HeaderValue::from_static("no-store");
    (status, [(CACHE_CONTROL, never)], text).into_response()
}

/// A listener that lets in so many at a time.
struct Capped {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Capped {
    fn new(listener: TcpListener) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Listener for Capped {
    type Io = Held;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let place = loop {
            match Arc::clone(&self.places).acquire_owned().await {
                Ok(place) => break place,
                // Nobody closes it.
                Err(_) => sleep(RETRY).await,
            }
        };
        // Axum's own way with errors of accept: those of one client are passed over, a lack of descriptors is waited out.
        let (stream, address) = Listener::accept(&mut self.listener).await;
        (Held { stream, until: Box::pin(sleep(CONNECTION_AGE_MAX)), _place: place }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection with its place, which ends when it is too old.
struct Held {
    stream: TcpStream,
    until: Pin<Box<tokio::time::Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl AsyncRead for Held {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.until.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Held {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
