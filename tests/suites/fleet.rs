//! What the suites share: a fleet with one device.

use evenkeel_tests::{Cleanup, Device, Engine, FleetRepo};
use serde_json::Value;

/// A repository, a device that tracks its `main` over `file://`, and where asked for an engine.
pub(crate) struct World {
    pub(crate) device: Device,
    pub(crate) repo: FleetRepo,
    pub(crate) engine: Option<Engine>,
    pub(crate) image: String,
    _cleanup: Option<Cleanup>,
}

impl World {
    /// A device without an engine: for fleets of files.
    pub(crate) fn of_files(id: &str) -> Self {
        Self::new(id, None)
    }

    /// A device with Docker.
    pub(crate) fn with_docker(id: &str) -> Self {
        Self::new(id, Some(Engine::docker()))
    }

    /// A device with Podman.
    pub(crate) fn with_podman(id: &str) -> Self {
        Self::new(id, Some(Engine::podman()))
    }

    /// A device with an engine of the test's own.
    pub(crate) fn with_engine(id: &str, engine: Engine) -> Self {
        Self::new(id, Some(engine))
    }

    fn new(id: &str, engine: Option<Engine>) -> Self {
        let repo = FleetRepo::new();
        repo.write("fleet.toml", "format = 1\nname = \"test\"\n");
        let mut device = Device::new(id, &repo.file_url(), &repo.allowed_signers());
        let mut image = String::new();
        let mut cleanup = None;
        if let Some(engine) = &engine {
            device = device.with_engine(engine);
            image = engine.busybox_image(id, &[]);
            cleanup = Some(engine.cleanup(id));
        }
        Self {
            device,
            repo,
            engine,
            image,
            _cleanup: cleanup,
        }
    }

    /// An app's name in the repository. An engine is shared by the devices of all tests, and names in it come from the
    /// app: so there each device has apps of its own.
    pub(crate) fn app_name(&self, app: &str) -> String {
        match self.engine {
            Some(_) => format!("{}-{app}", self.device.settings.id),
            None => app.to_owned(),
        }
    }

    /// Has every device run these apps.
    pub(crate) fn apps(&self, apps: &[&str]) -> &Self {
        let apps: Vec<String> = apps.iter().map(|app| self.app_name(app)).collect();
        self.repo.write(
            "groups/all.toml",
            format!("match = \"all\"\napps = {apps:?}\n"),
        );
        self
    }

    /// Has the device know this line of allowed_signers, too.
    pub(crate) fn trust_line(&self, line: &str) {
        let file = &self.device.settings.allowed_signers;
        let all = std::fs::read_to_string(file).unwrap() + line;
        std::fs::write(file, all).unwrap();
    }

    /// Writes an app's app.toml.
    pub(crate) fn app(&self, name: &str, text: impl AsRef<str>) -> &Self {
        self.repo.write(
            &format!("apps/{}/app.toml", self.app_name(name)),
            text.as_ref(),
        );
        self
    }

    /// One app, `one`, that puts this text into /etc/one.conf.
    pub(crate) fn one_file(&self, content: &str) -> &Self {
        self.apps(&["one"]).app(
            "one",
            format!("[[files]]\npath = \"/etc/one.conf\"\ncontent = {content:?}\n{QUICK}"),
        )
    }

    /// Releases what is written, and lets the device take it.
    #[track_caller]
    pub(crate) fn release_and_sync(&self, message: &str) -> String {
        let id = self.repo.release(message);
        self.device.sync().expect_code(0);
        id
    }

    pub(crate) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("this world has an engine")
    }

    /// The one container of this device that is named after `service`.
    #[track_caller]
    pub(crate) fn container(&self, service: &str) -> Value {
        self.engine().container(&self.device.settings.id, service)
    }

    #[track_caller]
    pub(crate) fn container_id(&self, service: &str) -> String {
        self.container(service)["Id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn containers(&self) -> usize {
        self.engine().containers(&self.device.settings.id).len()
    }

    /// A service that sleeps, with these more lines.
    pub(crate) fn sleeper(&self, name: &str, more: &str) -> String {
        format!(
            "[services.{name}]\nimage = \"{}\"\ncommand = [\"/bin/sleep\", \"86400\"]\nstop_grace_period = \"1s\"\n{more}\n",
            self.image
        )
    }

    /// A service that is healthy where its variable `STATE` is `good`, with a gate that decides within seconds.
    pub(crate) fn judged(&self, name: &str, state: &str) -> String {
        self.sleeper(
            name,
            &format!(
                "environment = {{ STATE = \"{state}\" }}\n\
                 healthcheck = {{ test = [\"CMD\", \"/bin/sh\", \"-c\", \"[ $STATE = good ]\"], interval = \"1s\", timeout = \"2s\", retries = 2 }}\n"
            ),
        ) + GATE
    }

    /// `plan --json` has nothing to do.
    #[track_caller]
    pub(crate) fn assert_converged(&self) {
        let plan = self.device.plan_json();
        assert_eq!(
            plan["steps"].as_array().map(Vec::len),
            Some(0),
            "plan after apply is not empty: {plan:#}"
        );
        assert_eq!(
            plan["blocked"].as_array().map(Vec::len),
            Some(0),
            "something is blocked: {plan:#}"
        );
    }

    /// What lies under the device's root.
    pub(crate) fn root_listing(&self) -> Vec<String> {
        let mut all: Vec<String> = evenkeel_tests::proc::listing(&self.device.root())
            .into_iter()
            .map(|(path, (length, _))| {
                let content = std::fs::read(&path).unwrap_or_default();
                format!("{path} {length} {}", String::from_utf8_lossy(&content))
            })
            .collect();
        all.sort();
        all
    }
}

/// A gate for what needs no time to get well.
pub(crate) const QUICK: &str = "\n[gate]\ndeadline = \"10s\"\nsoak = \"0s\"\n";

/// A gate that decides within seconds.
pub(crate) const GATE: &str = "\n[gate]\ndeadline = \"20s\"\nsoak = \"2s\"\n";
