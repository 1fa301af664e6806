//! A way to a server that takes time: a TCP relay with delay lines, and a line rate that all connections share.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::support::Failure;

/// Bytes that one connection may have on its way in one direction, as a TCP window allows.
const WINDOW: usize = 8 << 20;
const CHUNK: usize = 64 << 10;
/// Timers are no finer than a millisecond: so much may be sent late without being lost.
const SLACK: Duration = Duration::from_millis(4);

/// What a line carries, over all its connections.
pub struct Rate {
    /// Bytes a second.
    speed: f64,
    /// When the last byte admitted so far has left.
    free: Mutex<Instant>,
}

impl Rate {
    pub fn new(megabits: u64) -> Self {
        Self { speed: megabits as f64 * 1e6 / 8.0, free: Mutex::new(Instant::now()) }
    }

    /// When a chunk that is here now has left.
    fn admit(&self, bytes: usize) -> Instant {
        let mut free = self.free.lock().expect("nothing panics here");
        let earliest = Instant::now().checked_sub(SLACK).unwrap_or(*free);
        *free = (*free).max(earliest) + Duration::from_secs_f64(bytes as f64 / self.speed);
        *free
    }
}

/// Listens while it lives.
pub struct Relay {
    pub addr: SocketAddr,
    runtime: Option<Runtime>,
}

impl Relay {
    /// Listens at `at`. `delay` is that of a round trip; `rate` that of what comes from the server.
    pub fn start(at: IpAddr, to: SocketAddr, delay: Duration, rate: Option<u64>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((at, 0)))?;
        let addr = listener.local_addr()?;
        runtime.spawn(serve(listener, to, delay, rate.map(|rate| Arc::new(Rate::new(rate)))));
        Ok(Self { addr, runtime: Some(runtime) })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn serve(listener: TcpListener, to: SocketAddr, delay: Duration, rate: Option<Arc<Rate>>) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        connections.spawn(carry(near, to, delay, rate.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(near: TcpStream, to: SocketAddr, delay: Duration, rate: Option<Arc<Rate>>) -> io::Result<()> {
    // The handshake of this connection has taken no time; its first bytes make up for that.
    let open = Instant::now() + delay;
    let far = TcpStream::connect(to).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let up = line(near_read, far_write, open, delay / 2, None);
    let down = line(far_read, near_write, open, delay / 2, rate);
    tokio::try_join!(up, down).map(|_| ())
}

/// One direction: what is read is written `delay` later.
async fn line(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    open: Instant,
    delay: Duration,
    rate: Option<Arc<Rate>>,
) -> io::Result<()> {
    let (enter, mut leave) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let window = Semaphore::new(WINDOW);
    let reading = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(CHUNK);
            if from.read_buf(&mut buffer).await? == 0 {
                drop(enter);
                return Ok(());
            }
            let chunk = buffer.split().freeze();
            let size = u32::try_from(chunk.len()).expect("a chunk is small");
            window.acquire_many(size).await.expect("it is never closed").forget();
            let left = rate.as_ref().map_or_else(Instant::now, |rate| rate.admit(chunk.len()));
            let _ = enter.send((left.max(open) + delay, chunk));
            if left > Instant::now() + SLACK {
                sleep_until(left).await;
            }
        }
    };
    let writing = async {
        while let Some((due, chunk)) = leave.recv().await {
            if due > Instant::now() {
                sleep_until(due).await;
            }
            to.write_all(&chunk).await?;
            window.add_permits(chunk.len());
        }
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(|_: ((), ())| ())
}
