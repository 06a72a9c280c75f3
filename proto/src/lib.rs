//! Generated code of the wire protocol, and nothing else.
//!
//! [`v1`] is what clients speak, [`admin`] what operators speak, [`raft`] what nodes speak among
//! themselves. The `.proto` files in `proto/proto/` are the documentation.
#![allow(missing_docs, clippy::doc_lazy_continuation, clippy::large_enum_variant)]

/// `quorate.v1`: the client API.
pub mod v1 {
    tonic::include_proto!("quorate.v1");
}

/// `quorate.admin.v1`: the operators' API.
pub mod admin {
    /// First version.
    pub mod v1 {
        tonic::include_proto!("quorate.admin.v1");
    }
}

/// `quorate.raft.v1`: node to node.
pub mod raft {
    /// First version.
    pub mod v1 {
        tonic::include_proto!("quorate.raft.v1");
    }
}

/// The serialized `FileDescriptorSet` of all of the above, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptor.bin"));
