//! `scale`: a service of no container is none, one of several becomes several services.
//!
//! The further ones are called `NAME-2` and so on, and are known in the app's networks by the service's own name as well. Who
//! depends on the service depends on all of them.

use evenkeel_schema::diagnostic::Diagnostics;
use evenkeel_schema::name::ServiceName;
use evenkeel_schema::node::Node;
use evenkeel_schema::service::{Compose, Replica};

/// Makes of each service as many as it has containers. `node` is the table of services.
pub(super) fn apply(node: &Node, read: &mut Compose, out: &mut Diagnostics) {
    let scaled: Vec<(ServiceName, u32)> = read
        .services
        .iter()
        .filter_map(|(name, service)| Some((name.clone(), service.scale?)))
        .collect();
    for (name, number) in scaled {
        let here = node.get(name.as_str()).unwrap_or(node);
        if number == 0 {
            none(&name, read, here, out);
        } else {
            several(&name, number, read, here, out);
        }
    }
}

fn none(name: &ServiceName, read: &mut Compose, here: &Node, out: &mut Diagnostics) {
    read.services.remove(name);
    for (other, service) in &mut read.services {
        let Some(dependency) = service.depends_on.remove(name) else {
            continue;
        };
        if dependency.required {
            here.error_with_help(
                out,
                format!("`{name}` has no container, and `{other}` depends on it"),
                "run one, or say `required: false` there",
            );
        }
    }
}

fn several(
    name: &ServiceName,
    number: u32,
    read: &mut Compose,
    here: &Node,
    out: &mut Diagnostics,
) {
    let Some(first) = read.services.get(name).cloned() else {
        return;
    };
    for number in 2..=number {
        let next: ServiceName = match format!("{name}-{number}").parse() {
            Ok(next) => next,
            Err(problem) => return here.error(out, problem.to_string()),
        };
        if read.services.contains_key(&next) {
            return here.error_with_help(
                out,
                format!("there is a service `{next}`, and `{name}` has a container of that name"),
                "rename one of them",
            );
        }
        let mut copy = first.clone();
        copy.replica = Some(Replica {
            of: name.clone(),
            number,
        });
        for service in read.services.values_mut() {
            if let Some(dependency) = service.depends_on.get(name).cloned() {
                service.depends_on.insert(next.clone(), dependency);
            }
        }
        read.services.insert(next, copy);
    }
}
