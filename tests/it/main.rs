//! Tests that go through the public interface, real servers and independent tools.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "a test may panic")]

mod archives;
mod budget;
mod cached_tables;
mod caching;
mod carving;
mod cli_cache;
mod cli_demo;
mod cli_flags;
mod cli_interruption;
mod cli_output;
mod cli_readme;
mod cli_requests;
mod cli_terminal;
mod cli_toc;
mod collecting;
mod debian;
mod encodings;
mod equality;
mod killing;
mod let_go;
mod login;
mod real_auth;
mod real_canary;
mod real_cost;
mod real_debian;
mod real_faults;
mod real_images;
mod real_session;
mod real_tls;
mod referred_tables;
mod rootfs_links;
mod rootfs_names;
mod rootfs_types;
mod rootfs_whiteouts;
mod seen_tags;
#[cfg(feature = "object-store")]
mod shared_tables;
mod side_by_side;
mod stacks;
mod support;
mod support_works;
mod tables;
mod tar_forms;
mod wan_link;
mod whole_layers;
