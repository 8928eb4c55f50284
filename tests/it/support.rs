//! What the tests build on: real servers, builders of images, independent tools.
#![allow(dead_code, reason = "not every test uses every part")]

pub(crate) mod certificate;
pub(crate) mod cutter;
pub(crate) mod docker_registry;
pub(crate) mod event;
pub(crate) mod gate;
pub(crate) mod home;
pub(crate) mod http;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod killer;
pub(crate) mod noise;
pub(crate) mod program;
pub(crate) mod recorder;
pub(crate) mod registry;
pub(crate) mod subject;
pub(crate) mod token_server;
pub(crate) mod tools;
pub(crate) mod ztoc;
