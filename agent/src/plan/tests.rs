#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod adopted;
mod containers;
mod files;
mod left;
mod order;
mod properties;

use std::collections::BTreeMap;

use evenkeel_schema::app::{OnChange, OnRemove};
use evenkeel_schema::path::AbsPath;
use evenkeel_schema::service::{Mount, Restart, Service};

use super::model::{Device, regular};
use super::*;
use crate::domain::desired::DesiredApp;
use crate::domain::observed::{FileKind, RunState};
use crate::domain::revision::ContentId;

fn path(text: &str) -> AbsPath {
    text.parse().unwrap()
}

fn content(text: &str) -> ContentId {
    ContentId::of(text.as_bytes())
}

fn file(text: &str) -> DesiredFile {
    DesiredFile {
        content: content(text),
        size: text.len() as u64,
        mode: 0o644,
        owner: "root".to_owned(),
        group: "root".to_owned(),
        on_change: Vec::new(),
        on_remove: OnRemove::Delete,
        secret: false,
    }
}

fn service(restart: Restart) -> Service {
    let mut service = Service::new(
        format!("example.com/x@sha256:{}", "a".repeat(64))
            .parse()
            .unwrap(),
    );
    service.restart = restart;
    service
}

fn bind(source: &str) -> Mount {
    Mount::Bind {
        source: path(source),
        target: "/in".to_owned(),
        read_only: true,
        bind: Default::default(),
    }
}

fn id(app: &str, service: &str) -> ServiceId {
    ServiceId {
        app: app.parse().unwrap(),
        service: service.parse().unwrap(),
    }
}

fn state(apps: Vec<(&str, DesiredApp)>) -> DesiredState {
    DesiredState {
        device: "gw".parse().unwrap(),
        fleet: "acme".to_owned(),
        apps: apps
            .into_iter()
            .map(|(name, app)| (name.parse().unwrap(), app))
            .collect(),
    }
}

/// One app `mqtt` with these services.
fn services(services: Vec<(&str, Service)>) -> DesiredState {
    let app = DesiredApp {
        services: services
            .into_iter()
            .map(|(name, service)| (name.parse().unwrap(), service))
            .collect(),
        ..DesiredApp::default()
    };
    state(vec![("mqtt", app)])
}

/// One app `mqtt` with these files.
fn files(files: Vec<(&str, DesiredFile)>) -> DesiredState {
    let files = files
        .into_iter()
        .map(|(at, file)| (path(at), file))
        .collect();
    state(vec![(
        "mqtt",
        DesiredApp {
            files,
            ..DesiredApp::default()
        },
    )])
}

fn text(plan: &Plan) -> Vec<String> {
    plan.blocked
        .iter()
        .map(ToString::to_string)
        .chain(plan.steps.iter().map(ToString::to_string))
        .collect()
}

fn empty() -> Device {
    Device::new(BTreeMap::new())
}
