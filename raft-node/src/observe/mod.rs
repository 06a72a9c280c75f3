//! Metrics and the HTTP endpoints.
