//! Images to test with: archives entry by entry, layouts blob by blob, and the tools that build and
//! unpack them independently.

pub(crate) mod debian;
pub(crate) mod layer;
pub(crate) mod layout;
pub(crate) mod oracle;
pub(crate) mod tar;
pub(crate) mod transport;

pub(crate) use self::{
    layer::{Compression, Layer, noise},
    layout::{Image, Layout},
    tar::{Member, Tar},
};
