//! The accept loop, and the way of one request through rules, service and journal.

use std::io;
use std::net::SocketAddr;
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
use super::{Endpoint, Host, Service};
use crate::support::fault::apply;

pub(super) async fn run(host: Arc<Host>, mut listener: TcpListener) {
    let acceptor = host.endpoint.tls.then(|| acceptor(&host));
    let mut up = host.up.subscribe();
    loop {
        accept_until_down(&host, &listener, acceptor.as_ref(), &mut up).await;
        drop(listener);
        let _ = up.wait_for(|up| *up).await;
        listener = rebind(&host).await;
    }
}

fn acceptor(host: &Host) -> TlsAcceptor {
    if let Some(identity) = &host.endpoint.identity {
        return TlsAcceptor::from(identity.server_config());
    }
    let loopback = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let names = [&loopback, host.endpoint.names.as_slice()].concat();
    TlsAcceptor::from(host.net.ca.issue(&names).server_config())
}

pub(super) fn listen(address: SocketAddr, endpoint: &Endpoint) -> io::Result<TcpListener> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    socket.set_reuseaddr(true)?;
    if let Some(size) = endpoint.receive_buffer {
        socket.set_recv_buffer_size(size)?;
    }
    socket.bind(address)?;
    socket.listen(1024)
}

/// Connections of before may keep the address busy for a moment.
async fn rebind(host: &Host) -> TcpListener {
    loop {
        match listen(host.addr, &host.endpoint) {
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
                let discarded = parts.read_buf.len() as u64 + close(parts.io.into_inner(), &control).await;
                host.net.journal.note_discarded(&host.name, discarded);
            }
        }
        () = idle_too_long(&host, &control) => {}
        () = control.asked_to_close() => {}
    }
}

/// Bytes that came after the last answer.
async fn close(mut wire: Wire, control: &Control) -> u64 {
    let linger = *lock(&control.linger);
    let mut discarded = 0;
    if let Some(time) = linger {
        let mut sink = [0; 16 * 1024];
        let discard = async {
            while let Ok(read @ 1..) = wire.read(&mut sink).await {
                discarded += read as u64;
            }
        };
        let _ = tokio::time::timeout(time, discard).await;
    }
    if !control.reset.load(Ordering::SeqCst) {
        let _ = wire.shutdown().await;
    }
    discarded
}

/// Ends when the connection has been idle for longer than this host allows.
async fn idle_too_long(host: &Host, control: &Control) {
    let Some(limit) = host.endpoint.idle_close else {
        return std::future::pending().await;
    };
    while control.idle_for() < limit {
        tokio::time::sleep(limit / 8 + Duration::from_millis(1)).await;
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
