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
    asked: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Proxy {
    /// Every `CONNECT host:port` reaches `to`; anything else is refused, and remembered as well.
    pub fn start(net: &Net, to: SocketAddr) -> Self {
        let listener = net.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        let addr = listener.local_addr().expect("a bound socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let journal = asked.clone();
        let serve = async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, to, journal.clone()));
            }
        };
        let task = net.shared.handle.spawn(serve).abort_handle();
        Self { addr, asked, task }
    }

    /// `http://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// The first lines of all requests, without version: `CONNECT quay.io:443`.
    pub fn requests(&self) -> Vec<String> {
        self.asked.lock().expect("nothing panics here").clone()
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

async fn serve(mut client: TcpStream, to: SocketAddr, journal: Arc<Mutex<Vec<String>>>) {
    let Some(request) = head(&mut client).await else { return };
    journal.lock().expect("nothing panics here").push(request.clone());
    if !request.starts_with("CONNECT ") {
        let _ = client.write_all(b"HTTP/1.1 405 Only CONNECT\r\nContent-Length: 0\r\n\r\n").await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(to).await else { return };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}

/// Method and target of a request whose head has been read to its end, and not a byte further.
async fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_MAX {
        head.push(client.read_u8().await.ok()?);
    }
    let text = String::from_utf8(head).ok()?;
    let (method, rest) = text.lines().next()?.split_once(' ')?;
    Some(format!("{method} {}", rest.split(' ').next()?))
}
