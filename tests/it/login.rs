//! Logging in, reading private images, logging out: with every store, at real registries, alongside docker's and podman's tools.

mod canary;
mod documents;
mod helpers;
mod kills;
mod messages;

mod registries_conf;
mod shared_files;
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

/// Pushes an image that only Alice may read. Returns its name.
fn private_image(registry: &DockerRegistry) -> String {
    let layout = Layout::of(&Image::of([Tar::new().file("etc/passwd", "root\n").finish()]));
    let reference = format!("{}/closed/one:1", registry.host());
    push(&layout, "latest", &reference, ALICE);
    reference
}
