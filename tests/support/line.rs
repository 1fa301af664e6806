//! The line to a server: a TCP relay that counts the bytes it carries there, and may be thin.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::net::Net;

/// Bytes read at a time.
const CHUNK: usize = 16 << 10;
/// Segments and window of a line that is no loopback, in bytes: there a sender hands ten segments of 64 KiB and more to its
/// own system, and takes them for sent.
const SEGMENT: u32 = 1_400;
const WINDOW: usize = 8 << 10;
/// One connection after the other gets its turn, as in the queue of a router, for so many bytes.
const TURN: usize = 32 << 10;
/// Whoever sends nothing for so long has had its turn.
const SILENCE: Duration = Duration::from_millis(20);

/// Listens while it lives.
pub struct Line {
    addr: SocketAddr,
    way: Arc<Way>,
    task: AbortHandle,
}

/// What all connections share.
struct Way {
    to: SocketAddr,
    /// Bytes a second to the server, over all connections, if it is thin. None at all: it stands still.
    speed: watch::Sender<Option<u64>>,
    /// Held by the connection whose turn it is.
    turn: Mutex<()>,
    carried: AtomicU64,
}

impl Line {
    /// A line as fast as this machine.
    pub fn fast(net: &Net, to: SocketAddr) -> Self {
        Self::start(net, to, None)
    }

    /// A line of so many bytes a second to the server.
    pub fn thin(net: &Net, to: SocketAddr, speed: u64) -> Self {
        Self::start(net, to, Some(speed))
    }

    fn start(net: &Net, to: SocketAddr, speed: Option<u64>) -> Self {
        let _runtime = net.shared.handle.enter();
        let listener = listen(speed.is_some()).expect("a free loopback port");
        let addr = listener.local_addr().expect("a bound socket");
        let (speed, turn) = (watch::Sender::new(speed), Mutex::default());
        let way = Arc::new(Way { to, speed, turn, carried: AtomicU64::new(0) });
        let task = net.shared.handle.spawn(serve(listener, way.clone())).abort_handle();
        Self { addr, way, task }
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    /// From now on it carries so many bytes a second.
    pub fn set_speed(&self, speed: Option<u64>) {
        self.way.speed.send_replace(speed);
    }

    /// Bytes that went to the server so far, heads of requests among them.
    pub fn carried(&self) -> u64 {
        self.way.carried.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes went to the server.
    pub fn wait_for(&self, bytes: u64) {
        let patience = std::time::Instant::now() + Duration::from_secs(20);
        while self.carried() < bytes {
            assert!(std::time::Instant::now() < patience, "{} of {bytes} bytes came", self.carried());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn listen(is_thin: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if is_thin {
        socket.set_tcp_mss(SEGMENT)?;
        socket.set_recv_buffer_size(WINDOW)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
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
    let (near_read, mut near_write) = near.into_split();
    let (mut far_read, far_write) = far.into_split();
    let back = async {
        tokio::io::copy(&mut far_read, &mut near_write).await?;
        near_write.shutdown().await
    };
    tokio::try_join!(there(near_read, far_write, &way), back).map(|_| ())
}

async fn there(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: &Way) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    let mut speeds = way.speed.subscribe();
    loop {
        let mut read = from.read(&mut chunk).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let is_thin = speeds.borrow().is_some();
        let _turn = if is_thin { Some(way.turn.lock().await) } else { None };
        let mut of_turn = 0;
        loop {
            way.leave(read, &mut speeds).await;
            to.write_all(&chunk[..read]).await?;
            of_turn += read;
            if !is_thin || of_turn >= TURN {
                break;
            }
            let Ok(more) = timeout(SILENCE, from.read(&mut chunk)).await else { break };
            read = more?;
            if read == 0 {
                return to.shutdown().await;
            }
        }
    }
}

impl Way {
    /// Returns once so many bytes have left.
    async fn leave(&self, bytes: usize, speeds: &mut watch::Receiver<Option<u64>>) {
        let began = Instant::now();
        loop {
            let speed = *speeds.borrow_and_update();
            let gone = match speed {
                None => break,
                // Until it is another.
                Some(0) => None,
                Some(speed) => Some(began + Duration::from_secs_f64(bytes as f64 / speed as f64)),
            };
            let leaving = async {
                match gone {
                    Some(gone) => sleep_until(gone).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = leaving => break,
                // The sender lives in self.
                _ = speeds.changed() => {}
            }
        }
        self.carried.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}
