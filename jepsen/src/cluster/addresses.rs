//! Where nodes listen, and where they are called.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Result;
use quorate_jepsen_core::ids::Node;

use super::{config::Between, ports::PortBlock};
use crate::{
    hosts::Fleet,
    network::{
        Lab,
        lab::{CLIENT_PORT, HTTP_PORT, PEER_PORT},
    },
};

#[derive(Debug)]
pub(super) enum Addresses {
    /// Ports of loopback; `proxied` if nodes are called through proxies.
    Loopback { ports: PortBlock, proxied: bool },
    /// Hosts of their own: what they listen on is what is called.
    Lab(Arc<Lab>),
    /// The same; only the runner's own questions go another way.
    Fleet(Arc<Fleet>),
}

impl Addresses {
    pub(super) fn take(nodes: usize, network: &Between) -> Result<Self> {
        let loopback = |proxied| Ok(Self::Loopback { ports: PortBlock::take(nodes)?, proxied });
        match network {
            Between::Nothing => loopback(false),
            Between::Proxies => loopback(true),
            Between::Lab(lab) => Ok(Self::Lab(lab.clone())),
            Between::Fleet(fleet) => Ok(Self::Fleet(fleet.clone())),
        }
    }

    pub(super) fn client(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.client(node),
            Self::Lab(lab) => lab.of_node(node, CLIENT_PORT),
            Self::Fleet(fleet) => fleet.of_node(node, 0),
        }
    }

    pub(super) fn peer(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.peer(node),
            Self::Lab(lab) => lab.of_node(node, PEER_PORT),
            Self::Fleet(fleet) => fleet.of_node(node, 1),
        }
    }

    pub(super) fn http(&self, node: Node) -> SocketAddr {
        match self {
            Self::Loopback { ports, .. } => ports.http(node),
            Self::Lab(lab) => lab.of_node(node, HTTP_PORT),
            Self::Fleet(fleet) => fleet.of_node(node, 2),
        }
    }

    /// Where the runner's own questions go, which no fault is to meet.
    pub(super) fn observed(&self, node: Node) -> SocketAddr {
        match self {
            Self::Fleet(fleet) => fleet.observed(node),
            _ => self.client(node),
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
