//! File descriptors, of which every connection takes one: a process may often have fewer than the server may have connections,
//! and who has none left can take nobody's connection, not even to refuse it.

/// What is open besides connections: the log, devices, checkpoints that are being read, connections that are being refused.
const OTHERS: u64 = 192;

/// How many connections there may be, so many at most, with the limit raised as far as the system allows.
pub fn connections(wanted: usize) -> usize {
    let needed = (wanted as u64).saturating_add(OTHERS);
    match rlimit::increase_nofile_limit(needed) {
        Ok(allowed) if allowed < needed => {
            let connections = usize::try_from(allowed.saturating_sub(OTHERS)).unwrap_or(wanted).max(1);
            tracing::warn!(
                "at most {connections} connections instead of {wanted}: this process may have {allowed} open files \
                 (`ulimit -n`), of which {OTHERS} are for others"
            );
            connections
        }
        Ok(_) => wanted,
        Err(error) => {
            tracing::warn!("it is not known how many open files this process may have: {error}");
            wanted
        }
    }
}
