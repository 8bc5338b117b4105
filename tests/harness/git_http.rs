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
use crate::answered::{self, Answered};
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
    /// How many connections it keeps, and how many programs run behind it at a time.
    pub room: Room,
    /// The control group that it and all it starts belong to: what they cost together is read there.
    pub group: Option<PathBuf>,
}

/// What a server is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Connections.
    pub connections: u32,
    /// `git http-backend`s at a time; with none it serves the files of [`GitHttp::files`] alone.
    pub backends: u32,
}

impl Default for HttpOptions {
    fn default() -> Self {
        Self {
            plain: false,
            access: Access::Open,
            listen: Ipv4Addr::LOCALHOST.into(),
            room: Room {
                connections: 256,
                backends: 4,
            },
            group: None,
        }
    }
}

/// A git server on loopback.
#[derive(Debug)]
pub struct GitHttp {
    dir: TempDir,
    root: PathBuf,
    port: Port,
    /// A second port that leads to the same, while it is open.
    side: Port,
    options: HttpOptions,
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
        let side = Port::free();
        make_certificates(dir.path());
        for sub in ["body", "proxy", "fastcgi", "uwsgi", "scgi", "files"] {
            std::fs::create_dir(dir.path().join(sub)).expect("make a directory of ours");
        }
        let mut server = Self {
            dir,
            root: root.to_owned(),
            port,
            side,
            options,
            nginx: None,
            fcgiwrap: None,
        };
        server.configure(&[server.port.number()]);
        server.resume();
        server
    }

    fn configure(&self, ports: &[u16]) {
        let config = nginx_config(self.dir.path(), &self.root, ports, &self.options);
        std::fs::write(self.dir.path().join("nginx.conf"), config).expect("write our own file");
    }

    /// Opens the side door: a second port to the same repositories. Connections that are kept open begin anew.
    pub fn open_side(&self) {
        self.configure(&[self.port.number(), self.side.number()]);
        self.reload();
        self.wait_for_side(Door::Open);
    }

    /// Shuts the side door: who comes to it is refused, and who is connected there is cut off.
    pub fn shut_side(&self) {
        self.configure(&[self.port.number()]);
        self.reload();
        self.wait_for_side(Door::Shut);
    }

    fn wait_for_side(&self, door: Door) {
        let place = (self.options.listen, self.side.number());
        crate::wait_for("nginx to take its new configuration", || {
            let open = std::net::TcpStream::connect(place).is_ok();
            (open == (door == Door::Open)).then_some(())
        });
    }

    /// A program that belongs to the server's control group, where it has one.
    fn program(&self, path: &str) -> Command {
        let Some(group) = &self.options.group else {
            return Command::new(path);
        };
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", "echo 0 >\"$0/cgroup.procs\" && exec \"$@\""])
            .arg(group)
            .arg(path);
        command
    }

    /// Starts it again after [`GitHttp::stop`], on the same port with the same certificates.
    ///
    /// # Panics
    /// Where nginx or fcgiwrap do not start.
    pub fn resume(&mut self) {
        let log = self.dir.path().join("servers.log");
        let socket = self.dir.path().join("fcgi.sock");
        let _ = std::fs::remove_file(&socket);
        let backends = self.options.room.backends;
        self.fcgiwrap = (backends > 0).then(|| {
            Server::start_group(
                self.program("/usr/sbin/fcgiwrap")
                    .args(["-c", &backends.to_string(), "-s"])
                    .arg(format!("unix:{}", socket.display())),
                &log,
            )
        });
        self.nginx = Some(Server::start(
            self.program("/usr/sbin/nginx")
                .arg("-e")
                .arg(self.dir.path().join("error.log"))
                .arg("-p")
                .arg(self.dir.path())
                .arg("-c")
                .arg(self.dir.path().join("nginx.conf"))
                .args(["-g", "daemon off;"]),
            &log,
        ));
        let place = (self.options.listen, self.port.number());
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
                let is_ready = backends == 0 || socket.exists();
                (std::net::TcpStream::connect(place).is_ok() && is_ready).then_some(())
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
        self.end_backends();
    }

    /// What fcgiwrap forks ahead of requests outlives it, too.
    fn end_backends(&mut self) {
        if let Some(mut fcgiwrap) = self.fcgiwrap.take() {
            fcgiwrap.kill_group();
        }
    }

    /// The URL of `/fleet.git` on it.
    pub fn url(&self) -> String {
        self.url_of("fleet.git")
    }

    /// The URL of another repository on it.
    pub fn url_of(&self, repository: &str) -> String {
        let port = self.port.number();
        format!("{}://localhost:{port}/{repository}", self.scheme())
    }

    /// The URL of a folder of [`GitHttp::files`], as a source of a published tree has it.
    pub fn tree_url(&self, folder: &str) -> String {
        format!("static+{}", self.url_of(&format!("files/{folder}/")))
    }

    /// The same by the side door.
    pub fn side_tree_url(&self, folder: &str) -> String {
        format!("static+{}", self.side_url_of(&format!("files/{folder}/")))
    }

    /// The URL of a repository on it by the side door.
    pub fn side_url_of(&self, repository: &str) -> String {
        let port = self.side.number();
        format!("{}://localhost:{port}/{repository}", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        if self.options.plain { "http" } else { "https" }
    }

    /// The URL of `/fleet.git` with a user's name in it.
    pub fn url_with_user(&self, user: &str) -> String {
        let (scheme, port) = (self.scheme(), self.port.number());
        format!("{scheme}://{user}@localhost:{port}/fleet.git")
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

    /// What was answered since `from`, a place in the log, and the place of now.
    pub fn answered(&self, from: u64) -> (Vec<Answered>, u64) {
        answered::since(&self.dir.path().join("answered.log"), from)
    }
}

/// Whether a door is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Open,
    Shut,
}

impl Drop for GitHttp {
    fn drop(&mut self) {
        if self.nginx.as_mut().is_some_and(|n| n.ended().is_none()) {
            self.stop();
        }
        self.end_backends();
    }
}

fn nginx_config(dir: &Path, root: &Path, ports: &[u16], options: &HttpOptions) -> String {
    let dir = dir.display();
    let mut server = String::new();
    let how = if options.plain { "" } else { " ssl http2" };
    for port in ports {
        let listen = std::net::SocketAddr::from((options.listen, *port));
        let _ = writeln!(server, "listen {listen}{how};");
    }
    if !options.plain {
        let _ = writeln!(
            server,
            "ssl_certificate {dir}/server.pem;\nssl_certificate_key {dir}/server.key;"
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
events {{ worker_connections {connections}; }}
http {{
    log_format one '$request_method $request_uri $status $body_bytes_sent $http_git_protocol';
    log_format two '{format}';
    access_log {dir}/access.log one;
    access_log {dir}/answered.log two;
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
        connections = options.room.connections,
        format = answered::FORMAT,
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
