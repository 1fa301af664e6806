//! The line to a server: a TCP relay that counts the bytes it carries there, and may be thin.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::net::{Endpoint, Net, listen};

const CHUNK: usize = 64 << 10;
/// A thin line takes turns after so many bytes of one connection, and holds no more of it.
const THIN_CHUNK: usize = 4 << 10;

/// Listens while it lives.
pub struct Line {
    addr: SocketAddr,
    way: Arc<Way>,
    task: AbortHandle,
}

/// What all connections share.
struct Way {
    to: SocketAddr,
    /// Bytes a second towards the server, and when the last byte that was let in has left.
    speed: Option<(u64, Mutex<Instant>)>,
    carried: AtomicU64,
}

impl Line {
    /// A line as fast as this machine.
    pub fn fast(net: &Net, to: SocketAddr) -> Self {
        Self::start(net, to, None, &Endpoint::default())
    }

    /// A line that carries `speed` bytes a second to the server, over all connections, and hardly holds any.
    pub fn thin(net: &Net, to: SocketAddr, speed: u64) -> Self {
        let endpoint = Endpoint { receive_buffer: Some(4096), ..Endpoint::default() };
        Self::start(net, to, Some((speed, Mutex::new(Instant::now()))), &endpoint)
    }

    fn start(net: &Net, to: SocketAddr, speed: Option<(u64, Mutex<Instant>)>, endpoint: &Endpoint) -> Self {
        let _runtime = net.shared.handle.enter();
        let listener = listen((Ipv4Addr::LOCALHOST, 0).into(), endpoint).expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound socket");
        let way = Arc::new(Way { to, speed, carried: AtomicU64::new(0) });
        let task = net.shared.handle.spawn(serve(listener, way.clone())).abort_handle();
        Self { addr, way, task }
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// Bytes that went to the server so far, heads of requests among them.
    pub fn carried(&self) -> u64 {
        self.way.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Way {
    /// Returns once so many bytes have left.
    async fn carry(&self, bytes: usize) {
        if let Some((speed, free)) = &self.speed {
            let time = Duration::from_secs_f64(bytes as f64 / *speed as f64);
            let left = {
                let mut free = free.lock().expect("nothing panics here");
                *free = (*free).max(Instant::now()) + time;
                *free
            };
            sleep_until(left).await;
        }
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

async fn serve(listener: TcpListener, way: Arc<Way>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(connect(near, way.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(near: TcpStream, way: Arc<Way>) -> io::Result<()> {
    let far = TcpStream::connect(way.to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (mut far_read, far_write) = far.into_split();
    let back = async {
        let mut near_write = near_write;
        tokio::io::copy(&mut far_read, &mut near_write).await?;
        near_write.shutdown().await
    };
    tokio::try_join!(there(near_read, far_write, &way), back).map(|_| ())
}

async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) -> io::Result<()> {
    let mut chunk = vec![0; if way.speed.is_some() { THIN_CHUNK } else { CHUNK }];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        way.carry(read).await;
        to.write_all(&chunk[..read]).await?;
    }
}
