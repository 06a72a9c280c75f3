//! quorate-cluster
