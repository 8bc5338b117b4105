//! What comes before what: apps that an app requires, and the services that run only around a change.

use std::collections::{BTreeMap, BTreeSet};

use evenkeel_schema::app::{Hook, HookEntry, OnChange};
use evenkeel_schema::decode;
use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::document::{Place, Placed};
use evenkeel_schema::name::{AppName, ServiceName};
use evenkeel_schema::service::Restart;

use crate::domain::desired::DesiredApp;

/// Reports apps that require what this device does not run, or themselves.
pub(super) fn judge(
    apps: &BTreeMap<AppName, Vec<Place>>,
    requires: &BTreeMap<AppName, Vec<Placed<AppName>>>,
    out: &mut Diagnostics,
) {
    for (app, required) in requires {
        for one in required {
            if !apps.contains_key(&one.value) {
                let names = apps.keys().map(AppName::as_str);
                let near = decode::nearest(one.value.as_str(), names)
                    .map_or_else(String::new, |near| format!("; or did you mean `{near}`?"));
                one.place.error_with_help(
                    out,
                    format!(
                        "`{app}` requires `{}`, which is not an app of this device",
                        one.value
                    ),
                    format!(
                        "every device that runs `{app}` runs `{}`, too: name both in the same groups{near}",
                        one.value
                    ),
                );
            } else if reaches(requires, &one.value, app) {
                one.place.error_with_help(
                    out,
                    format!("`{app}` requires itself, by way of `requires`"),
                    "one of two apps comes first: take it out of the other's `requires`",
                );
            }
        }
    }
}

fn reaches(
    requires: &BTreeMap<AppName, Vec<Placed<AppName>>>,
    from: &AppName,
    to: &AppName,
) -> bool {
    let mut seen = BTreeSet::new();
    let mut left = vec![from];
    while let Some(next) = left.pop() {
        if next == to {
            return true;
        }
        if seen.insert(next) {
            let further = requires.get(next).into_iter().flatten();
            left.extend(further.map(|one| &one.value));
        }
    }
    false
}

/// Takes over the hooks of an app whose services and files are known. Reports what cannot be one.
pub(super) fn hooks(desired: &mut DesiredApp, entries: &[HookEntry], out: &mut Diagnostics) {
    for entry in entries {
        let name = &entry.service.value;
        let place = &entry.service.place;
        let Some(service) = desired.services.get(name) else {
            let known = desired.services.keys().map(ServiceName::as_str);
            place.error_with_help(
                out,
                format!("this app has no service `{name}`"),
                format!("its services: {}", decode::listed(known)),
            );
            continue;
        };
        if service.restart != Restart::No {
            place.error_with_help(
                out,
                format!(
                    "the service `{name}` is restarted (`{}`), and a hook runs once",
                    service.restart
                ),
                "leave its `restart` out",
            );
        }
        let dependant = desired
            .services
            .iter()
            .find(|(_, other)| other.depends_on.contains_key(name));
        if let Some((dependant, _)) = dependant {
            place.error_with_help(
                out,
                format!("the service `{dependant}` depends on `{name}`, which as a hook is not there to depend on"),
                "make it a service that ends (`depends_on` with `service_completed_successfully`), or a hook",
            );
        }
        let is_changed = desired
            .files
            .values()
            .flat_map(|file| &file.on_change)
            .any(|change| match change {
                OnChange::RestartService(named)
                | OnChange::SignalService { service: named, .. } => named == name,
                OnChange::RestartUnit(_) | OnChange::ReloadUnit(_) => false,
            });
        if is_changed {
            place.error(
                out,
                format!("a file's `on_change` names `{name}`, which as a hook does not run then"),
            );
        }
        desired.hooks.insert(
            entry.moment,
            Hook {
                service: name.clone(),
                deadline: entry.deadline,
            },
        );
    }
}
