//! What the log has of an input already.

use quorate_client::{AppendOptions, Batch, Client, ErrorKind, MAX_BATCHES_IN_FLIGHT, ProducerId};

use crate::{args::AppendArgs, exit::Failure};

/// A sequence that no producer ever gets to. An append with it is always refused, and the refusal
/// says where the producer stands.
const BEYOND: u64 = u64::MAX - 1;

/// Batches that the log has already and that are sent again all the same: it compares them with
/// what it has, and refuses if they differ, before anything new is appended. No more than it
/// remembers (64), so that each of them is answered.
const COMPARED: u64 = MAX_BATCHES_IN_FLIGHT as u64;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    /// The first batch to be sent.
    pub sequence: u64,
    /// Batches that the log has; `None` when it does not know the producer.
    pub known: Option<u64>,
}

impl Begin {
    fn with(known: u64) -> Self {
        Self { sequence: known.saturating_sub(COMPARED), known: Some(known) }
    }

    /// Whether there is anything to be sent that the log has already.
    pub fn compares(self) -> bool {
        self.known.is_some_and(|known| known > self.sequence)
    }

    const START: Self = Self { sequence: 0, known: None };
}

/// Asks the log where the producer stands. Changes nothing.
///
/// # Errors
/// The log refuses this writer; with `--resume`, it does not know the producer.
pub async fn look(
    client: &Client,
    args: &AppendArgs,
    id: Option<ProducerId>,
) -> Result<Begin, Failure> {
    // A random id is known to nobody.
    let (Some(id), Some(_)) = (id, args.producer_id) else { return Ok(Begin::START) };
    let options = AppendOptions {
        producer: Some((id, BEYOND)),
        writer_epoch: args.writer_epoch,
        ..AppendOptions::default()
    };
    let batch = Batch::of([&b""[..]])?;
    let error = match client.append_with(&args.log, batch, &options).await {
        Err(error) => error,
        Ok(_) => return Err(Failure::unknown("the log took a batch that nobody could send")),
    };
    match (error.kind(), error.next_sequence()) {
        (ErrorKind::SequenceGap, Some(known)) => Ok(Begin::with(known)),
        (ErrorKind::ProducerUnknown, _) if args.resume => {
            Err(Failure::refused(format!("log {} does not know producer {id}", args.log))
                .advise("without --resume the input is appended from its start"))
        }
        (ErrorKind::ProducerUnknown, _) => Ok(Begin::START),
        _ => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_batches_are_compared() {
        for (known, sequence) in [(0, 0), (1, 0), (32, 0), (33, 1), (1000, 968)] {
            assert_eq!(Begin::with(known), Begin { sequence, known: Some(known) });
            assert_eq!(Begin::with(known).compares(), known > 0);
        }
    }
}
