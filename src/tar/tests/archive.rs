//! Archives written by hand, block by block.
