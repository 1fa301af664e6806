//! nginx as a child, in front of a registry: TLS, client certificates, limits and headers as people set them.

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::Failure;
use super::process::{free_port, short_lived_directory};
use super::tls::Identity;

pub struct Setup<'a> {
    /// The registry behind it, by plain HTTP.
    pub to: SocketAddr,
    /// Without one it speaks plain HTTP.
    pub tls: Option<&'a Identity>,
    /// Clients have to show a certificate of this authority, in PEM.
    pub client_ca: Option<&'a str>,
    /// Directives for all servers, such as the zones of limits.
    pub http: &'a str,
    /// Directives for the server.
    pub server: &'a str,
    /// Directives for the one location.
    pub location: &'a str,
}

/// Passes requests on as they are, and does not say that TLS ends here.
pub const AS_THEY_ARE: &str =
    "proxy_set_header Host $http_host; proxy_request_buffering off; proxy_http_version 1.1;";

/// One process with its own directory; killed when dropped.
pub struct Nginx {
    child: Child,
    addr: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Nginx {
    /// Starts it and waits until it answers.
    pub fn start(setup: &Setup<'_>) -> Result<Self, Failure> {
        let directory = short_lived_directory()?;
        let addr = free_port()?;
        let place = directory.path().display();
        let clients = match setup.client_ca {
            Some(pem) => {
                std::fs::write(directory.path().join("clients.crt"), pem)?;
                format!("ssl_client_certificate {place}/clients.crt; ssl_verify_client on;")
            }
            None => String::new(),
        };
        let listen = match setup.tls {
            Some(identity) => {
                std::fs::write(directory.path().join("tls.crt"), &identity.certificate_pem)?;
                std::fs::write(directory.path().join("tls.key"), &identity.key_pem)?;
                format!("{addr} ssl; ssl_certificate {place}/tls.crt; ssl_certificate_key {place}/tls.key")
            }
            None => addr.to_string(),
        };
        let (to, http, server, location) = (setup.to, setup.http, setup.server, setup.location);
        let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary: String =
            kinds.iter().map(|kind| format!("{kind}_temp_path {place}/{kind}; ")).collect();
        let config = format!(
            "daemon off; master_process off; pid {place}/pid; error_log stderr crit; events {{}}\n\
             http {{ access_log off; {temporary} {http}\n\
             server {{ listen {listen};\n\
             {clients} {server}\n\
             location / {{ proxy_pass http://{to}; {location} }} }} }}\n"
        );
        let file = directory.path().join("nginx.conf");
        std::fs::write(&file, config)?;
        let paths = std::env::var("PATH").unwrap_or_default();
        let child = Command::new("nginx")
            .env("PATH", format!("{paths}:/usr/sbin"))
            .arg("-e")
            .arg("stderr")
            .arg("-p")
            .arg(directory.path())
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()?;
        let mut nginx = Self { child, addr, _directory: directory };
        nginx.wait_until_up()?;
        Ok(nginx)
    }

    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn host(&self) -> String {
        self.addr.to_string()
    }

    fn wait_until_up(&mut self) -> Result<(), Failure> {
        let patience = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(self.addr).is_err() {
            if self.child.try_wait()?.is_some() || Instant::now() > patience {
                return Err("nginx does not start".into());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
