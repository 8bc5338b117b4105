//! What only one may own: a path, a port of the host, a name in the engine. Judged over all apps of a device together.

use std::collections::BTreeMap;
use std::net::IpAddr;

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::document::{Place, Placed};
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::node::Node;
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Compose, Protocol, print};

/// Who claims what.
#[derive(Default)]
pub(super) struct Claims {
    paths: Vec<(AppName, Placed<AbsPath>)>,
    ports: Vec<PortClaim>,
    names: Vec<NameClaim>,
}

struct PortClaim {
    owner: String,
    place: Place,
    ip: Option<IpAddr>,
    port: u16,
    protocol: Protocol,
}

struct NameClaim {
    kind: &'static str,
    name: String,
    owner: String,
    place: Place,
}

impl Claims {
    /// A file's path.
    pub(super) fn path(&mut self, app: &AppName, path: &Placed<AbsPath>) {
        self.paths.push((app.clone(), path.clone()));
    }

    /// The ports and container names of an app's services. `node` is the table of services.
    pub(super) fn services(&mut self, app: &AppName, node: &Node, read: &Compose) {
        for (name, service) in &read.services {
            let here = node.get(name.as_str()).unwrap_or(node);
            let ports = here.get("ports").unwrap_or(here);
            for port in &service.ports {
                if let Some(published) = port.published {
                    self.ports.push(PortClaim {
                        owner: format!("{app}/{name}"),
                        place: Place::of(ports),
                        ip: port.host_ip,
                        port: published,
                        protocol: port.protocol,
                    });
                }
            }
            self.names.push(NameClaim {
                kind: "container",
                name: service.container_name.clone().unwrap_or_else(|| {
                    let (of, number) = match &service.replica {
                        None => (name, 1),
                        Some(replica) => (&replica.of, replica.number),
                    };
                    format!("{app}-{of}-{number}")
                }),
                owner: format!("{app}/{name}"),
                place: Place::of(here.get("container_name").unwrap_or(here)),
            });
        }
    }

    /// The networks and volumes that an app makes. External ones belong to somebody else, and may be shared.
    pub(super) fn engine_names(&mut self, app: &AppName, place: &Place, read: &Compose) {
        let mut claim = |kind, key: &ServiceName, name| {
            self.names.push(NameClaim {
                kind,
                name,
                owner: format!("{app}/{key}"),
                place: place.clone(),
            });
        };
        for (key, network) in read
            .networks
            .iter()
            .filter(|(_, network)| !network.external)
        {
            claim("network", key, print::network_name(app, key, network));
        }
        for (key, volume) in read.volumes.iter().filter(|(_, volume)| !volume.external) {
            claim("volume", key, print::volume_name(app, key, volume));
        }
    }

    /// Reports everything that two claim.
    pub(super) fn judge(&self, out: &mut Diagnostics) {
        self.judge_paths(out);
        self.judge_ports(out);
        let mut owners: BTreeMap<(&str, &str), &NameClaim> = BTreeMap::new();
        for claim in &self.names {
            match owners.get(&(claim.kind, claim.name.as_str())) {
                Some(first) => claim.place.error_with_help(
                    out,
                    format!(
                        "{} and {} would both be the {} `{}`",
                        first.owner, claim.owner, claim.kind, claim.name
                    ),
                    "rename one of them",
                ),
                None => {
                    owners.insert((claim.kind, &claim.name), claim);
                }
            }
        }
    }

    fn judge_paths(&self, out: &mut Diagnostics) {
        let mut owners: BTreeMap<&str, &(AppName, Placed<AbsPath>)> = BTreeMap::new();
        for claim in &self.paths {
            let (_, path) = claim;
            match owners.get(path.value.as_str()) {
                Some((first_app, first)) => path.place.error_with_help(
                    out,
                    format!(
                        "`{}` belongs to the app `{first_app}` already ({})",
                        path.value, first.place
                    ),
                    "one path has one owner: remove it here or there",
                ),
                None => {
                    owners.insert(path.value.as_str(), claim);
                }
            }
        }
        for (app, path) in &self.paths {
            let text = path.value.as_str();
            for (index, _) in text.match_indices('/').skip(1) {
                if let Some((above_app, above)) = owners.get(&text[..index]) {
                    path.place.error(
                        out,
                        format!(
                            "`{text}` of the app `{app}` is below `{}`, which is a file of the app `{above_app}` ({})",
                            above.value, above.place
                        ),
                    );
                }
            }
        }
    }

    fn judge_ports(&self, out: &mut Diagnostics) {
        for (index, claim) in self.ports.iter().enumerate() {
            let first = self.ports[..index].iter().find(|first| {
                first.port == claim.port
                    && first.protocol == claim.protocol
                    && overlap(first.ip, claim.ip)
            });
            if let Some(first) = first {
                claim.place.error_with_help(
                    out,
                    format!(
                        "{} publishes the host's port {}/{}, which {} publishes already ({})",
                        claim.owner,
                        claim.port,
                        claim.protocol.as_str(),
                        first.owner,
                        first.place
                    ),
                    "one port of the host has one owner: publish another",
                );
            }
        }
    }
}

/// Whether two addresses to listen on get into each other's way. No address, and the unspecified ones, mean all.
fn overlap(left: Option<IpAddr>, right: Option<IpAddr>) -> bool {
    match (left, right) {
        (None, _) | (_, None) => true,
        (Some(left), Some(right)) if left.is_ipv4() == right.is_ipv4() => {
            left == right || left.is_unspecified() || right.is_unspecified()
        }
        // `[::]` takes IPv4 too on most hosts, but engines bind each family on its own.
        (Some(_), Some(_)) => false,
    }
}
