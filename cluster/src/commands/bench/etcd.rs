//! The comparison: puts and gets against etcd's v3 API, by the same load generator.

use bytes::Bytes;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tonic::transport::Channel;

use self::pb::{
    PutRequest, RangeRequest, RangeResponse, StatusRequest, kv_client::KvClient,
    maintenance_client::MaintenanceClient,
};
use super::{
    connect,
    load::{Client, Work, closed_loop, drive},
    payload::Payload,
    plan::Plan,
    report::{Report, Settings},
};
use crate::{
    args::{Keys, Load},
    exit::Failure,
    output::Output,
};

#[allow(missing_docs, clippy::doc_lazy_continuation)]
mod pb {
    tonic::include_proto!("etcdserverpb");
}

/// Fill with this many puts at a time before `etcd-range` measures.
const FILL_AT_ONCE: usize = 256;

/// `quorate bench etcd-put`.
///
/// # Errors
/// When etcd cannot be reached or keeps refusing.
pub async fn put(plan: &Plan, load: &Load, keys: &Keys, output: Output) -> Result<(), Failure> {
    let payload = Payload::new(plan.size);
    let connections = connect::channels(plan).await?;
    let run = plan.run();
    let clients = (0..load.clients as usize).map(|id| {
        let client = Putter {
            client: client(&connections, id),
            payload: payload.clone(),
            keys: keys.keys,
            rng: SmallRng::from_os_rng(),
        };
        closed_loop(run.clone(), id, client)
    });
    let measured = drive(&run, load.warm_up, clients.collect::<Vec<_>>()).await?;
    Report::new(settings("etcd put", plan, keys), &measured).write(output)
}

/// `quorate bench etcd-range`.
///
/// # Errors
/// As [`put`].
pub async fn range(
    plan: &Plan,
    load: &Load,
    keys: &Keys,
    serializable: bool,
    output: Output,
) -> Result<(), Failure> {
    let connections = connect::channels(plan).await?;
    output.note(&format!("putting {} keys first", keys.keys));
    let payload = Payload::new(plan.size);
    fill(&connections, &payload, keys).await?;
    let run = plan.run();
    let clients = (0..load.clients as usize).map(|id| {
        let client = Getter {
            client: client(&connections, id),
            serializable,
            payload: payload.clone(),
            keys: keys.keys,
            rng: SmallRng::from_os_rng(),
        };
        closed_loop(run.clone(), id, client)
    });
    let measured = drive(&run, load.warm_up, clients.collect::<Vec<_>>()).await?;
    let workload = if serializable { "etcd range (serializable)" } else { "etcd range" };
    Report::new(settings(workload, plan, keys), &measured).write(output)
}

fn settings(workload: &str, plan: &Plan, keys: &Keys) -> Settings {
    Settings { spread: keys.keys, ..plan.settings(workload, 1, 1) }
}

fn client(connections: &[Channel], id: usize) -> KvClient<Channel> {
    KvClient::new(connections[id % connections.len()].clone())
}

/// Key number `n`, of fixed length.
fn key(n: u64) -> Bytes {
    format!("bench/{n:010}").into()
}

async fn fill(connections: &[Channel], payload: &Payload, keys: &Keys) -> Result<(), Failure> {
    use futures::{StreamExt, TryStreamExt};
    let puts = (0..keys.keys).map(|n| {
        let request = PutRequest { key: key(n), value: payload.of(n) };
        let mut client = client(connections, n as usize);
        async move { client.put(request).await.map(drop) }
    });
    futures::stream::iter(puts)
        .buffer_unordered(FILL_AT_ONCE)
        .try_collect::<()>()
        .await
        .map_err(|s| connect::status_failure(&s).at("filling etcd"))
}

/// The endpoint of the member that leads, once all answer and agree.
///
/// # Errors
/// They don't.
pub async fn leader(endpoints: &[String]) -> Result<String, Failure> {
    let mut members = Vec::new();
    for endpoint in endpoints {
        let mut client = MaintenanceClient::new(connect::channel(endpoint).await?);
        let status = client.status(StatusRequest {}).await;
        let status = status.map_err(|s| connect::status_failure(&s))?.into_inner();
        members.push((status.header.map(|h| h.member_id), status.leader, endpoint));
    }
    let leader = members[0].1;
    let found = members.iter().find(|(id, ..)| leader != 0 && *id == Some(leader));
    match found {
        Some((_, _, endpoint)) if members.iter().all(|m| m.1 == leader) => Ok((*endpoint).clone()),
        _ => Err(Failure::refused("etcd has no leader yet")),
    }
}

/// One put under the key of `number`.
///
/// # Errors
/// etcd's refusal.
pub async fn put_one(channel: Channel, number: u64, value: Bytes) -> Result<(), Failure> {
    let request = PutRequest { key: key(number), value };
    let done = KvClient::new(channel).put(request).await;
    done.map(drop).map_err(|s| connect::status_failure(&s))
}

struct Putter {
    client: KvClient<Channel>,
    payload: Payload,
    keys: u64,
    rng: SmallRng,
}

impl Client for Putter {
    async fn call(&mut self) -> Result<Work, Failure> {
        let value = self.payload.next(&mut self.rng);
        let bytes = value.len() as u64;
        let request = PutRequest { key: key(self.rng.random_range(0..self.keys)), value };
        self.client.put(request).await.map_err(|s| connect::status_failure(&s))?;
        Ok(Work { records: 1, bytes })
    }
}

struct Getter {
    client: KvClient<Channel>,
    serializable: bool,
    payload: Payload,
    keys: u64,
    rng: SmallRng,
}

impl Client for Getter {
    async fn call(&mut self) -> Result<Work, Failure> {
        let n = self.rng.random_range(0..self.keys);
        let request =
            RangeRequest { key: key(n), serializable: self.serializable, ..Default::default() };
        let answer = self.client.range(request).await.map_err(|s| connect::status_failure(&s))?;
        the_value(&answer.into_inner(), &self.payload.of(n))
    }
}

/// Anything but the one value that was put (no key, a key without its value, another value) is not
/// the work that is being measured.
fn the_value(answer: &RangeResponse, put: &Bytes) -> Result<Work, Failure> {
    match &answer.kvs[..] {
        [kv] if kv.value == *put => Ok(Work { records: 1, bytes: put.len() as u64 }),
        _ => Err(Failure::refused("etcd did not answer with the value that was put")),
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    /// A wrong field number is no error to etcd, just another request: 8 would be `keys_only`.
    #[test]
    fn the_bytes_etcd_expects() {
        let range =
            RangeRequest { key: "k".into(), range_end: "l".into(), limit: 2, serializable: true };
        assert_eq!(range.encode_to_vec(), b"\x0a\x01k\x12\x01l\x18\x02\x38\x01");
        let put = PutRequest { key: "k".into(), value: "v".into() };
        assert_eq!(put.encode_to_vec(), b"\x0a\x01k\x12\x01v");
    }

    #[test]
    fn only_the_value_that_was_put_counts() {
        let put = Bytes::from_static(b"abc");
        let kv = |value: &'static [u8]| pb::KeyValue { key: "k".into(), value: value.into() };
        let answer = |kvs| RangeResponse { kvs };
        assert_eq!(the_value(&answer(vec![kv(b"abc")]), &put).unwrap().bytes, 3);
        for kvs in [vec![], vec![kv(b"")], vec![kv(b"abd")], vec![kv(b"abc"), kv(b"abc")]] {
            the_value(&answer(kvs), &put).unwrap_err();
        }
    }
}
