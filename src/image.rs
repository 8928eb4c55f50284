//! An image: its layers, and the root file system that they make together.

pub(crate) mod rootfs;
