//! The admin endpoint: whether the process lives, whether it is ready, and its metrics. HTTP/1, nothing secret,
//! and nothing that a stranger could make expensive.

mod slots;

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Bytes,
    header::{ALLOW, CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error};

use self::slots::Slots;
use crate::{
    accept,
    metrics::{self, Counter, Registry},
    readiness::Readiness,
};

/// How many connections are served at once; more are closed without an answer.
pub const MAX_CONNECTIONS: usize = 64;

/// How many of them one address may have: whoever holds all it can get keeps neither probes nor scrapers out.
pub const MAX_CONNECTIONS_OF_ONE: usize = 16;

/// How long a client may take to send its request's head, and then for the whole exchange.
const HEAD_DEADLINE: Duration = Duration::from_secs(5);
const EXCHANGE_DEADLINE: Duration = Duration::from_secs(15);

/// How long the end waits for exchanges that have begun.
const FAREWELL: Duration = Duration::from_millis(500);

/// The longest head of a request, in bytes and in headers.
const MAX_HEAD: usize = 16 * 1024;
const MAX_HEADERS: usize = 64;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Serves `/livez`, `/readyz` and `/metrics` on all the listeners until `shutdown` resolves and the requests that are
/// being answered have been. End it last, so that a process that drains can still say so.
pub async fn serve(
    listeners: Vec<TcpListener>,
    readiness: Readiness,
    registry: Arc<Registry>,
    accept_errors: Counter,
    shutdown: impl Future<Output = ()>,
) {
    let admin = Admin {
        readiness,
        registry,
        slots: Slots::default(),
        connections: TaskTracker::new(),
        ending: CancellationToken::new(),
    };
    for listener in listeners {
        let admin = admin.clone();
        let ended = admin.ending.clone().cancelled_owned();
        let errors = accept_errors.clone();
        admin
            .connections
            .clone()
            .spawn(accept::serve(listener, errors, ended, move |stream, peer| admin.take(stream, peer.ip())));
    }
    // Also when this future is dropped: nothing of it lives on.
    let ending = admin.ending.clone().drop_guard();
    shutdown.await;
    drop(ending);
    admin.connections.close();
    admin.connections.wait().await;
}

#[derive(Clone)]
struct Admin {
    readiness: Readiness,
    registry: Arc<Registry>,
    slots: Slots,
    connections: TaskTracker,
    ending: CancellationToken,
}

impl Admin {
    fn take(&self, stream: TcpStream, source: IpAddr) {
        let Some(slot) = self.slots.take(source.to_canonical()) else {
            debug!("Closed a connection to the admin endpoint: too many are open");
            return;
        };
        let admin = self.clone();
        self.connections.spawn(async move {
            if timeout(EXCHANGE_DEADLINE, admin.exchange(stream)).await.is_err() {
                debug!("Closed a connection to the admin endpoint: it took too long");
            }
            drop(slot);
        });
    }

    async fn exchange(&self, stream: TcpStream) {
        let service = service_fn(async |request: Request<_>| Ok::<_, Infallible>(self.answer(&request)));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_DEADLINE)
            .max_buf_size(MAX_HEAD)
            .max_headers(MAX_HEADERS)
            // One request a connection: nobody can sit on a slot that a probe needs.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let result = tokio::select! {
            result = &mut connection => result,
            () = self.ending.cancelled() => {
                connection.as_mut().graceful_shutdown();
                // Answers that are on their way arrive; who has asked nothing yet holds nobody up.
                timeout(FAREWELL, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = result {
            debug!(%error, "A connection to the admin endpoint failed");
        }
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let page: fn(&Self) -> Response<Full<Bytes>> = match request.uri().path() {
            "/livez" => |_| text(StatusCode::OK, "ok"),
            "/readyz" => Self::readyz,
            "/metrics" => Self::metrics,
            _ => return text(StatusCode::NOT_FOUND, "not found"),
        };
        if matches!(*request.method(), Method::GET | Method::HEAD) {
            page(self)
        } else {
            let refused = text(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
            with(refused, ALLOW, "GET, HEAD")
        }
    }

    fn readyz(&self) -> Response<Full<Bytes>> {
        match self.readiness.report() {
            Ok(()) => text(StatusCode::OK, "ok"),
            Err(unready) => {
                let lines: String =
                    unready.iter().map(|(name, reason)| format!("{name}: {}\n", one_line(reason))).collect();
                text(StatusCode::SERVICE_UNAVAILABLE, lines)
            }
        }
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        match self.registry.encode() {
            Ok(page) => with(text(StatusCode::OK, page), CONTENT_TYPE, metrics::CONTENT_TYPE),
            Err(error) => {
                error!(%error, "The metrics can't be written");
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics can't be written")
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, PLAIN)
}

fn with(mut response: Response<Full<Bytes>>, name: HeaderName, value: &'static str) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

/// A reason may quote an error of many lines; on the page it is one.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
