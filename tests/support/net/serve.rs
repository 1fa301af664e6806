//! The accept loop, and the way of one request through rules, service and journal.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::call::{Call, RequestBody};
use super::reply::{Outgoing, Reply};
use super::wire::{Control, Transport, Wire, lock};
use super::{Host, Service};
use crate::support::fault::apply;

pub(super) async fn run(host: Arc<Host>, listener: std::net::TcpListener) {
    let acceptor = host.endpoint.tls.then(|| acceptor(&host));
    let mut up = host.up.subscribe();
    // The first listener reserved the port; a smaller buffer needs another.
    let mut listener = match host.endpoint.receive_buffer {
        Some(_) => {
            drop(listener);
            rebind(&host).await
        }
        None => TcpListener::from_std(listener).expect("a listener made for this"),
    };
    loop {
        accept_until_down(&host, &listener, acceptor.as_ref(), &mut up).await;
        drop(listener);
        let _ = up.wait_for(|up| *up).await;
        listener = rebind(&host).await;
    }
}

fn acceptor(host: &Host) -> TlsAcceptor {
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names = [&loopback, host.endpoint.names.as_slice()].concat();
    TlsAcceptor::from(host.net.ca.issue(&names).server_config())
}

async fn rebind(host: &Host) -> TcpListener {
    loop {
        let socket = match host.addr.is_ipv6() {
            true => TcpSocket::new_v6(),
            false => TcpSocket::new_v4(),
        }
        .expect("a socket");
        socket.set_reuseaddr(true).expect("a fresh socket");
        if let Some(size) = host.endpoint.receive_buffer {
            socket.set_recv_buffer_size(size).expect("a fresh socket");
        }
        match socket.bind(host.addr).and_then(|()| socket.listen(1024)) {
            Ok(listener) => return listener,
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

async fn accept_until_down(
    host: &Arc<Host>,
    listener: &TcpListener,
    acceptor: Option<&TlsAcceptor>,
    up: &mut tokio::sync::watch::Receiver<bool>,
) {
    // Dropping the set ends the connections with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(connection(host.clone(), stream, acceptor.cloned()));
                }
            }
            _ = connections.join_next(), if !connections.is_empty() => {}
            _ = up.wait_for(|up| !up) => return,
        }
    }
}

/// Counts the connection for as long as it lives.
struct Open(Arc<Host>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.net.journal.connection_closed(&self.0.name);
    }
}

async fn connection(host: Arc<Host>, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
    host.net.journal.connection_opened(&host.name);
    let _open = Open(host.clone());
    let _ = stream.set_nodelay(true);
    let id = host.net.next_connection.fetch_add(1, Ordering::SeqCst);
    let control = Arc::new(Control::new(id));
    let transport = match acceptor {
        None => Transport::Plain(stream),
        Some(acceptor) => match acceptor.accept(stream).await {
            Ok(stream) => Transport::Tls(Box::new(stream)),
            Err(_) => return,
        },
    };
    let io = TokioIo::new(Wire::new(transport, control.clone()));
    let serve = |request| handle(host.clone(), control.clone(), request);
    let http = hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(serve));
    tokio::select! {
        parts = http.without_shutdown() => {
            if let Ok(parts) = parts {
                close(parts.io.into_inner(), &control).await;
            }
        }
        () = closing_time(&host, &control) => {}
    }
}

async fn close(mut wire: Wire, control: &Control) {
    let linger = *lock(&control.linger);
    if let Some(time) = linger {
        let mut sink = [0; 16 * 1024];
        let discard = async { while matches!(wire.read(&mut sink).await, Ok(1..)) {} };
        let _ = tokio::time::timeout(time, discard).await;
    }
    if !control.reset.load(Ordering::SeqCst) {
        let _ = wire.shutdown().await;
    }
}

/// Ends when the connection should be closed from this side without a word.
async fn closing_time(host: &Host, control: &Control) {
    loop {
        tokio::time::sleep(Duration::from_millis(5)).await;
        let idle = control.idle_for();
        let after_answer = control.close_after_answer.load(Ordering::SeqCst);
        if after_answer && idle >= Duration::from_millis(10) {
            return;
        }
        if host.endpoint.idle_close.is_some_and(|time| idle >= time) {
            return;
        }
    }
}

async fn handle(
    host: Arc<Host>,
    control: Arc<Control>,
    request: Request<Incoming>,
) -> Result<Response<Outgoing>, Abort> {
    let (parts, incoming) = request.into_parts();
    let call = Call::new(&host, &parts);
    let record = Arc::new(host.net.journal.open(call.entry(&host.name, control.id)));
    host.net.hooks.arrived();
    let mut body = RequestBody::new(incoming, record.clone());
    let busy = Busy::new(control.clone());
    let faults = host.rules.matching(&call);
    let reply = apply::answer(&host, &control, &call, &mut body, faults).await?;
    let reply = reply.finish(&call);
    record.update(|entry| {
        entry.status = Some(reply.status);
        if let Some(digest) = reply.header("docker-content-digest") {
            entry.digest.get_or_insert_with(|| digest.to_owned());
        }
    });
    Ok(reply.into_response(record, control, busy))
}

impl Service {
    pub(crate) async fn answer(&self, host: &Host, call: &Call, body: &mut RequestBody) -> Reply {
        match self {
            Self::Registry(service) => service.answer(host, call, body).await,
            Self::Token(state) => state.answer(call, body).await,
            Self::Cdn(cdn) => cdn.answer(call),
            Self::Trap => Reply::text(404, "nothing here\n"),
        }
    }
}

/// A request is under way on this connection.
pub struct Busy(Arc<Control>);

impl Busy {
    fn new(control: Arc<Control>) -> Self {
        control.in_flight.fetch_add(1, Ordering::SeqCst);
        Self(control)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Tells hyper to drop the connection instead of answering.
#[derive(Debug)]
pub struct Abort;

impl std::fmt::Display for Abort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection dropped on purpose")
    }
}

impl std::error::Error for Abort {}

impl From<Infallible> for Abort {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
