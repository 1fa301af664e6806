//! Real programs as children: Debian's docker-registry, skopeo. nginx has a file of its own.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Failure;
use super::tls::Identity;

/// Whether a program is there. Where tests must not be skipped (CI), a missing one is a failure.
pub fn require(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&paths).collect();
    places.push("/usr/sbin".into());
    if places.iter().any(|place| place.join(program).is_file()) {
        return true;
    }
    let package = match program {
        "htpasswd" => "apache2-utils",
        other => other,
    };
    let hint = format!("{program} is not installed (apt-get install {package})");
    let in_ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!in_ci, "{hint}");
    eprintln!("SKIPPED: {hint}");
    false
}

/// The raw manifest as skopeo sees it, without TLS verification.
pub fn skopeo_inspect_raw(reference: &str) -> Result<Vec<u8>, Failure> {
    let image = format!("docker://{reference}");
    skopeo(&["inspect", "--raw", "--tls-verify=false", &image])
}

/// Runs skopeo and returns its output.
pub fn skopeo(arguments: &[&str]) -> Result<Vec<u8>, Failure> {
    let output = Command::new("skopeo").args(arguments).output()?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("skopeo {}: {text}", arguments.join(" ")).into())
}

/// How docker-registry is set up.
#[derive(Default)]
pub struct Setup<'a> {
    pub tls: Option<&'a Identity>,
    /// With `tls`: clients have to show a certificate of this authority, in PEM.
    pub client_ca: Option<&'a str>,
    pub htpasswd: Option<(&'a str, &'a str)>,
    pub token: Option<TokenSetup<'a>>,
    pub read_only: bool,
    /// With it, upload sessions survive a restart.
    pub secret: Option<&'a str>,
    pub relative_urls: bool,
    /// Files may not grow beyond so many blocks of 512 bytes, which looks like a full disk.
    pub file_limit: Option<u32>,
    /// On SIGTERM, ends what is under way first.
    pub drain: bool,
    /// More lines for the configuration file.
    pub more: &'a str,
    /// Another program that takes the same arguments and configuration.
    pub program: Option<&'a Path>,
    /// Where it keeps its data, instead of a directory that goes away with it.
    pub data: Option<&'a Path>,
}

pub struct TokenSetup<'a> {
    pub realm: &'a str,
    pub service: &'a str,
    pub issuer: &'a str,
    /// Certificates, in PEM, whose keys may sign tokens.
    pub certificates: &'a str,
}

/// One line of the access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// When the line was read here, which is soon after the last byte of the answer was handed out.
    pub at: Instant,
    pub method: String,
    /// With the query.
    pub path: String,
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
}

/// A docker-registry child with its own directory; killed when dropped.
pub struct DockerRegistry {
    child: Option<Child>,
    addr: SocketAddr,
    tls: bool,
    directory: tempfile::TempDir,
    program: PathBuf,
    file_limit: Option<u32>,
    log: Log,
}

/// Lines, each with the time when it was read.
type Log = Arc<Mutex<Vec<(Instant, String)>>>;

impl DockerRegistry {
    /// Starts it and waits until it answers.
    pub fn start(setup: &Setup<'_>) -> Result<Self, Failure> {
        let directory = short_lived_directory()?;
        let mut registry = Self {
            child: None,
            addr: free_port()?,
            tls: setup.tls.is_some(),
            directory,
            program: setup.program.unwrap_or(Path::new("docker-registry")).to_owned(),
            file_limit: setup.file_limit,
            log: Arc::default(),
        };
        let config = configuration(setup, registry.addr, registry.directory.path())?;
        std::fs::write(registry.config_file(), config)?;
        registry.run()?;
        Ok(registry)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}", self.addr)
    }

    /// Its process, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// Where it stores a blob, unless its data is elsewhere.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let (algorithm, hex) = digest.split_once(':').expect("a digest");
        let root = self.directory.path().join("data/docker/registry/v2/blobs");
        root.join(algorithm).join(&hex[..2]).join(hex).join("data")
    }

    /// Where it keeps what belongs to repositories: links to manifests and layers.
    pub fn repositories(&self) -> PathBuf {
        self.directory.path().join("data/docker/registry/v2/repositories")
    }

    fn config_file(&self) -> PathBuf {
        self.directory.path().join("config.yml")
    }

    fn run(&mut self) -> Result<(), Failure> {
        let limit = match self.file_limit {
            Some(blocks) => format!("trap '' XFSZ; ulimit -f {blocks}; "),
            None => String::new(),
        };
        let mut child = Command::new("sh")
            .arg("-c")
            .arg(format!("{limit}exec \"$0\" serve \"$1\""))
            .arg(&self.program)
            .arg(self.config_file())
            // It is a Go program of a few MiB, and else spends a third of its time on collecting them.
            .env("GOGC", "1000")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        collect(child.stdout.take(), &self.log);
        collect(child.stderr.take(), &self.log);
        self.child = Some(child);
        self.wait_until_up()
    }

    fn wait_until_up(&mut self) -> Result<(), Failure> {
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.addr).is_err() {
            let child = self.child.as_mut().ok_or("not started")?;
            if child.try_wait()?.is_some() || Instant::now() > patience {
                return Err(format!("docker-registry: {}", self.log().join("\n")).into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// `kill -9`
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and does not wait.
    pub fn terminate(&self) {
        if let Some(child) = &self.child {
            let _ = Command::new("kill").arg(child.id().to_string()).status();
        }
    }

    /// Starts again on the same port with the same data, killing it first if need be.
    pub fn restart(&mut self) -> Result<(), Failure> {
        self.kill();
        self.run()
    }

    /// The same with another certificate.
    pub fn restart_as(&mut self, identity: &Identity) -> Result<(), Failure> {
        std::fs::write(self.directory.path().join("tls.crt"), &identity.certificate_pem)?;
        std::fs::write(self.directory.path().join("tls.key"), &identity.key_pem)?;
        self.restart()
    }

    /// The same without the limit on file sizes.
    pub fn restart_with_room(&mut self) -> Result<(), Failure> {
        self.file_limit = None;
        self.restart()
    }

    /// All lines it wrote.
    pub fn log(&self) -> Vec<String> {
        let log = self.log.lock().expect("nothing panics here");
        log.iter().map(|(_, line)| line.clone()).collect()
    }

    /// Requests so far. The log trails the answers a little.
    pub fn accesses(&self) -> Vec<Access> {
        let log = self.log.lock().expect("nothing panics here");
        log.iter().filter_map(|(at, line)| parse_access(*at, line)).collect()
    }

    pub fn clear_log(&self) {
        self.log.lock().expect("nothing panics here").clear();
    }

    /// Requests by method whose path contains the text.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let fits = |access: &&Access| access.method == method && access.path.contains(path);
        self.accesses().iter().filter(fits).count()
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        self.kill();
    }
}

/// In memory where that can be had: the thousands of files of a registry cost a disk half a minute to delete.
pub(super) fn short_lived_directory() -> std::io::Result<tempfile::TempDir> {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir())
}

/// Below the ports that systems give out by themselves, and how many.
const PORTS: (u32, u32) = (20_000, 12_000);

/// A port that nobody listens on, and that nobody else here will be given before a child does.
pub fn free_port() -> Result<SocketAddr, Failure> {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let (first, count) = PORTS;
    // Other test processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..count {
        let nth = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % count;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(first + nth)?));
        if TcpListener::bind(addr).is_ok() {
            return Ok(addr);
        }
    }
    Err("there is no free port".into())
}

/// Ends by itself when the child closes its end.
fn collect(stream: Option<impl Read + Send + 'static>, log: &Log) {
    let log = log.clone();
    let Some(stream) = stream else { return };
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            log.lock().expect("nothing panics here").push((Instant::now(), line));
        }
    });
}

/// `127.0.0.1 - - [date] "GET /v2/ HTTP/1.1" 200 2 "" "agent"`
fn parse_access(at: Instant, line: &str) -> Option<Access> {
    let (_, rest) = line.split_once("] \"")?;
    let (request, rest) = rest.split_once("\" ")?;
    let mut words = request.split(' ');
    let mut numbers = rest.split(' ');
    Some(Access {
        at,
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        status: numbers.next()?.parse().ok()?,
        bytes: numbers.next()?.parse().ok()?,
    })
}

fn configuration(setup: &Setup<'_>, addr: SocketAddr, directory: &Path) -> Result<String, Failure> {
    let place = directory.display();
    let data = setup.data.map_or_else(|| directory.join("data"), Path::to_owned);
    let data = data.display();
    let read_only = setup.read_only;
    let mut text = format!(
        "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: {data}\n  \
         delete:\n    enabled: true\n  maintenance:\n    uploadpurging:\n      enabled: false\n    \
         readonly:\n      enabled: {read_only}\n"
    );
    write!(text, "http:\n  addr: {addr}\n  relativeurls: {}\n", setup.relative_urls)?;
    if setup.drain {
        writeln!(text, "  draintimeout: 10s")?;
    }
    if let Some(secret) = setup.secret {
        writeln!(text, "  secret: {secret}")?;
    }
    if let Some(identity) = setup.tls {
        std::fs::write(directory.join("tls.crt"), &identity.certificate_pem)?;
        std::fs::write(directory.join("tls.key"), &identity.key_pem)?;
        write!(text, "  tls:\n    certificate: {place}/tls.crt\n    key: {place}/tls.key\n")?;
    }
    if let Some(pem) = setup.client_ca {
        std::fs::write(directory.join("clients.crt"), pem)?;
        write!(text, "    clientcas:\n      - {place}/clients.crt\n")?;
    }
    text += &auth_section(setup, directory)?;
    text += setup.more;
    Ok(text)
}

fn auth_section(setup: &Setup<'_>, directory: &Path) -> Result<String, Failure> {
    let place = directory.display();
    if let Some((user, password)) = setup.htpasswd {
        // bcrypt is the only form that docker-registry reads.
        let output = Command::new("htpasswd").args(["-Bbn", user, password]).output()?;
        std::fs::write(directory.join("htpasswd"), output.stdout)?;
        let realm = "realm: test";
        return Ok(format!("auth:\n  htpasswd:\n    {realm}\n    path: {place}/htpasswd\n"));
    }
    let Some(token) = &setup.token else {
        return Ok(String::new());
    };
    std::fs::write(directory.join("token.crt"), token.certificates)?;
    Ok(format!(
        "auth:\n  token:\n    realm: {}\n    service: {}\n    issuer: {}\n    rootcertbundle: {place}/token.crt\n",
        token.realm, token.service, token.issuer
    ))
}
