//! A CONNECT proxy that leads every host to one address: the world's names without the world.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use super::net::Net;

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 8192;

/// Ends when dropped.
pub struct Proxy {
    addr: SocketAddr,
    heads: Heads,
    task: AbortHandle,
}

/// The heads of all requests, each as it came.
type Heads = Arc<Mutex<Vec<String>>>;

impl Proxy {
    /// Every `CONNECT host:port` reaches `to`; anything else is refused, and remembered as well.
    pub fn start(net: &Net, to: SocketAddr) -> Self {
        Self::with(net, Ok(to))
    }

    /// Answers every request with this, and lets nothing through.
    pub fn refusing(net: &Net, answer: &'static str) -> Self {
        Self::with(net, Err(answer))
    }

    fn with(net: &Net, to: Result<SocketAddr, &'static str>) -> Self {
        let listener = net.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let heads = Heads::default();
        let journal = heads.clone();
        let serve = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to, journal.clone()));
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

async fn serve(mut client: TcpStream, to: Result<SocketAddr, &'static str>, heads: Heads) {
    let Some(head) = read_head(&mut client).await else { return };
    let connect = head.starts_with("CONNECT ");
    heads.lock().expect("nothing panics here").push(head);
    let to = match to {
        Ok(to) if connect => to,
        Ok(_) => return refuse(client, "HTTP/1.1 405 Only CONNECT\r\nContent-Length: 0\r\n\r\n").await,
        Err(answer) => return refuse(client, answer).await,
    };
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

async fn refuse(mut client: TcpStream, answer: &str) {
    let _ = client.write_all(answer.as_bytes()).await;
    let _ = client.shutdown().await;
}

/// The head of a request, read to its end and not a byte further.
async fn read_head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        head.push(client.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

/// Its method and target.
fn request_of(head: &str) -> Option<String> {
    let (method, rest) = head.lines().next()?.split_once(' ')?;
    Some(format!("{method} {}", rest.split(' ').next()?))
}
