//! Numbers and times as people read them. Pure.

use jiff::Timestamp;
use std::time::Duration;

/// Per mille as people read it: `25.0 %`.
pub fn percent(permille: i32) -> String {
    format!("{}.{} %", permille / 10, permille % 10)
}

/// A moment, to the second, in UTC.
pub fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// From one moment to another; nothing when it is the other way round.
pub fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

/// A duration with its two greatest parts: `1h05m`, `2m10s`, `15s`.
pub fn lasting(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) if seconds == 0 && !duration.is_zero() => format!("{}ms", duration.as_millis()),
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes:02}m"),
        _ => format!("{days}d{hours:02}h"),
    }
}

/// Thousandths of a nat, as nats: `4.605`.
pub fn nats(millinats: i64) -> String {
    let sign = if millinats < 0 { "-" } else { "" };
    let size = millinats.unsigned_abs();
    format!("{sign}{}.{:03}", size / 1000, size % 1000)
}

/// A text of somebody else's, on one line and without what a terminal would obey.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// At most `most` characters of a text; three dots where more were.
pub fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let kept: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{}...", kept.trim_end())
}

/// `1 object`, `2 objects`.
pub fn count(number: usize, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 5, 250, 1000].map(percent), ["0.0 %", "0.5 %", "25.0 %", "100.0 %"]);
        assert_eq!([4605, -20, 0].map(nats), ["4.605", "-0.020", "0.000"]);
        assert_eq!((count(1, "object"), count(2, "object")), ("1 object".into(), "2 objects".into()));
    }

    #[test]
    fn times_read_well() {
        let lasts = [0, 15, 130, 3900, 90_000].map(|seconds| lasting(Duration::from_secs(seconds)));
        assert_eq!(lasts, ["0s", "15s", "2m10s", "1h05m", "1d01h"]);
        assert_eq!(lasting(Duration::from_millis(250)), "250ms");
        let (from, to) = (Timestamp::UNIX_EPOCH, Timestamp::new(90, 0).unwrap());
        assert_eq!((between(from, to).as_secs(), between(to, from).as_secs()), (90, 0));
        assert_eq!(moment(to), "1970-01-01T00:01:30Z");
    }

    #[test]
    fn a_text_of_others_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nc"), "a [2Jb c");
        assert_eq!((cut("äbcdefgh", 8), cut("äb cdefgh", 6)), ("äbcdefgh".into(), "äb...".into()));
    }
}
