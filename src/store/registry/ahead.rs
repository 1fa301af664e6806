//! Connections that are made before anyone has something to ask over them.
//!
//! The first answer of a host decides how all others ask, so they wait for it; without this each of them would then wait
//! for handshakes of its own, of TCP and of TLS, which are two round trips. The connections are made by requests that
//! cannot be sent (they are of another version of HTTP than the connection), and handed to those that can.

use std::any::Any;
use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use reqwest::{Client, Url, Version};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tower_layer::Layer;
use tower_service::Service;

use super::distance::Distance;
use super::proxies::is_loopback;
use super::tls::Partner;
use super::{Registry, lock};
use crate::util::open_files::{self, PLENTY};

/// A connection that has waited longer may have been closed by the host.
const FRESH: Duration = Duration::from_secs(10);

type Trouble = Box<dyn std::error::Error + Send + Sync>;
/// A connection, whose type the HTTP library keeps to itself.
type Made = Result<Box<dyn Any + Send>, Trouble>;

tokio::task_local! {
    static ROLE: Role;
}

/// What a request is for, while its connection is looked for.
#[derive(Clone)]
enum Role {
    /// Only for the connection.
    Makes(Arc<Order>),
    /// To be sent, to this origin.
    Asks(String),
}

/// A connection that is wished for.
struct Order {
    /// `None` once it is made.
    to: Mutex<Option<oneshot::Sender<Made>>>,
    /// Hears how long it took, in so many round trips.
    distance: Arc<Distance>,
    round_trips: u32,
}

/// The connections of one client that nobody has used yet, by origin.
#[derive(Debug, Clone, Default)]
pub(super) struct Ahead(Arc<Mutex<HashMap<String, VecDeque<Promise>>>>);

/// A connection that is being made, or is made.
#[derive(Debug)]
struct Promise {
    since: Instant,
    connection: oneshot::Receiver<Made>,
}

impl Ahead {
    /// Begins to connect to where `url` is, so many times; `distance` hears how long that takes.
    fn connect(&self, client: &Client, url: &Url, number: usize, distance: &Arc<Distance>) {
        // One for TCP, one for TLS 1.3 (RFC 8446), two for TLS 1.2, which makes a host seem farther than it is.
        let round_trips = if url.scheme() == "https" { 2 } else { 1 };
        for _ in 0..number {
            let (sender, connection) = oneshot::channel();
            let promise = Promise { since: Instant::now(), connection };
            lock(&self.0).entry(origin(url)).or_default().push_back(promise);
            let order = Order { to: Mutex::new(Some(sender)), distance: distance.clone(), round_trips };
            let role = Role::Makes(Arc::new(order));
            // Over a connection of HTTP/1.1 this is refused before a byte is written.
            let request = client.get(url.clone()).version(Version::HTTP_2);
            tokio::spawn(ROLE.scope(role, async move {
                if let Err(error) = request.send().await {
                    tracing::trace!("connected ahead, or not: {error}");
                }
            }));
        }
    }

    fn take(&self, origin: &str) -> Option<oneshot::Receiver<Made>> {
        let mut all = lock(&self.0);
        let promises = all.get_mut(origin)?;
        promises.retain(|promise| promise.since.elapsed() < FRESH);
        promises.pop_front().map(|promise| promise.connection)
    }
}

fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Whether nothing has come over a connection that nothing was asked over: most hosts close one that is not used for some
/// seconds, and a request that is sent over it then gets no answer.
fn is_open<C>(connection: &mut TokioIo<C>) -> bool
where
    TokioIo<C>: AsyncRead + Unpin,
{
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(connection).poll_read(&mut context, &mut ReadBuf::new(&mut byte)).is_pending()
}

/// Sends a request to `url`, over a connection that was made ahead if there is one.
pub(super) async fn asking<F: Future>(url: &Url, sending: F) -> F::Output {
    ROLE.scope(Role::Asks(origin(url)), sending).await
}

impl<S> Layer<S> for Ahead {
    type Service = Connector<S>;

    fn layer(&self, inner: S) -> Connector<S> {
        Connector { inner, ahead: self.clone() }
    }
}

/// Makes connections, unless one was made ahead.
#[derive(Debug, Clone)]
pub(super) struct Connector<S> {
    inner: S,
    ahead: Ahead,
}

impl<S, R> Service<R> for Connector<S>
where
    S: Service<R, Error = Trouble> + Clone + Send + 'static,
    S::Response: Send + 'static,
    TokioIo<S::Response>: AsyncRead + Unpin,
    S::Future: Send + 'static,
    R: Send + 'static,
{
    type Response = S::Response;
    type Error = Trouble;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Trouble>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Trouble>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, to: R) -> Self::Future {
        let role = ROLE.try_with(Role::clone).ok();
        let promise = match &role {
            Some(Role::Asks(origin)) => self.ahead.take(origin),
            Some(Role::Makes(_)) | None => None,
        };
        match (role, promise) {
            (Some(Role::Makes(order)), _) => {
                let (connecting, began) = (self.inner.call(to), Instant::now());
                Box::pin(async move {
                    let made = connecting.await.map(|connection| Box::new(connection) as Box<dyn Any + Send>);
                    if made.is_ok() {
                        order.distance.note(began.elapsed(), order.round_trips);
                    }
                    if let Some(sender) = lock(&order.to).take() {
                        // Nobody may want it any more.
                        let _ = sender.send(made);
                    }
                    Err("the connection is for another request".into())
                })
            }
            (_, Some(promise)) => {
                let waiting = self.inner.clone();
                let mut ready = std::mem::replace(&mut self.inner, waiting);
                Box::pin(async move {
                    let made = match promise.await {
                        Ok(Ok(made)) => made.downcast().ok(),
                        Ok(Err(trouble)) => return Err(trouble),
                        Err(_) => None,
                    };
                    if let Some(made) = made {
                        let mut connection = TokioIo::new(*made);
                        if is_open(&mut connection) {
                            return Ok(connection.into_inner());
                        }
                    }
                    ready.call(to).await
                })
            }
            (Some(Role::Asks(_)) | None, None) => Box::pin(self.inner.call(to)),
        }
    }
}

impl Registry {
    /// How many requests it may be busy with at a time, by how far away it is.
    pub(crate) fn requests_at_a_time(&self) -> usize {
        self.distance.requests_at_a_time()
    }

    /// So many requests are going to be made at once: makes connections for them, where it is certain how to make one
    /// and a handshake takes its time.
    pub(crate) fn expect(&self, requests: usize) {
        let [base] = self.addresses.bases() else { return };
        // A proxy that refuses, perhaps for the login that it is shown, is not asked a hundred times.
        let by_proxy = self.clients.proxies.for_url(base).is_some();
        if by_proxy || is_loopback(base) || open_files::raise() < PLENTY {
            return;
        }
        let partner = Partner::Registry { host: &self.host, unverified: self.addresses.unverified };
        // What is wrong with it is told to whoever asks.
        if let Ok((client, ahead)) = self.clients.with_ahead(base, partner) {
            let before = self.connected_ahead.fetch_add(requests, Ordering::Relaxed);
            let left = self.requests_at_a_time().saturating_sub(before);
            ahead.connect(&client, base, requests.min(left), &self.distance);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;
    use crate::store::registry::tls::{Clients, Trust};

    fn client(url: &Url) -> (Client, Ahead) {
        let clients = Clients::new(Trust::default(), Arc::default(), Duration::from_secs(5));
        let host = "r.example.com".parse().unwrap();
        clients.with_ahead(url, Partner::Registry { host: &host, unverified: false }).unwrap()
    }

    async fn listener() -> (TcpListener, Url) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        (listener, url)
    }

    #[tokio::test]
    async fn requests_go_over_connections_that_were_made_ahead_and_nothing_else_does() {
        let (listener, url) = listener().await;
        let (client, ahead) = client(&url);
        ahead.connect(&client, &url, 3, &Arc::default());
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(listener.accept().await.unwrap().0);
        }
        let mut requests = JoinSet::new();
        for n in 0..3 {
            let (client, url) = (client.clone(), url.join(&n.to_string()).unwrap());
            requests.spawn(async move {
                asking(&url, client.get(url.clone()).send()).await.unwrap().status().as_u16()
            });
        }
        for stream in &mut streams {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).await.unwrap();
            let head = String::from_utf8_lossy(&head[..read]);
            assert!(head.starts_with("GET /") && head.matches("GET").count() == 1, "{head}");
            stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.unwrap();
        }
        assert_eq!(requests.join_all().await, [204; 3]);
        let another = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(another.is_err(), "no further connection was made");
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_sent_takes_no_connection_from_others() {
        let (listener, url) = listener().await;
        let (client, ahead) = client(&url);
        let asked = tokio::spawn({
            let (client, url) = (client.clone(), url.clone());
            async move { asking(&url, client.get(url.clone()).send()).await.unwrap().status().as_u16() }
        });
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 1024];
        assert!(stream.read(&mut head).await.unwrap() > 0);
        // These wait for a connection when that one becomes free.
        ahead.connect(&client, &url, 2, &Arc::default());
        stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.unwrap();
        assert_eq!(asked.await.unwrap(), 204);
        let more = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut head)).await;
        assert!(more.is_err(), "nothing was asked over it");
    }

    #[tokio::test]
    async fn what_kept_a_connection_from_being_made_is_told_to_who_asks() {
        let (listener, url) = listener().await;
        drop(listener);
        let (client, ahead) = client(&url);
        ahead.connect(&client, &url, 1, &Arc::default());
        let error = asking(&url, client.get(url.clone()).send()).await.unwrap_err();
        assert!(error.is_connect(), "{error:?}");
    }

    #[tokio::test]
    async fn a_connection_that_the_host_has_closed_meanwhile_is_not_used() {
        let (listener, url) = listener().await;
        let (client, ahead) = client(&url);
        ahead.connect(&client, &url, 1, &Arc::default());
        drop(listener.accept().await.unwrap());
        // Whatever comes over another connection comes after the end of that one.
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        listener.accept().await.unwrap().0.write_all(b"x").await.unwrap();
        other.read_u8().await.unwrap();
        let asked = tokio::spawn({
            let (client, url) = (client.clone(), url.clone());
            async move { asking(&url, client.get(url.clone()).send()).await.unwrap().status().as_u16() }
        });
        let served = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            assert!(stream.read(&mut [0; 1024]).await.unwrap() > 0);
            stream.write_all(b"HTTP/1.1 204 X\r\n\r\n").await.unwrap();
            std::future::pending().await
        };
        tokio::select! {
            status = asked => assert_eq!(status.unwrap(), 204),
            () = served => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_waited_long_is_not_used() {
        let (_listener, url) = listener().await;
        let (client, ahead) = client(&url);
        ahead.connect(&client, &url, 1, &Arc::default());
        tokio::time::advance(FRESH).await;
        assert!(ahead.take(&origin(&url)).is_none());
    }
}
