//! What every host of a test saw, in one order.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use hyper::http::HeaderMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Op {
    Ping,
    Token,
    ManifestHead,
    ManifestGet,
    ManifestPut,
    BlobHead,
    BlobGet,
    UploadStart,
    Mount,
    UploadPatch,
    UploadPut,
    UploadStatus,
    UploadDelete,
    TagsList,
    Referrers,
    Other,
}

impl Op {
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::ManifestPut
                | Self::UploadStart
                | Self::Mount
                | Self::UploadPatch
                | Self::UploadPut
                | Self::UploadDelete
        )
    }
}

/// One request and how it was answered.
#[derive(Clone, Debug)]
pub struct Entry {
    pub seq: usize,
    /// Since the net was made.
    pub at: Duration,
    /// When the answer was complete; `None` while it is under way or if it was cut.
    pub done: Option<Duration>,
    pub host: String,
    pub connection: u64,
    pub method: String,
    pub path: String,
    pub query: Option<String>,
    pub headers: HeaderMap,
    pub op: Op,
    pub repository: String,
    /// Tag or digest of a manifest, digest of a blob, id of an upload.
    pub reference: String,
    /// The digest the request is about, where one is known: `?digest=`, `?mount=`, a manifest's own.
    pub digest: Option<String>,
    /// What a pushed manifest refers to.
    pub refers_to: Vec<String>,
    pub status: Option<u16>,
    pub read: u64,
    pub written: u64,
}

impl Entry {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn succeeded(&self) -> bool {
        self.status.is_some_and(|s| (200..300).contains(&s))
    }

    /// A manifest PUT whose reference is a tag.
    pub fn is_tag_put(&self) -> bool {
        self.op == Op::ManifestPut && !self.reference.contains(':')
    }

    /// Whether it asks a repository for a blob that it may have, by a mount from itself.
    pub fn is_question(&self) -> bool {
        let query = self.query.as_deref().unwrap_or_default();
        let mut pairs = url::form_urlencoded::parse(query.as_bytes());
        self.op == Op::Mount && pairs.any(|(key, value)| key == "from" && value == self.repository)
    }

    /// Whether the answer proves that the digest is there in this repository.
    fn confirms(&self) -> bool {
        match self.op {
            Op::BlobHead | Op::BlobGet | Op::ManifestHead | Op::ManifestGet => self.succeeded(),
            Op::Mount | Op::UploadPut | Op::ManifestPut => self.status == Some(201),
            _ => false,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.status.map_or("---".to_owned(), |s| s.to_string());
        write!(
            f,
            "{:>4} {:>9.3}s {:<8} #{:<3} ",
            self.seq,
            self.at.as_secs_f64(),
            self.host,
            self.connection
        )?;
        write!(f, "{status} {:<6} {}", self.method, self.path)?;
        if let Some(query) = &self.query {
            write!(f, "?{query}")?;
        }
        write!(f, "  <{} >{}", self.read, self.written)
    }
}

#[derive(Clone)]
pub struct Journal(Arc<Inner>);

struct Inner {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    /// Entries before this one were cleared; their late bytes are dropped.
    first: usize,
    open: HashMap<String, Gauge>,
    in_flight: HashMap<String, Gauge>,
    /// Bytes that came after an answer that was the last of its connection.
    discarded: HashMap<String, u64>,
}

#[derive(Default)]
struct Gauge {
    now: usize,
    peak: usize,
    total: usize,
}

impl Gauge {
    fn rise(&mut self) {
        self.now += 1;
        self.total += 1;
        self.peak = self.peak.max(self.now);
    }
}

impl Default for Journal {
    fn default() -> Self {
        Self(Arc::new(Inner { start: Instant::now(), state: Mutex::default() }))
    }
}

/// Recording.
impl Journal {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub fn now(&self) -> Duration {
        self.0.start.elapsed()
    }

    /// Adds an entry; its number, time and answer are filled in here and later.
    pub(super) fn open(&self, mut entry: Entry) -> Record {
        let mut state = self.state();
        entry.seq = state.first + state.entries.len();
        entry.at = self.now();
        state.in_flight.entry(entry.host.clone()).or_default().rise();
        let record = Record { journal: self.clone(), seq: entry.seq, host: entry.host.clone() };
        state.entries.push(entry);
        record
    }

    pub(super) fn connection_opened(&self, host: &str) {
        let mut state = self.state();
        state.open.entry(host.to_owned()).or_default().rise();
    }

    pub(super) fn note_discarded(&self, host: &str, bytes: u64) {
        *self.state().discarded.entry(host.to_owned()).or_default() += bytes;
    }

    pub(super) fn connection_closed(&self, host: &str) {
        if let Some(gauge) = self.state().open.get_mut(host) {
            gauge.now -= 1;
        }
    }
}

/// The pen for one entry; dropping it ends the request.
pub struct Record {
    journal: Journal,
    pub seq: usize,
    host: String,
}

impl Record {
    pub fn update(&self, change: impl FnOnce(&mut Entry)) {
        let mut state = self.journal.state();
        let Some(index) = self.seq.checked_sub(state.first) else {
            return;
        };
        if let Some(entry) = state.entries.get_mut(index) {
            change(entry);
        }
    }

    pub fn finish(&self) {
        let now = self.journal.now();
        self.update(|entry| entry.done = Some(now));
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if let Some(gauge) = self.journal.state().in_flight.get_mut(&self.host) {
            gauge.now = gauge.now.saturating_sub(1);
        }
    }
}

/// Questions.
impl Journal {
    /// Bytes that a host was sent after it had answered early.
    pub fn discarded(&self, host: &str) -> u64 {
        self.state().discarded.get(host).copied().unwrap_or_default()
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.state().entries.clone()
    }

    /// Forgets what was seen so far, for the second run of a test.
    pub fn clear(&self) {
        let mut state = self.state();
        state.first += state.entries.len();
        state.entries.clear();
    }

    pub fn filter(&self, keep: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let state = self.state();
        state.entries.iter().filter(|e| keep(e)).cloned().collect()
    }

    pub fn of(&self, host: &str, op: Op) -> Vec<Entry> {
        self.filter(|entry| entry.host == host && entry.op == op)
    }

    pub fn count(&self, host: &str, op: Op) -> usize {
        self.of(host, op).len()
    }

    pub fn requests(&self, host: &str) -> usize {
        self.filter(|entry| entry.host == host).len()
    }

    /// Body bytes that clients sent to the host.
    pub fn bytes_read(&self, host: &str) -> u64 {
        let sum = |entry: &Entry| if entry.host == host { entry.read } else { 0 };
        self.state().entries.iter().map(sum).sum()
    }

    /// Body bytes that the host sent.
    pub fn bytes_written(&self, host: &str) -> u64 {
        let sum = |entry: &Entry| if entry.host == host { entry.written } else { 0 };
        self.state().entries.iter().map(sum).sum()
    }

    /// Requests that would change something, wherever.
    pub fn writes(&self) -> Vec<Entry> {
        self.filter(|entry| entry.op.writes())
    }

    pub fn connections(&self, host: &str) -> usize {
        self.state().open.get(host).map_or(0, |gauge| gauge.total)
    }

    pub fn peak_connections(&self, host: &str) -> usize {
        self.state().open.get(host).map_or(0, |gauge| gauge.peak)
    }

    pub fn peak_in_flight(&self, host: &str) -> usize {
        let state = self.state();
        state.in_flight.get(host).map_or(0, |gauge| gauge.peak)
    }

    /// The whole list as text, for failure messages.
    pub fn dump(&self) -> String {
        let state = self.state();
        state.entries.iter().map(|e| format!("{e}\n")).collect()
    }
}

/// Claims. All panic with the list of requests.
impl Journal {
    #[track_caller]
    fn fail(&self, claim: &str) -> ! {
        panic!("{claim}\nrequests:\n{}", self.dump());
    }

    /// No manifest was put before everything it refers to was confirmed in that repository, and no
    /// blob of an image came after its tag.
    #[track_caller]
    pub fn assert_tag_last(&self, host: &str) {
        let entries = self.filter(|entry| entry.host == host);
        let mut confirmed: BTreeMap<(&str, &str), Duration> = BTreeMap::new();
        for entry in entries.iter().filter(|e| e.confirms()) {
            let Some(done) = entry.done else { continue };
            for digest in entry.digest.iter().chain([&entry.reference]) {
                let first = confirmed.entry((&entry.repository, digest)).or_insert(done);
                *first = done.min(*first);
            }
        }
        for put in entries.iter().filter(|e| e.op == Op::ManifestPut) {
            for digest in &put.refers_to {
                let first = confirmed.get(&(put.repository.as_str(), digest.as_str()));
                if first.is_none_or(|done| *done > put.at) {
                    let seq = put.seq;
                    self.fail(&format!("manifest PUT #{seq} came before {digest} was confirmed"));
                }
            }
        }
        self.check_nothing_after_tags(&entries);
    }

    #[track_caller]
    fn check_nothing_after_tags(&self, entries: &[Entry]) {
        for tag in entries.iter().filter(|e| e.is_tag_put() && e.succeeded()) {
            let tree = tree_of(tag, entries);
            let late = |e: &&Entry| {
                let is_sent = e.op == Op::UploadPut || e.op == Op::Mount && !e.is_question();
                let blob = is_sent && e.status == Some(201);
                let ours =
                    e.repository == tag.repository && e.digest.as_ref().is_some_and(|d| tree.contains(d));
                e.seq > tag.seq && blob && ours
            };
            if let Some(late) = entries.iter().find(late) {
                self.fail(&format!("#{} came after the tag of its image, #{}", late.seq, tag.seq));
            }
        }
    }

    /// Every blob was fetched at most once from that host, counting ranges by their bytes.
    #[track_caller]
    pub fn assert_each_blob_fetched_once(&self, host: &str) {
        let mut seen = BTreeSet::new();
        for entry in self.of(host, Op::BlobGet) {
            let whole = entry.header("range").is_none() && entry.succeeded();
            if whole && !seen.insert(entry.reference.clone()) {
                self.fail(&format!("{} was fetched twice from {host}", entry.reference));
            }
        }
    }

    /// Only these hosts were shown an `Authorization` header.
    #[track_caller]
    pub fn assert_no_authorization_outside(&self, hosts: &[&str]) {
        let leak = |e: &Entry| e.headers.contains_key("authorization");
        for entry in self.filter(leak) {
            if !hosts.contains(&entry.host.as_str()) {
                self.fail(&format!("{} saw an Authorization header", entry.host));
            }
        }
    }

    /// No method that writes was used anywhere.
    #[track_caller]
    pub fn assert_read_only(&self) {
        if let Some(entry) = self.writes().first() {
            self.fail(&format!("request #{} writes", entry.seq));
        }
    }

    /// After each answer with this status from the host, it was left alone for that long.
    #[track_caller]
    pub fn assert_gap_after(&self, host: &str, status: u16, gap: Duration) {
        let entries = self.filter(|entry| entry.host == host);
        for limited in entries.iter().filter(|e| e.status == Some(status)) {
            let told = limited.done.unwrap_or(limited.at);
            let mut later = entries.iter().filter(|e| e.at > told);
            if let Some(next) = later.find(|e| e.at < told + gap) {
                self.fail(&format!("#{} came too soon after #{}", next.seq, limited.seq));
            }
        }
    }
}

/// All digests below a manifest, as far as the journal saw them pushed.
fn tree_of(root: &Entry, entries: &[Entry]) -> BTreeSet<String> {
    let mut tree = BTreeSet::new();
    let mut open = root.refers_to.clone();
    while let Some(digest) = open.pop() {
        let pushed = |e: &&Entry| e.op == Op::ManifestPut && e.digest.as_ref() == Some(&digest);
        let below = entries.iter().find(pushed).map(|e| e.refers_to.clone());
        if tree.insert(digest) {
            open.extend(below.unwrap_or_default());
        }
    }
    tree
}
