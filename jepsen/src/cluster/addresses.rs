//! Where nodes listen, and where they are called.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use quorate_jepsen_core::ids::Node;

use super::{config::Between, ports::PortBlock};
use crate::network::{
    Lab,
    lab::{CLIENT_PORT, HTTP_PORT, PEER_PORT},
};

#[derive(Debug)]
pub(super) enum Addresses {
    /// Ports of loopback; `proxied` if nodes are called through proxies.
    Loopback { ports: PortBlock, proxied: bool },
    /// Hosts of their own: what they listen on is what is called.
    Lab(Arc<Lab>),
}

impl Addresses {
    pub(super) fn take(nodes: usize, network: &Between) -> Result<Self> {
        let loopback = |proxied| Ok(Self::Loopback { ports: PortBlock::take(nodes)?, proxied });
        match network {
            Between::Nothing => loopback(false),
            Between::Proxies => loopback(true),
            Between::Lab(lab) => Ok(Self::Lab(lab.clone())),
        }
    }

    pub(super) fn client(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.client(node),
            Self::Lab(lab) => lab.of_node(node, CLIENT_PORT),
        }
    }

    pub(super) fn peer(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.peer(node),
            Self::Lab(lab) => lab.of_node(node, PEER_PORT),
        }
    }

    pub(super) fn http(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.http(node),
            Self::Lab(lab) => lab.of_node(node, HTTP_PORT),
        }
    }

    pub(super) fn called_by_clients(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, proxied: true } => ports.client_proxy(node),
            _ => self.client(node),
        }
    }

    pub(super) fn called_by_nodes(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, proxied: true } => ports.peer_proxy(node),
            _ => self.peer(node),
        }
    }
}
