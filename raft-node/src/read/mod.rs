//! From a read request to a consistent view.
