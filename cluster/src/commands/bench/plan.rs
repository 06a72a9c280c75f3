//! A load's settings, worked out from the arguments.

use std::{sync::Arc, time::Duration};

use quorate_client::{Client, ClientBuilder};

use super::{
    load::{Extent, Run},
    report::Settings,
};
use crate::{
    args::{Global, Load},
    exit::Failure,
    output::units,
};

/// One connection carries this many clients unless told otherwise: HTTP/2 multiplexes, and one
/// connection is one core's work on the server.
const CLIENTS_PER_CONNECTION: u32 = 64;

/// What all loads need.
pub struct Plan {
    /// Whom to ask.
    pub endpoints: Vec<String>,
    /// Connections over all endpoints.
    pub connections: u32,
    /// Bytes of a value.
    pub size: usize,
    /// For one request, retries included.
    pub timeout: Duration,
    load: Load,
}

/// Largest value worth offering; systems have their own limits below it, and name them.
const MAX_SIZE: u64 = 16 << 20;

impl Plan {
    /// Works it out.
    ///
    /// # Errors
    /// Settings that make no sense together.
    pub fn new(load: &Load, global: &Global) -> Result<Self, Failure> {
        Self::against(global.endpoints.0.clone(), load, global.timeout())
    }

    /// As [`Plan::new`], for nodes that are not those of the command line.
    ///
    /// # Errors
    /// As there.
    pub fn against(
        endpoints: Vec<String>,
        load: &Load,
        timeout: Duration,
    ) -> Result<Self, Failure> {
        if load.size > MAX_SIZE {
            return Err(Failure::usage(format!("--size is at most {}", units::bytes(MAX_SIZE))));
        }
        let connections = match load.connections {
            0 => load.clients.div_ceil(CLIENTS_PER_CONNECTION).max(endpoints.len() as u32),
            n => n,
        };
        Ok(Self { endpoints, connections, size: load.size as usize, timeout, load: load.clone() })
    }

    /// SDK clients, each with connections of its own.
    ///
    /// # Errors
    /// An address that is none.
    pub fn clients(&self) -> Result<Vec<Client>, Failure> {
        self.clients_with(|client| client)
    }

    /// The same, with further settings.
    ///
    /// # Errors
    /// An address that is none.
    pub fn clients_with(
        &self,
        settings: impl Fn(ClientBuilder) -> ClientBuilder,
    ) -> Result<Vec<Client>, Failure> {
        let client = |_| {
            let builder = Client::builder().endpoints(self.endpoints.iter().cloned());
            Ok(settings(builder.request_timeout(self.timeout)).build()?)
        };
        (0..self.connections).map(client).collect()
    }

    /// A run of this extent.
    #[must_use]
    pub fn run(&self) -> Arc<Run> {
        Run::new(self.load.count.map_or(Extent::Time(self.load.duration), Extent::Count))
    }

    /// The settings as they are reported.
    #[must_use]
    pub fn settings(&self, workload: &str, batch: u32, in_flight: u32) -> Settings {
        Settings {
            workload: workload.to_owned(),
            endpoints: self.endpoints.clone(),
            clients: self.load.clients,
            connections: self.connections,
            in_flight,
            batch,
            size_bytes: self.load.size,
            spread: 1,
            warm_up_s: self.load.warm_up.as_secs_f64(),
        }
    }
}
