//! The connection below hyper, where the faults live that HTTP cannot express.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

/// How the request handler steers the connection it runs on.
pub struct Control {
    pub id: u64,
    pub reset: AtomicBool,
    close_soon: Notify,
    /// Go on reading and discarding before the close, so that an early answer survives.
    pub linger: Mutex<Option<Duration>>,
    pub in_flight: AtomicUsize,
    pub last_activity: Mutex<Instant>,
    raw: Mutex<Option<Bytes>>,
    raw_mode: AtomicBool,
}

impl Control {
    pub fn new(id: u64) -> Self {
        Self {
            id,
            reset: AtomicBool::new(false),
            close_soon: Notify::new(),
            linger: Mutex::new(None),
            in_flight: AtomicUsize::new(0),
            last_activity: Mutex::new(Instant::now()),
            raw: Mutex::new(None),
            raw_mode: AtomicBool::new(false),
        }
    }

    pub fn reset_on_close(&self) {
        self.reset.store(true, Ordering::SeqCst);
    }

    /// Sends these bytes in place of whatever hyper writes from now on.
    pub fn answer_raw(&self, bytes: Bytes) {
        *lock(&self.raw) = Some(bytes);
        self.raw_mode.store(true, Ordering::SeqCst);
    }

    /// Closes the connection, without having announced it, once the answer is out.
    pub fn close_after_answer(&self) {
        self.close_soon.notify_one();
    }

    pub async fn asked_to_close(&self) {
        self.close_soon.notified().await;
        while self.idle_for() < Duration::from_millis(10) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub fn touch(&self) {
        *lock(&self.last_activity) = Instant::now();
    }

    pub fn idle_for(&self) -> Duration {
        match self.in_flight.load(Ordering::SeqCst) {
            0 => lock(&self.last_activity).elapsed(),
            _ => Duration::ZERO,
        }
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

pub enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub struct Wire {
    transport: Transport,
    control: Arc<Control>,
}

impl Wire {
    pub fn new(transport: Transport, control: Arc<Control>) -> Self {
        Self { transport, control }
    }

    fn stream(&mut self) -> Pin<&mut (dyn Duplex + 'static)> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream),
            Transport::Tls(stream) => Pin::new(&mut **stream),
        }
    }

    /// Writes what is left of the raw answer.
    fn poll_raw(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let control = self.control.clone();
        let mut raw = lock(&control.raw);
        while let Some(bytes) = raw.as_mut().filter(|bytes| !bytes.is_empty()) {
            let n = ready!(self.stream().poll_write(cx, bytes))?;
            bytes.advance(n);
        }
        *raw = None;
        self.stream().poll_flush(cx)
    }

    fn is_raw(&self) -> bool {
        self.control.raw_mode.load(Ordering::SeqCst)
    }
}

pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(cx, buffer)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_raw() {
            ready!(self.poll_raw(cx))?;
            return Poll::Ready(Ok(bytes.len()));
        }
        self.stream().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.is_raw() {
            return self.poll_raw(cx);
        }
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.control.reset.load(Ordering::SeqCst) {
            let tcp = match &self.transport {
                Transport::Plain(stream) => stream,
                Transport::Tls(stream) => stream.get_ref().0,
            };
            let _ = tcp.set_zero_linger();
        }
    }
}
