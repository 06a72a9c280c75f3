//! The life of a log: create, describe, list, trim, delete, fence.

use std::borrow::Cow;

use quorate_proto::v1 as wire;

pub use quorate_proto::v1::{LogInfo, ReadHeader};

use crate::{
    call::Call,
    client::Client,
    consistency::{Consistency, Level},
    errors::{Error, Leader, Result, Stamp},
    position::Position,
    retry::Safety,
};

/// The answer to [`Client::create_log`].
#[derive(Clone, Debug)]
pub struct CreatedLog {
    /// The log.
    pub log: LogInfo,
    /// False when it existed before.
    pub created: bool,
    /// Where this stands in the group's history.
    pub position: Position,
}

/// The answer to [`Client::fence`].
#[derive(Clone, Debug)]
pub struct Fenced {
    /// The new writer epoch; appends of a lower one, and without one, are refused from now on.
    pub writer_epoch: u64,
    /// The log's incarnation.
    pub incarnation: u64,
    /// The log's next offset at that moment: no append of a lower epoch is at or behind it.
    pub next_offset: u64,
    /// Where this stands in the group's history.
    pub position: Position,
    /// Term and log index of the decision.
    pub stamp: Option<Stamp>,
}

/// The answer to [`Client::trim_log`].
#[derive(Clone, Debug)]
pub struct Trimmed {
    /// First readable offset from now on.
    pub start_offset: u64,
    /// Where this stands in the group's history.
    pub position: Position,
}

/// One page of [`Client::list_logs`].
#[derive(Clone, Debug)]
pub struct LogsPage {
    /// Sorted by name.
    pub logs: Vec<LogInfo>,
    /// Token of the next page; `None` at the end.
    pub next_page: Option<String>,
    /// What the answer says about itself, one a group.
    pub headers: Vec<ReadHeader>,
}

/// A part that every answer has.
pub(crate) fn present<T>(part: Option<T>, what: &str) -> Result<T> {
    // Not retryable: the node speaks another language. The effect is unknown by default.
    part.ok_or_else(|| {
        let message = format!("the answer has no {what}; is this a Quorate node of this version?");
        Error::new(crate::ErrorKind::Internal, false, crate::Effect::Unknown, message)
    })
}

impl Client {
    /// Creates a log. With `if_absent` an existing one is as good, and the call is repeated when
    /// an answer is lost; without, it is not.
    ///
    /// # Errors
    /// [`LogExists`](crate::ErrorKind::LogExists) without `if_absent`;
    /// [`Invalid`](crate::ErrorKind::Invalid) names.
    pub async fn create_log(&self, name: &str, if_absent: bool) -> Result<CreatedLog> {
        self.create_log_with(name, if_absent, Level::OfLog).await
    }

    /// The same, with the level of the log's readers who ask for none of their own
    /// ([`Level::OfLog`]: none). A log that exists already keeps its own.
    ///
    /// # Errors
    /// As [`Self::create_log`].
    pub async fn create_log_with(
        &self,
        name: &str,
        if_absent: bool,
        read_level: Level,
    ) -> Result<CreatedLog> {
        let safety = if if_absent { Safety::Repeatable } else { Safety::Once };
        let read_level = read_level.to_log();
        let request = wire::CreateLogRequest { name: name.to_owned(), if_absent, read_level };
        let (answer, endpoint) = self
            .call(Call::write("CreateLog", name, safety), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.create_log(&to, request, timeout).await }
            })
            .await?;
        self.confirm(name, &endpoint, answer.stamp.as_ref());
        Ok(CreatedLog {
            log: present(answer.log, "log")?,
            created: answer.created,
            position: Position::from_bytes(answer.position),
        })
    }

    /// Changes the level of a log's readers who ask for none of their own; [`Level::OfLog`] takes
    /// it away. Takes effect on each replica as it applies the change. Repeated when an answer is
    /// lost.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound),
    /// [`LogRecreated`](crate::ErrorKind::LogRecreated).
    pub async fn set_read_level(
        &self,
        name: &str,
        read_level: Level,
        incarnation: Option<u64>,
    ) -> Result<LogInfo> {
        let read_level = read_level.to_log();
        let request = wire::SetReadLevelRequest { name: name.to_owned(), read_level, incarnation };
        let (answer, endpoint) = self
            .call(
                Call::write("SetReadLevel", name, Safety::Repeatable),
                |transport, to, timeout| {
                    let request = request.clone();
                    async move { transport.set_read_level(&to, request, timeout).await }
                },
            )
            .await?;
        self.confirm(name, &endpoint, answer.stamp.as_ref());
        present(answer.log, "log")
    }

    /// What a log is like now, and the header of that read.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound), or the consistency can't be had in time.
    pub async fn describe_log(
        &self,
        name: &str,
        consistency: &Consistency,
    ) -> Result<(LogInfo, ReadHeader)> {
        let request = wire::DescribeLogRequest {
            name: name.to_owned(),
            consistency: Some(consistency.to_wire()),
        };
        let (answer, _) = self
            .call(Call::read("DescribeLog", name, consistency), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.describe_log(&to, request, timeout).await }
            })
            .await?;
        let header = present(answer.header, "header")?;
        self.learn(name, &header);
        self.learn_level(name, consistency, &header);
        Ok((present(answer.log, "log")?, header))
    }

    /// One page of the logs whose names start with `prefix`, sorted by name. `page_size` 0 is the
    /// node's default; `page` is [`LogsPage::next_page`] of the page before.
    ///
    /// # Errors
    /// The consistency can't be had in time.
    pub async fn list_logs(
        &self,
        prefix: &str,
        page_size: u32,
        page: Option<&str>,
        consistency: &Consistency,
    ) -> Result<LogsPage> {
        let request = wire::ListLogsRequest {
            prefix: prefix.to_owned(),
            page_size,
            page_token: page.unwrap_or_default().to_owned(),
            consistency: Some(consistency.to_wire()),
        };
        let (answer, _) = self
            .call(Call::read("ListLogs", prefix, consistency), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.list_logs(&to, request, timeout).await }
            })
            .await?;
        Ok(LogsPage {
            logs: answer.logs,
            next_page: (!answer.next_page.is_empty()).then_some(answer.next_page),
            headers: answer.headers,
        })
    }

    /// Makes every record below `before_offset` unreadable, for good. Repeated when an answer is
    /// lost: trimming twice is as good as once. `incarnation` protects against a log deleted and
    /// created again meanwhile.
    ///
    /// # Errors
    /// [`OutOfRange`](crate::ErrorKind::OutOfRange): beyond the end of the log.
    pub async fn trim_log(
        &self,
        name: &str,
        before_offset: u64,
        incarnation: Option<u64>,
    ) -> Result<Trimmed> {
        let request = wire::TrimLogRequest { name: name.to_owned(), before_offset, incarnation };
        let (answer, endpoint) = self
            .call(Call::write("TrimLog", name, Safety::Repeatable), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.trim_log(&to, request, timeout).await }
            })
            .await?;
        self.confirm(name, &endpoint, answer.stamp.as_ref());
        Ok(Trimmed {
            start_offset: answer.start_offset,
            position: Position::from_bytes(answer.position),
        })
    }

    /// Deletes a log with all its records. Not repeated when an answer is lost: a second deletion
    /// might hit a log created meanwhile.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound),
    /// [`LogRecreated`](crate::ErrorKind::LogRecreated).
    pub async fn delete_log(&self, name: &str, incarnation: Option<u64>) -> Result<Position> {
        let request = wire::DeleteLogRequest { name: name.to_owned(), incarnation };
        let (answer, endpoint) = self
            .call(Call::write("DeleteLog", name, Safety::Once), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.delete_log(&to, request, timeout).await }
            })
            .await?;
        self.confirm(name, &endpoint, answer.stamp.as_ref());
        Ok(Position::from_bytes(answer.position))
    }

    /// Raises the writer epoch of a log, to `min_epoch` or more, and always higher than it ever
    /// was. Repeated when an answer is lost, which may raise it more than once: the returned epoch
    /// is the last one, so nothing is lost by it.
    ///
    /// # Errors
    /// [`LogNotFound`](crate::ErrorKind::LogNotFound),
    /// [`LogRecreated`](crate::ErrorKind::LogRecreated).
    pub async fn fence(
        &self,
        log: &str,
        min_epoch: Option<u64>,
        incarnation: Option<u64>,
    ) -> Result<Fenced> {
        let request = wire::FenceRequest { log: log.to_owned(), min_epoch, incarnation };
        let (answer, endpoint) = self
            .call(Call::write("Fence", log, Safety::Repeatable), |transport, to, timeout| {
                let request = request.clone();
                async move { transport.fence(&to, request, timeout).await }
            })
            .await?;
        self.confirm(log, &endpoint, answer.stamp.as_ref());
        Ok(Fenced {
            writer_epoch: answer.writer_epoch,
            incarnation: answer.incarnation,
            next_offset: answer.next_offset,
            position: Position::from_bytes(answer.position),
            stamp: answer.stamp,
        })
    }

    /// Notes who took a write.
    pub(crate) fn confirm(&self, log: &str, endpoint: &crate::Endpoint, stamp: Option<&Stamp>) {
        if let Some(stamp) = stamp {
            self.shared.routing.confirm(log, endpoint, stamp.term);
        }
    }

    /// Notes what a read header says about the leader.
    pub(crate) fn learn(&self, log: &str, header: &ReadHeader) {
        if let Some(hint) = header.leader.clone().and_then(Leader::from_wire) {
            self.shared.routing.learn(log, &hint);
        }
    }

    /// Notes what a log says by itself, if that is what was asked for.
    pub(crate) fn learn_level(&self, log: &str, asked: &Consistency, header: &ReadHeader) {
        if asked.level() == Level::OfLog
            && let Some(level) = header.given.as_ref().and_then(Level::from_wire)
        {
            self.shared.routing.learn_level(log, level);
        }
    }

    /// What is asked for, as far as it is known here, to judge where to ask for it.
    pub(crate) fn routed<'a>(&self, log: &str, asked: &'a Consistency) -> Cow<'a, Consistency> {
        let known = || self.shared.routing.level(log);
        match asked.level() {
            Level::OfLog => known()
                .map_or(Cow::Borrowed(asked), |level| Cow::Owned(asked.clone().with_level(level))),
            _ => Cow::Borrowed(asked),
        }
    }
}
