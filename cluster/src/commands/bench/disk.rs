//! The disk alone: append and fdatasync, one after the other. What any durable acknowledgement on
//! this machine costs at least, measured like everything else.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    sync::Arc,
    time::Instant,
};

use rand::{SeedableRng, rngs::SmallRng};

use super::{
    load::{Run, Work, drive},
    payload::Payload,
    plan::Plan,
    report::Report,
};
use crate::{args::Load, exit::Failure, output::Output};

/// `quorate bench disk`.
///
/// # Errors
/// When the folder can't be written to.
pub async fn run(plan: &Plan, load: &Load, dir: &Path, output: Output) -> Result<(), Failure> {
    let path = dir.join(format!("bench-disk-{}", std::process::id()));
    let failed = |e: io::Error| Failure::refused(format!("{}: {e}", path.display()));
    let file = File::options().create_new(true).append(true).open(&path).map_err(failed)?;
    let run = plan.run();
    let (payload, working) = (Payload::new(plan.size), run.clone());
    let work = async move {
        // On a thread that may block; the loop itself is on none of the runtime's.
        let blocking = move || appends(&working, file, &payload);
        match tokio::task::spawn_blocking(blocking).await {
            Ok(done) => done.map_err(|e| Failure::refused(format!("append and fdatasync: {e}"))),
            Err(e) => Err(Failure::refused(format!("the thread died: {e}"))),
        }
    };
    let measured = drive(&run, load.warm_up, [work]).await;
    std::fs::remove_file(&path).map_err(failed)?;
    let mut settings = plan.settings("append + fdatasync", 1, 1);
    (settings.clients, settings.connections) = (1, 0);
    settings.endpoints = vec![dir.display().to_string()];
    Report::new(settings, &measured?).write(output)
}

fn appends(run: &Arc<Run>, mut file: File, payload: &Payload) -> io::Result<()> {
    let mut rng = SmallRng::from_os_rng();
    while let Some(ticket) = run.admit() {
        let value = payload.next(&mut rng);
        let started = Instant::now();
        file.write_all(&value)?;
        file.sync_data()?;
        run.done(0, ticket, started.elapsed(), Work { records: 1, bytes: value.len() as u64 });
    }
    Ok(())
}
