//! A git server over HTTP or HTTPS: nginx, fcgiwrap and `git http-backend`, with a CA of its own.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tempfile::TempDir;

use crate::PATIENCE;
use crate::ports::Port;
use crate::process::{Server, run};

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Access {
    /// Everybody.
    #[default]
    Open,
    /// Who brings `Authorization: Bearer <this>`.
    Bearer(String),
    /// Who logs in with this user and password.
    Basic(String, String),
    /// Who shows a client certificate of the server's CA. HTTPS only.
    ClientCertificate,
}

/// How the server is set up.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// Plain HTTP instead of HTTPS.
    pub plain: bool,
    /// Who is let in.
    pub access: Access,
    /// Where it listens.
    pub listen: IpAddr,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            plain: false,
            access: Access::Open,
            listen: Ipv4Addr::LOCALHOST.into(),
        }
    }
}

/// A git server on loopback.
#[derive(Debug)]
pub struct GitHttp {
    dir: TempDir,
    port: Port,
    listen: IpAddr,
    plain: bool,
    nginx: Option<Server>,
    fcgiwrap: Option<Server>,
}

impl GitHttp {
    /// Serves `root` (its repositories, by their directory names) over HTTPS to everybody.
    pub fn https(root: &Path) -> Self {
        Self::start(root, HttpOptions::default())
    }

    /// Serves `root` over plain HTTP to everybody.
    pub fn http(root: &Path) -> Self {
        Self::start(
            root,
            HttpOptions {
                plain: true,
                ..HttpOptions::default()
            },
        )
    }

    /// Serves `root`.
    ///
    /// # Panics
    /// Where nginx or fcgiwrap do not start.
    pub fn start(root: &Path, options: HttpOptions) -> Self {
        let dir = crate::short_tempdir("web");
        let port = Port::free();
        make_certificates(dir.path());
        for sub in ["body", "proxy", "fastcgi", "uwsgi", "scgi", "files"] {
            std::fs::create_dir(dir.path().join(sub)).expect("make a directory of ours");
        }
        let config = nginx_config(dir.path(), root, port.number(), &options);
        std::fs::write(dir.path().join("nginx.conf"), config).expect("write our own file");
        let mut server = Self {
            dir,
            port,
            listen: options.listen,
            plain: options.plain,
            nginx: None,
            fcgiwrap: None,
        };
        server.resume();
        server
    }

    /// Starts it again after [`GitHttp::stop`], on the same port with the same certificates.
    ///
    /// # Panics
    /// Where nginx or fcgiwrap do not start.
    pub fn resume(&mut self) {
        let log = self.dir.path().join("servers.log");
        let socket = self.dir.path().join("fcgi.sock");
        let _ = std::fs::remove_file(&socket);
        self.fcgiwrap = Some(Server::start(
            Command::new("/usr/sbin/fcgiwrap")
                .args(["-c", "4", "-s"])
                .arg(format!("unix:{}", socket.display())),
            &log,
        ));
        self.nginx = Some(Server::start(
            Command::new("/usr/sbin/nginx")
                .arg("-e")
                .arg(self.dir.path().join("error.log"))
                .arg("-p")
                .arg(self.dir.path())
                .arg("-c")
                .arg(self.dir.path().join("nginx.conf"))
                .args(["-g", "daemon off;"]),
            &log,
        ));
        let port = self.port.number();
        crate::wait_for(
            "nginx to listen (see ./tests/run.sh for what it needs)",
            || {
                if let Some(status) = self.nginx.as_mut().and_then(Server::ended) {
                    panic!(
                        "nginx ended at once ({status}): {}{}",
                        std::fs::read_to_string(&log).unwrap_or_default(),
                        std::fs::read_to_string(self.dir.path().join("error.log"))
                            .unwrap_or_default()
                    );
                }
                (std::net::TcpStream::connect((self.listen, port)).is_ok() && socket.exists())
                    .then_some(())
            },
        );
    }

    /// Ends the connections that are kept open, and goes on answering.
    pub fn reload(&self) {
        if let Some(nginx) = &self.nginx {
            nginx.signal("HUP");
        }
    }

    /// Stops answering: connections are refused until [`GitHttp::resume`].
    pub fn stop(&mut self) {
        if let Some(mut nginx) = self.nginx.take() {
            // Asked first, since its workers outlive a killed master.
            nginx.signal("TERM");
            nginx.wait(PATIENCE);
        }
        self.fcgiwrap = None;
    }

    /// The URL of `/fleet.git` on it.
    pub fn url(&self) -> String {
        self.url_of("fleet.git")
    }

    /// The URL of another repository on it.
    pub fn url_of(&self, repository: &str) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!("{scheme}://localhost:{}/{repository}", self.port.number())
    }

    /// The URL of `/fleet.git` with a user's name in it.
    pub fn url_with_user(&self, user: &str) -> String {
        let scheme = if self.plain { "http" } else { "https" };
        format!(
            "{scheme}://{user}@localhost:{}/fleet.git",
            self.port.number()
        )
    }

    /// A folder whose files it serves, too, below `/files/`, and below `/slow/` at 400 kB/s.
    pub fn files(&self) -> PathBuf {
        self.dir.path().join("files")
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The CA that signed the server's certificate, PEM.
    pub fn ca_file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A client's certificate from that CA, PEM.
    pub fn client_cert(&self) -> PathBuf {
        self.dir.path().join("client.pem")
    }

    /// The client's key, PEM.
    pub fn client_key(&self) -> PathBuf {
        self.dir.path().join("client.key")
    }

    /// The access log so far, one request a line: `METHOD PATH?QUERY STATUS BYTES PROTOCOL`.
    pub fn requests(&self) -> Vec<String> {
        std::fs::read_to_string(self.dir.path().join("access.log"))
            .unwrap_or_default()
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// How many polls have asked for its branches so far.
    pub fn polls(&self) -> usize {
        // The last request of a poll in protocol 2; some agents ask info/refs first, some do not.
        self.requests()
            .iter()
            .filter(|line| line.starts_with("POST") && line.contains("git-upload-pack"))
            .count()
    }
}

impl Drop for GitHttp {
    fn drop(&mut self) {
        if self.nginx.as_mut().is_some_and(|n| n.ended().is_none()) {
            self.stop();
        }
    }
}

fn nginx_config(dir: &Path, root: &Path, port: u16, options: &HttpOptions) -> String {
    let dir = dir.display();
    let listen = std::net::SocketAddr::from((options.listen, port));
    let mut server = String::new();
    if options.plain {
        let _ = writeln!(server, "listen {listen};");
    } else {
        let _ = writeln!(
            server,
            "listen {listen} ssl http2;\nssl_certificate {dir}/server.pem;\nssl_certificate_key {dir}/server.key;"
        );
    }
    let mut guard = String::new();
    match &options.access {
        Access::Open => {}
        Access::Bearer(token) => {
            let _ = writeln!(
                guard,
                "if ($http_authorization != \"Bearer {token}\") {{ return 401; }}"
            );
        }
        Access::Basic(user, password) => {
            std::fs::write(
                format!("{dir}/htpasswd"),
                format!("{user}:{{PLAIN}}{password}\n"),
            )
            .expect("write our own file");
            let _ = writeln!(
                guard,
                "auth_basic \"git\";\nauth_basic_user_file {dir}/htpasswd;"
            );
        }
        Access::ClientCertificate => {
            let _ = writeln!(
                server,
                "ssl_client_certificate {dir}/ca.pem;\nssl_verify_client on;"
            );
        }
    }
    let backend = git_exec_path().join("git-http-backend");
    let root = root.display();
    // nginx drops root for its workers unless told otherwise, and then they cannot read a root's temporary directory.
    let user = if is_root() { "user root;" } else { "" };
    format!(
        r#"{user}
worker_processes 1;
pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {{ worker_connections 256; }}
http {{
    log_format one '$request_method $request_uri $status $body_bytes_sent $http_git_protocol';
    access_log {dir}/access.log one;
    client_body_temp_path {dir}/body;
    proxy_temp_path {dir}/proxy;
    fastcgi_temp_path {dir}/fastcgi;
    uwsgi_temp_path {dir}/uwsgi;
    scgi_temp_path {dir}/scgi;
    client_max_body_size 0;
    server {{
        {server}
        server_name localhost;
        location /files/ {{
            {guard}
            root {dir};
        }}
        location /slow/ {{
            {guard}
            alias {dir}/files/;
            limit_rate 400k;
        }}
        location / {{
            {guard}
            fastcgi_pass unix:{dir}/fcgi.sock;
            fastcgi_param SCRIPT_FILENAME {backend};
            fastcgi_param GIT_PROJECT_ROOT {root};
            fastcgi_param GIT_HTTP_EXPORT_ALL "";
            fastcgi_param GIT_CONFIG_GLOBAL /dev/null;
            fastcgi_param PATH_INFO $uri;
            fastcgi_param QUERY_STRING $query_string;
            fastcgi_param REQUEST_METHOD $request_method;
            fastcgi_param CONTENT_TYPE $content_type;
            fastcgi_param CONTENT_LENGTH $content_length;
            fastcgi_param HTTP_CONTENT_ENCODING $http_content_encoding;
            fastcgi_param GIT_PROTOCOL $http_git_protocol;
            fastcgi_param REMOTE_ADDR $remote_addr;
        }}
    }}
}}
"#,
        backend = backend.display(),
    )
}

/// Where this machine's git keeps its programs.
pub(crate) fn git_exec_path() -> PathBuf {
    let said = run(Command::new("git").arg("--exec-path"), PATIENCE).expect_code(0);
    PathBuf::from(said.stdout.trim())
}

pub(crate) fn is_root() -> bool {
    let said = run(Command::new("id").arg("-u"), PATIENCE).expect_code(0);
    said.stdout.trim() == "0"
}

/// `ca.pem`, and from that CA `server.pem`/`.key` for loopback and `client.pem`/`.key`.
fn make_certificates(dir: &Path) {
    let ca_key = KeyPair::generate().expect("make a key");
    let mut params = CertificateParams::new(Vec::new()).expect("no names are good names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "evenkeel test CA");
    let ca = params.self_signed(&ca_key).expect("sign the CA");
    std::fs::write(dir.join("ca.pem"), ca.pem()).expect("write our own file");
    let issuer = Issuer::new(params, ca_key);
    let leaf = |stem: &str, names: Vec<String>, usage: ExtendedKeyUsagePurpose| {
        let key = KeyPair::generate().expect("make a key");
        let mut params = CertificateParams::new(names).expect("good names");
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, stem);
        params.extended_key_usages = vec![usage];
        // Whoever is not within this has a wrong clock.
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2090, 1, 1);
        let cert = params.signed_by(&key, &issuer).expect("sign a certificate");
        std::fs::write(dir.join(format!("{stem}.pem")), cert.pem()).expect("write our own file");
        std::fs::write(dir.join(format!("{stem}.key")), key.serialize_pem())
            .expect("write our own file");
    };
    leaf(
        "server",
        ["localhost", "127.0.0.1", "::1"]
            .map(str::to_owned)
            .to_vec(),
        ExtendedKeyUsagePurpose::ServerAuth,
    );
    leaf(
        "client",
        vec!["gateway".to_owned()],
        ExtendedKeyUsagePurpose::ClientAuth,
    );
}
