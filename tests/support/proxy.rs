//! A proxy that leads every host to one address: the world's names without the world.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::net::Net;
use super::tls::Identity;

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 8192;

/// What a TLS client says first.
const TLS_HANDSHAKE: u8 = 0x16;

/// Ends when dropped.
pub struct Proxy {
    addr: SocketAddr,
    heads: Heads,
    task: AbortHandle,
}

/// The heads of all requests, each as it came.
type Heads = Arc<Mutex<Vec<String>>>;

/// What a proxy does for those who ask.
#[derive(Clone)]
enum Service {
    /// Every `CONNECT host:port` reaches this address; anything else is refused, and remembered as well.
    Connect(SocketAddr),
    /// Every request for a plain HTTP URL reaches this address.
    Forward(SocketAddr),
    /// The same for SOCKS5, with this user and password where there is one.
    Socks(SocketAddr, Option<(&'static str, &'static str)>),
    /// Answers every request with this, and lets nothing through.
    Refuse(&'static str),
}

impl Proxy {
    /// Every `CONNECT host:port` reaches `to`; anything else is refused, and remembered as well.
    pub fn start(net: &Net, to: SocketAddr) -> Self {
        Self::with(net, Service::Connect(to), None)
    }

    /// The same, spoken to over TLS.
    pub fn start_tls(net: &Net, to: SocketAddr, identity: &Identity) -> Self {
        Self::with(net, Service::Connect(to), Some(identity))
    }

    /// Every request for a plain HTTP URL reaches `to`.
    pub fn forwarding(net: &Net, to: SocketAddr) -> Self {
        Self::with(net, Service::Forward(to), None)
    }

    /// Every host of a SOCKS5 request reaches `to`; it is remembered as `SOCKS host:port`.
    pub fn socks(net: &Net, to: SocketAddr, login: Option<(&'static str, &'static str)>) -> Self {
        Self::with(net, Service::Socks(to, login), None)
    }

    /// Answers every request with this, and lets nothing through.
    pub fn refusing(net: &Net, answer: &'static str) -> Self {
        Self::with(net, Service::Refuse(answer), None)
    }

    fn with(net: &Net, service: Service, identity: Option<&Identity>) -> Self {
        let listener = net.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let heads = Heads::default();
        let journal = heads.clone();
        let acceptor = identity.map(|identity| TlsAcceptor::from(identity.server_config()));
        let serve = async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let (service, heads, acceptor) = (service.clone(), journal.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        Some(acceptor) => {
                            let Ok(client) = acceptor.accept(client).await else { return };
                            serve(client, service, heads).await;
                        }
                        None => serve(client, service, heads).await,
                    }
                });
            }
        };
        let task = net.shared.handle.spawn(serve).abort_handle();
        Self { addr, heads, task }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The same with a login in it.
    pub fn url_with(&self, user: &str, password: &str) -> String {
        format!("http://{user}:{password}@{}", self.addr)
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("nothing panics here").clone()
    }

    /// The first lines of all requests, without version: `CONNECT quay.io:443`.
    pub fn requests(&self) -> Vec<String> {
        self.heads().iter().filter_map(|head| request_of(head)).collect()
    }

    /// The hosts that were asked for, each once.
    pub fn hosts(&self) -> BTreeSet<String> {
        let requests = self.requests();
        let hosts = requests.iter().filter_map(|request| request.strip_prefix("CONNECT "));
        hosts.map(str::to_owned).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<C: AsyncRead + AsyncWrite + Unpin>(mut client: C, service: Service, heads: Heads) {
    let remember = |head: String| heads.lock().expect("nothing panics here").push(head);
    let to = match service {
        Service::Socks(to, login) => {
            let Some(place) = socks_request(&mut client, login).await else { return };
            remember(format!("SOCKS {place}"));
            to
        }
        service => {
            let Some(head) = read_head(&mut client).await else { return };
            remember(head.clone());
            match service {
                Service::Connect(to) if head.starts_with("CONNECT ") => {
                    let _ = client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
                    to
                }
                Service::Forward(to) if head.contains(" http://") => return forward(client, &head, to).await,
                Service::Refuse(answer) => return refuse(client, answer).await,
                _ => return refuse(client, "HTTP/1.1 405 Not here\r\nContent-Length: 0\r\n\r\n").await,
            }
        }
    };
    join(client, to, &[]).await;
}

/// Lets both sides talk, after `first` has been said to the server.
async fn join<C: AsyncRead + AsyncWrite + Unpin>(mut client: C, to: SocketAddr, first: &[u8]) {
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = server.set_nodelay(true);
    if server.write_all(first).await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Passes one request on as the server expects it: by its path, and without what was meant for the proxy.
async fn forward<C: AsyncRead + AsyncWrite + Unpin>(client: C, head: &str, to: SocketAddr) {
    let Some(line) = request_of(head) else { return };
    let Some((method, url)) = line.split_once(' ') else { return };
    let path = url.splitn(4, '/').nth(3).unwrap_or_default();
    let mut passed = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n");
    let ours = ["proxy-authorization", "proxy-connection", "connection"];
    for line in head.lines().skip(1).filter(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        if !ours.contains(&name.as_str()) {
            passed += &format!("{line}\r\n");
        }
    }
    join(client, to, format!("{passed}\r\n").as_bytes()).await;
}

/// Where a SOCKS5 client wants to go (RFC 1928), once it has shown who it is (RFC 1929).
async fn socks_request<C: AsyncRead + AsyncWrite + Unpin>(
    client: &mut C,
    login: Option<(&str, &str)>,
) -> Option<String> {
    let [_version, count] = read_bytes(client).await?;
    let mut methods = vec![0; usize::from(count)];
    client.read_exact(&mut methods).await.ok()?;
    let method = if login.is_some() { 2 } else { 0 };
    if !methods.contains(&method) {
        client.write_all(&[5, 0xff]).await.ok()?;
        return None;
    }
    client.write_all(&[5, method]).await.ok()?;
    if let Some(expected) = login {
        let [_version] = read_bytes(client).await?;
        let shown = (read_text(client).await?, read_text(client).await?);
        let known = (shown.0.as_str(), shown.1.as_str()) == expected;
        client.write_all(&[1, u8::from(!known)]).await.ok()?;
        known.then_some(())?;
    }
    let [_version, _connect, _reserved, kind] = read_bytes(client).await?;
    let host = match kind {
        1 => Ipv4Addr::from(read_bytes::<4, _>(client).await?).to_string(),
        3 => read_text(client).await?,
        _ => return None,
    };
    let port = client.read_u16().await.ok()?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
    Some(format!("{host}:{port}"))
}

async fn read_bytes<const N: usize, C: AsyncRead + Unpin>(client: &mut C) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    client.read_exact(&mut bytes).await.ok()?;
    Some(bytes)
}

/// A text behind its length.
async fn read_text<C: AsyncRead + Unpin>(client: &mut C) -> Option<String> {
    let mut bytes = vec![0; usize::from(client.read_u8().await.ok()?)];
    client.read_exact(&mut bytes).await.ok()?;
    String::from_utf8(bytes).ok()
}

async fn refuse<C: AsyncWrite + Unpin>(mut client: C, answer: &str) {
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}

/// The head of a request, read to its end and not a byte further; nothing if the client takes this for a TLS server.
async fn read_head<C: AsyncRead + Unpin>(client: &mut C) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        head.push(client.read_u8().await.ok()?);
        if head == [TLS_HANDSHAKE] {
            return Some(String::new());
        }
    }
    String::from_utf8(head).ok()
}

/// Its method and target.
fn request_of(head: &str) -> Option<String> {
    let (method, rest) = head.lines().next()?.split_once(' ')?;
    Some(format!("{method} {}", rest.split(' ').next()?))
}
