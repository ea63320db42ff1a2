//! What this process uses, as the kernel tells it: Linux only, and zero where
//! the kernel says nothing.

use std::fs;

/// Processor time of all threads so far, user and system, in microseconds.
/// The kernel counts in hundredths of a second here.
pub(crate) fn cpu_micros() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    parse_cpu(&stat).unwrap_or(0)
}

/// Memory that is in RAM and no part of a file, in KiB.
pub(crate) fn private_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    parse_private(&status).unwrap_or(0)
}

fn parse_cpu(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some((user + system) * 10_000)
}

fn parse_private(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_the_sum_of_user_and_system() {
        let stat = "17 (a ) b) S 1 17 17 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0";
        assert_eq!(parse_cpu(stat), Some(3_000_000));
        assert_eq!(parse_cpu(""), None);
    }

    #[test]
    fn memory_is_the_part_in_ram() {
        let status = "Name:\tx\nVmHWM:\t  900 kB\nRssAnon:\t  812 kB\nThreads:\t3\n";
        assert_eq!(parse_private(status), Some(812));
        assert_eq!(parse_private("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_uses_something() {
        assert!(private_kib() > 0);
    }
}
