//! From a request's `Consistency` to what is asked of the group: levels by name, the log's own
//! level, the operator's floor, position tokens.

use std::time::Duration;

use quorate_proto::v1::{self as wire, Consistency};
use quorate_state_machine::types::{GroupId, LogName, ReadLevel};

use crate::{
    api::{context::Context, errors::ApiError, position::Position},
    clock::BootInstant,
    read::levels::{Ask, AtLeast, Level, OnUnmet},
};

/// Position tokens in one read: enough for a session over every group of a large cluster.
const MAX_TOKENS: usize = 256;

/// What a request says.
pub(super) struct Asked {
    /// `None`: the log's own.
    level: Option<Level>,
    on_unmet: OnUnmet,
    at_least: Vec<AtLeast>,
    elsewhere: u32,
    arrived: BootInstant,
}

/// A level on the wire. `None`: none is named.
fn level(level: i32, bound: Option<u64>) -> Result<Option<Level>, ApiError> {
    match (wire::Level::try_from(level), bound) {
        (Ok(wire::Level::Bounded), Some(ms)) => Ok(Some(Level::Bounded(Duration::from_millis(ms)))),
        (Ok(wire::Level::Bounded), None) => {
            Err(ApiError::invalid("LEVEL_BOUNDED needs max_staleness_ms"))
        }
        (Ok(_), Some(_)) => Err(ApiError::invalid("max_staleness_ms goes with LEVEL_BOUNDED only")),
        (Ok(wire::Level::Unspecified), None) => Ok(None),
        (Ok(wire::Level::Linearizable), None) => Ok(Some(Level::Linearizable)),
        (Ok(wire::Level::Eventual), None) => Ok(Some(Level::Eventual)),
        (Err(_), _) => Err(ApiError::invalid(format!("unknown level {level}"))),
    }
}

/// A log's level, as a caller sets it.
pub(in crate::api) fn read_level(
    asked: Option<wire::ReadLevel>,
) -> Result<Option<ReadLevel>, ApiError> {
    let Some(asked) = asked else { return Ok(None) };
    match level(asked.level, asked.max_staleness_ms)? {
        Some(level) => Ok(Some(stored(level))),
        None => Err(ApiError::invalid(
            "a read level without a level; leave read_level out for the cluster's default",
        )),
    }
}

fn stored(level: Level) -> ReadLevel {
    match level {
        Level::Linearizable => ReadLevel::Linearizable,
        // It came as milliseconds.
        Level::Bounded(max) => ReadLevel::Bounded { max_staleness_ms: max.as_millis() as u64 },
        Level::Eventual => ReadLevel::Eventual,
    }
}

/// A log's level on the wire.
pub(in crate::api) fn wire_level(level: ReadLevel) -> wire::ReadLevel {
    let (level, max_staleness_ms) = match level {
        ReadLevel::Linearizable => (wire::Level::Linearizable, None),
        ReadLevel::Bounded { max_staleness_ms } => (wire::Level::Bounded, Some(max_staleness_ms)),
        ReadLevel::Eventual => (wire::Level::Eventual, None),
    };
    wire::ReadLevel { level: level.into(), max_staleness_ms }
}

/// The level that an answer satisfies, on the wire.
pub(super) fn given(level: Level) -> wire::ReadLevel {
    wire_level(stored(level))
}

impl Asked {
    /// Reads a request. Tokens of other groups are counted: nothing of theirs shows here.
    pub(super) fn of(
        context: &Context,
        group: GroupId,
        consistency: Option<Consistency>,
    ) -> Result<Self, ApiError> {
        let consistency = consistency.unwrap_or_default();
        let on_unmet = match wire::OnUnmet::try_from(consistency.on_unmet) {
            Ok(wire::OnUnmet::Unspecified | wire::OnUnmet::Wait) => OnUnmet::Wait,
            Ok(wire::OnUnmet::Redirect) => OnUnmet::Redirect,
            // What can't be had here is forwarded by whoever gets this refusal.
            Ok(wire::OnUnmet::Fail | wire::OnUnmet::Forward) => OnUnmet::Fail,
            Ok(wire::OnUnmet::ServeAndMark) => OnUnmet::ServeAndMark,
            Err(_) => {
                let why = format!("unknown on_unmet {}", consistency.on_unmet);
                return Err(ApiError::invalid(why));
            }
        };
        let (at_least, elsewhere) = tokens(context, group, &consistency)?;
        Ok(Self {
            level: level(consistency.level, consistency.max_staleness_ms)?,
            on_unmet,
            at_least,
            elsewhere,
            arrived: context.sides(group).reader.freshener().now(),
        })
    }

    /// Is it the log's own level that counts?
    pub(super) fn needs_default(&self) -> bool {
        self.level.is_none()
    }

    /// What is asked of the group. `default` is the log's own level.
    pub(super) fn ask(&self, context: &Context, default: Option<ReadLevel>) -> Ask {
        let level = self.level.or(default.map(Level::from)).unwrap_or(Level::Linearizable);
        Ask {
            level: level.and(context.floor),
            at_least: self.at_least.clone(),
            elsewhere: self.elsewhere,
            on_unmet: self.on_unmet,
            arrived: self.arrived,
            floor: context.floor,
        }
    }
}

/// Those of this group, and how many are of others.
fn tokens(
    context: &Context,
    group: GroupId,
    consistency: &Consistency,
) -> Result<(Vec<AtLeast>, u32), ApiError> {
    if consistency.at_least.len() > MAX_TOKENS {
        return Err(ApiError::invalid(format!(
            "{} position tokens in one read; at most {MAX_TOKENS} are looked at",
            consistency.at_least.len()
        )));
    }
    let (mut at_least, mut elsewhere) = (Vec::new(), 0);
    for token in &consistency.at_least {
        let position = Position::decode(token, context.cluster)
            .map_err(|e| ApiError::bad_position(&e.to_string()))?;
        if position.group == group {
            at_least.push(AtLeast { at: position.at, incarnation: position.incarnation });
        } else if position.group.0 as usize >= context.groups.len() {
            return Err(ApiError::bad_position("it names a group that this cluster has not"));
        } else {
            elsewhere += 1;
        }
    }
    Ok((at_least, elsewhere))
}

/// The log's own level, as far as this replica knows. `None` as well where it does not know the
/// log: the strictest level then finds out.
pub(super) fn default_of(
    context: &Context,
    group: GroupId,
    name: &LogName,
) -> Result<Option<ReadLevel>, ApiError> {
    let group = context.sides(group).reader.group();
    if let Some(glimpse) = group.recent().glimpse(name) {
        return Ok(glimpse.log.read_level);
    }
    Ok(group.view()?.log(name)?.and_then(|log| log.read_level))
}
