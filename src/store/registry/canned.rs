//! A server for the unit tests of this module: it answers each request by a function of its head.

use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// The server's address, and the first line of each request so far.
pub(super) struct Canned {
    pub host: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Canned {
    /// Answers a request whose head is given with a status, headers that end in a line break, and a body.
    pub(super) async fn start(
        answer: impl Fn(&str) -> (u16, String, String) + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let heard = lines.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (answer, heard) = (answer.clone(), heard.clone());
                tokio::spawn(async move {
                    let mut head = [0; 8192];
                    while let Ok(read @ 1..) = stream.read(&mut head).await {
                        let head = String::from_utf8_lossy(&head[..read]).into_owned();
                        heard.lock().unwrap().push(head.lines().next().unwrap_or_default().to_owned());
                        let (status, headers, body) = answer(&head);
                        let length = body.len();
                        let answer =
                            format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
                        if stream.write_all(answer.as_bytes()).await.is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Self { host, lines }
    }

    /// How many requests had this in their first line.
    pub(super) fn count(&self, part: &str) -> usize {
        self.lines.lock().unwrap().iter().filter(|line| line.contains(part)).count()
    }
}
