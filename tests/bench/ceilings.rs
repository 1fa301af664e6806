//! What the machine itself can do: no tool gets beyond.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;

use crate::arena::Arena;
use crate::support::content::load;
use crate::support::digest::sha256;
use crate::support::{Blob, Content, Failure};

const MIB: usize = 1 << 20;
/// Blobs of the ingest measurement: so many at a time, of so many bytes.
const UPLOADS: u64 = 4;
const UPLOAD: u64 = 96 << 20;

/// Bytes a second.
pub struct Ceilings {
    pub hash: f64,
    pub loopback: f64,
    pub ingest: f64,
}

pub fn measure(arena: &Arena<'_>) -> Result<Ceilings, Failure> {
    Ok(Ceilings { hash: hash(), loopback: loopback()?, ingest: ingest(arena)? })
}

fn hash() -> f64 {
    let bytes = vec![7; 256 * MIB];
    let began = Instant::now();
    std::hint::black_box(sha256(&bytes));
    bytes.len() as f64 / began.elapsed().as_secs_f64()
}

fn loopback() -> Result<f64, Failure> {
    let all = 1024 * MIB;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut sender = TcpStream::connect(listener.local_addr()?)?;
    let (mut receiver, _) = listener.accept()?;
    let began = Instant::now();
    let sending = thread::spawn(move || {
        let bytes = vec![7; 256 << 10];
        (0..all / bytes.len()).try_for_each(|_| sender.write_all(&bytes))
    });
    let mut buffer = vec![0; 256 << 10];
    while receiver.read(&mut buffer)? > 0 {}
    sending.join().expect("the sender does not panic")?;
    Ok(all as f64 / began.elapsed().as_secs_f64())
}

/// Uploads to a fresh target that does nothing else, from a client that does nothing else.
fn ingest(arena: &Arena<'_>) -> Result<f64, Failure> {
    let target = arena.target()?;
    let client = arena.net.client();
    let blobs: Vec<Blob> = (0..UPLOADS).map(|seed| Blob::generated(seed, UPLOAD)).collect();
    let uploads = blobs.iter().enumerate().map(|(number, blob)| {
        let mut content = Content::new();
        content.blobs.insert(blob.digest.clone(), blob.clone());
        let repository = content.repositories.entry(format!("ingest/{number}")).or_default();
        repository.blobs.insert(blob.digest.clone());
        let (client, url) = (client.clone(), target.registry.url());
        async move { load(&content, &client, &url, None).await }
    });
    let began = Instant::now();
    arena.net.block_on(futures_util::future::try_join_all(uploads))?;
    Ok((UPLOADS * UPLOAD) as f64 / began.elapsed().as_secs_f64())
}
