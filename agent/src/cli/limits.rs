//! What the owner's limits protect on this device: where the agent and the engine are, by every name they have.

use std::path::{Path, PathBuf};

use evenkeel_schema::agent_config::AgentConfig;

use crate::resolve::guard::{Limits, Places};

/// The limits of a configuration.
pub(super) fn limits(config: &AgentConfig, config_file: &Path) -> Limits {
    let (source, trust) = (super::credentials::source(config), &config.trust);
    let secrets = [source.token_file, source.ssh_key, source.client_key];
    let own = [&config.state_dir, &trust.allowed_signers]
        .into_iter()
        .chain(trust.revoked.iter())
        .cloned()
        .chain(secrets.into_iter().flatten())
        .chain(std::path::absolute(config_file))
        .chain(std::env::current_exe());
    let own = with_real(own);
    let socket = config.engine.socket.strip_prefix("unix://");
    let engine = with_real(socket.map(PathBuf::from));
    Limits {
        guard: config.guard.clone(),
        declared: Places {
            own: below(&own, &config.root),
            engine: below(&engine, &config.root),
        },
        host: Places {
            own: below(&own, Path::new("/")),
            engine: below(&engine, Path::new("/")),
        },
        units: own_units(&std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default()),
    }
}

/// Each path, and where it leads.
fn with_real(paths: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for path in paths {
        all.extend(std::fs::canonicalize(&path));
        all.push(path);
    }
    all.sort();
    all.dedup();
    all
}

/// Paths as a declared one would name them: below the root. What lies outside of it, no declared path can name.
fn below(paths: &[PathBuf], root: &Path) -> Vec<String> {
    let roots = with_real([root.to_path_buf()]);
    let mut named: Vec<String> = paths
        .iter()
        .flat_map(|path| roots.iter().filter_map(|root| path.strip_prefix(root).ok()))
        .map(|below| format!("/{}", below.display()))
        .collect();
    named.sort();
    named.dedup();
    named
}

/// The systemd unit that this process runs in, by its control group.
fn own_units(cgroups: &str) -> Vec<String> {
    let mut units: Vec<String> = cgroups
        .lines()
        .filter_map(|line| line.splitn(3, ':').nth(2))
        .filter_map(|path| path.rsplit('/').find(|part| part.ends_with(".service")))
        .map(str::to_owned)
        .collect();
    units.sort();
    units.dedup();
    units
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop at a surprise")]
mod tests {
    use super::*;

    #[test]
    fn the_agents_own_is_known_by_its_links_and_below_the_root_by_what_is_declared() {
        let dir = tempfile::tempdir().unwrap();
        let top = std::fs::canonicalize(dir.path()).unwrap();
        std::fs::create_dir_all(top.join("root/data/state")).unwrap();
        std::os::unix::fs::symlink("data/state", top.join("root/link")).unwrap();
        let text = format!(
            "state_dir = '{0}/root/link'\nroot = '{0}/root'\n[source]\nurl = 'file:///x'\nbranch = 'main'\n\
             token_file = '/keys/token'\n[trust]\nallowed_signers = '/keys/signers'\nrevoked = '/keys/revoked'\n\
             [engine]\nsocket = 'unix://{0}/root/engine.sock'\n",
            top.display()
        );
        let config = evenkeel_schema::agent_config::parse("agent.toml", text.as_bytes()).unwrap();
        let limits = limits(&config, Path::new("/keys/agent.toml"));
        assert_eq!(limits.declared.own, ["/data/state", "/link"]);
        assert_eq!(limits.declared.engine, ["/engine.sock"]);
        for own in [
            "/keys/agent.toml",
            "/keys/token",
            "/keys/signers",
            "/keys/revoked",
        ] {
            assert!(limits.host.own.iter().any(|known| known == own), "{own}");
        }
        let state = top.join("root/data/state").display().to_string();
        assert!(limits.host.own.contains(&state));
    }

    #[test]
    fn the_unit_is_told_by_the_control_group() {
        for (cgroups, unit) in [
            (
                "0::/system.slice/fleet-agent.service\n",
                &["fleet-agent.service"][..],
            ),
            (
                "2:cpu:/\n1:name=systemd:/system.slice/evenkeel.service/inner\n",
                &["evenkeel.service"],
            ),
            ("0::/user.slice/session-1.scope\n", &[]),
            ("0::/\n", &[]),
            ("", &[]),
        ] {
            assert_eq!(own_units(cgroups), unit, "{cgroups}");
        }
    }
}
