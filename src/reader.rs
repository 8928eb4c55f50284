//! The reader: obtains the TOC of a layer from wherever there is one, or by a pass over the layer.
//!
//! ```text
//! question ─▶ driver ─┬▶ discover: same blob ▸ cache ▸ embedded ▸ SOCI ▸ referrers ▸ shared store     (no layer byte is read)
//!                     └▶ read::pass ─▶ store: TOC in memory ─▶ cache
//!                          ▲
//!            prefetch ─────┘  requests, or passes, of the layers to come
//! ```

pub(crate) mod discover;
pub(crate) mod driver;
pub(crate) mod prefetch;
pub(crate) mod store;
