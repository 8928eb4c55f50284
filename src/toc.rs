//! What is known of a layer after reading it: a table of its entries.

pub(crate) mod entries;
