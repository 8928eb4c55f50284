//! Logging in, being known from then on, logging out: on every store, at real registries, beside the programs of others.

mod canary;
mod documents;
mod helpers;
mod kills;
mod messages;
mod others;
mod registries_conf;
mod stores;
mod terminal;
mod tokens;

use crate::support::{
    docker_registry::DockerRegistry,
    images::{
        Image, Layout, Tar,
        transport::{Trust, push},
    },
};

const USER: &str = "alice";
const PASSWORD: &str = "wonder:land";
const ALICE: Trust<'static> = Trust::Credentials(USER, PASSWORD);

/// The name of an image that only Alice may see.
fn private_image(registry: &DockerRegistry) -> String {
    let layout = Layout::of(&Image::of([Tar::new().file("etc/passwd", "root\n").finish()]));
    let reference = format!("{}/closed/one:1", registry.host());
    push(&layout, "latest", &reference, ALICE);
    reference
}
