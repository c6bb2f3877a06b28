//! `-ts` and `-te`: words into moments.
//!
//! The forms are those of ausearch(8), read in the local time zone, plus ISO dates,
//! RFC 3339 and seconds since 1970. The clock is an argument, so nothing here reads one.

use std::fmt;

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

/// What the shell read from the machine's clocks, once.
#[derive(Clone, Debug)]
pub(crate) struct Clock {
    /// Now, to the second, in the local time zone.
    pub(crate) now: Zoned,
    /// When this machine was started, as far as its clock was not set since.
    pub(crate) booted: Timestamp,
}

impl Clock {
    /// Reads the clocks and the time zone of this machine (`TZ` is honoured).
    pub(crate) fn read() -> Clock {
        let now = Zoned::now();
        let subsecond = i64::from(now.subsec_nanosecond());
        let now = now.saturating_sub(subsecond.nanoseconds());
        let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let booted = now.timestamp().saturating_sub(up.tv_sec.seconds());
        // A Timestamp minus an uptime leaves the range only if the clock is absurd.
        let booted = booted.unwrap_or(Timestamp::UNIX_EPOCH);
        Clock { now, booted }
    }

    /// The local time zone.
    pub(crate) fn zone(&self) -> &TimeZone {
        self.now.time_zone()
    }
}

/// Milliseconds since 1970, the resolution of an audit stamp.
pub(crate) type Millis = i64;

/// Why words are not a time.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotATime {
    words: String,
    why: &'static str,
}

/// Every form there is, for the hint of a usage error.
pub(super) const FORMS: &str = "a time is now, recent, this-hour, boot, today, yesterday, \
this-week, week-ago, this-month, this-year; a date (mm/dd/yyyy or yyyy-mm-dd), \
a time (hh:mm or hh:mm:ss), or both; RFC 3339 (2026-11-22T10:00:00Z); \
or seconds since 1970 (1795301198.341)";

impl fmt::Display for NotATime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not a time: {}", self.words, self.why)
    }
}

impl std::error::Error for NotATime {}

/// Which end of a range is meant: the defaults differ (ausearch(8), -ts and -te).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// `-ts`: a date alone means its midnight.
    Start,
    /// `-te`: a date alone means that day at the present time of day, `today` means now,
    /// and a whole second is meant to its end.
    End,
}

impl Bound {
    /// The moment that one or two words name.
    pub(crate) fn parse(self, words: &[String], clock: &Clock) -> Result<Millis, NotATime> {
        let fail = |why| NotATime { words: words.join(" "), why };
        let (day, time) = match words {
            [one] => {
                if let Some(exact) = exact(one) {
                    return Ok(self.to_millis(exact));
                }
                if one.contains(':') { (None, Some(one)) } else { (Some(one), None) }
            }
            [time, day] if time.contains(':') => (Some(day), Some(time)),
            [day, time] => (Some(day), Some(time)),
            _ => return Err(fail("a date and a time at most")),
        };
        let time = match time {
            Some(text) => Some(parse_time(text).ok_or_else(|| fail("no such time of day"))?),
            None => None,
        };
        let day = match day {
            Some(text) => self.parse_day(text, clock).map_err(fail)?,
            None => Day::Date(clock.now.date()),
        };
        let midnight = Time::midnight();
        let local = match (day, time) {
            (Day::Moment(moment), None) => return Ok(self.to_millis(moment.timestamp())),
            (Day::Moment(moment), Some(time)) => moment.date().to_datetime(time),
            (Day::Start(date), time) => date.to_datetime(time.unwrap_or(midnight)),
            (Day::Date(date), Some(time)) => date.to_datetime(time),
            (Day::Date(date), None) => date.to_datetime(match self {
                Bound::Start => midnight,
                Bound::End => clock.now.time(),
            }),
        };
        let zoned = local
            .to_zoned(clock.zone().clone())
            .map_err(|_| fail("that moment does not exist in the local time zone"))?;
        Ok(self.to_millis(zoned.timestamp()))
    }

    fn parse_day(self, text: &str, clock: &Clock) -> Result<Day, &'static str> {
        let now = &clock.now;
        let today = now.date();
        let back = |days: i64| today.saturating_sub(days.days());
        Ok(match text {
            "now" => Day::Moment(now.clone()),
            "recent" => Day::Moment(now.saturating_sub(10.minutes())),
            "boot" => Day::Moment(clock.booted.to_zoned(clock.zone().clone())),
            "this-hour" => {
                let past = i64::from(now.minute()) * 60 + i64::from(now.second());
                Day::Moment(now.saturating_sub(past.seconds()))
            }
            "today" if self == Bound::End => Day::Moment(now.clone()),
            "today" => Day::Start(today),
            "yesterday" => Day::Start(back(1)),
            "this-week" => Day::Start(back(today.weekday().to_sunday_zero_offset().into())),
            "week-ago" => Day::Start(back(7)),
            "this-month" => Day::Start(today.first_of_month()),
            "this-year" => Day::Start(today.first_of_year()),
            "checkpoint" => return Err("checkpoint files of ausearch are not supported"),
            _ => Day::Date(parse_date(text).ok_or("no such word or date")?),
        })
    }

    /// Stamps count milliseconds; an end names its whole second unless it says less.
    fn to_millis(self, moment: Timestamp) -> Millis {
        let millis = moment.as_millisecond();
        let whole = moment.subsec_nanosecond() == 0;
        if self == Bound::End && whole { millis + 999 } else { millis }
    }
}

/// A day as it was named.
enum Day {
    /// A moment; a time of day given with it replaces its own.
    Moment(Zoned),
    /// A word that means the start of a day, for either bound.
    Start(Date),
    /// A date in figures.
    Date(Date),
}

/// A moment that needs no time zone: RFC 3339, or seconds since 1970.
fn exact(text: &str) -> Option<Timestamp> {
    if let Some((seconds, fraction)) = text.split_once('.') {
        if fraction.len() > 9 || !all_digits(fraction) || !all_digits(seconds) {
            return text.parse().ok();
        }
        let nanos = format!("{fraction:0<9}").parse().ok()?;
        return Timestamp::new(seconds.parse().ok()?, nanos).ok();
    }
    if all_digits(text) {
        return Timestamp::from_second(text.parse().ok()?).ok();
    }
    text.parse().ok()
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// yyyy-mm-dd, mm/dd/yyyy and mm/dd/yy; of a year, two digits mean 1969 to 2068, as
/// strptime(3) has it.
fn parse_date(text: &str) -> Option<Date> {
    let (separator, order) = if text.contains('/') { ('/', [2, 0, 1]) } else { ('-', [0, 1, 2]) };
    let parts: Vec<&str> = text.split(separator).collect();
    if parts.len() != 3 || !parts.iter().all(|part| all_digits(part)) {
        return None;
    }
    let [year, month, day] = order.map(|at| parts[at]);
    let number: i16 = year.parse().ok()?;
    let year = match (separator, year.len(), number) {
        (_, 4, _) => number,
        ('/', 2, 69..) => 1900 + number,
        ('/', 2, _) => 2000 + number,
        _ => return None,
    };
    Date::new(year, month.parse().ok()?, day.parse().ok()?).ok()
}

/// hh:mm and hh:mm:ss.
fn parse_time(text: &str) -> Option<Time> {
    let mut parts = text.splitn(3, ':').map(|part| {
        (matches!(part.len(), 1 | 2) && all_digits(part)).then(|| part.parse::<i8>().ok())?
    });
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = match parts.next() {
        Some(second) => second?,
        None => 0,
    };
    Time::new(hour, minute, second, 0).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(zone: &str) -> Clock {
        let now = "2026-11-22T13:45:30".parse::<jiff::civil::DateTime>().unwrap();
        let now = now.to_zoned(TimeZone::posix(zone).unwrap()).unwrap();
        let booted = now.timestamp() - 3.hours();
        Clock { now, booted }
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    /// Both bounds, as UTC text of a clock that shows UTC.
    #[test]
    fn every_form_of_ausearch_and_ours() {
        let table = [
            ("now", "2026-11-22 13:45:30.000", "2026-11-22 13:45:30.999"),
            ("recent", "2026-11-22 13:35:30.000", "2026-11-22 13:35:30.999"),
            ("this-hour", "2026-11-22 13:00:00.000", "2026-11-22 13:00:00.999"),
            ("boot", "2026-11-22 10:45:30.000", "2026-11-22 10:45:30.999"),
            ("today", "2026-11-22 00:00:00.000", "2026-11-22 13:45:30.999"),
            ("yesterday", "2026-11-21 00:00:00.000", "2026-11-21 00:00:00.999"),
            ("this-week", "2026-11-22 00:00:00.000", "2026-11-22 00:00:00.999"),
            ("week-ago", "2026-11-15 00:00:00.000", "2026-11-15 00:00:00.999"),
            ("this-month", "2026-11-01 00:00:00.000", "2026-11-01 00:00:00.999"),
            ("this-year", "2026-01-01 00:00:00.000", "2026-01-01 00:00:00.999"),
            ("11/20/2026", "2026-11-20 00:00:00.000", "2026-11-20 13:45:30.999"),
            ("11/20/26", "2026-11-20 00:00:00.000", "2026-11-20 13:45:30.999"),
            ("9/3/2009", "2009-09-03 00:00:00.000", "2009-09-03 13:45:30.999"),
            ("2026-11-20", "2026-11-20 00:00:00.000", "2026-11-20 13:45:30.999"),
            ("10:20", "2026-11-22 10:20:00.000", "2026-11-22 10:20:00.999"),
            ("11/20/2026 10:20:30", "2026-11-20 10:20:30.000", "2026-11-20 10:20:30.999"),
            ("10:20:30 11/20/2026", "2026-11-20 10:20:30.000", "2026-11-20 10:20:30.999"),
            ("yesterday 8:00", "2026-11-21 08:00:00.000", "2026-11-21 08:00:00.999"),
            ("1795301198", "2026-11-21 22:46:38.000", "2026-11-21 22:46:38.999"),
            ("1795301198.341", "2026-11-21 22:46:38.341", "2026-11-21 22:46:38.341"),
            ("2026-11-20T10:00:00+01:00", "2026-11-20 09:00:00.000", "2026-11-20 09:00:00.999"),
            ("2026-11-20T10:00:00.25Z", "2026-11-20 10:00:00.250", "2026-11-20 10:00:00.250"),
        ];
        let clock = clock("UTC0");
        let show = |millis: Millis| {
            Timestamp::from_millisecond(millis).unwrap().strftime("%F %T.%3f").to_string()
        };
        for (text, start, end) in table {
            let words = words(text);
            assert_eq!(show(Bound::Start.parse(&words, &clock).unwrap()), start, "-ts {text}");
            assert_eq!(show(Bound::End.parse(&words, &clock).unwrap()), end, "-te {text}");
        }
    }

    #[test]
    fn a_date_is_a_local_date_on_either_side_of_a_clock_change() {
        let clock = clock("CET-1CEST,M3.5.0,M10.5.0/3");
        let table = [
            ("07/01/2026", "2026-06-30T22:00:00Z"),
            ("11/01/2026", "2026-10-31T23:00:00Z"),
            ("this-year", "2025-12-31T23:00:00Z"),
            ("2026-03-29 02:30", "2026-03-29T01:30:00Z"),
        ];
        for (text, want) in table {
            let millis = Bound::Start.parse(&words(text), &clock).unwrap();
            assert_eq!(Timestamp::from_millisecond(millis).unwrap().to_string(), want, "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_words_that_were_given() {
        let clock = clock("UTC0");
        for (text, why) in [
            ("lunch", "no such word or date"),
            ("13/40/2026", "no such word or date"),
            ("11/20/026", "no such word or date"),
            ("2026-02-30", "no such word or date"),
            ("-1", "no such word or date"),
            ("", "no such word or date"),
            ("25:00", "no such time of day"),
            ("10:20:30:40", "no such time of day"),
            ("today noon", "no such time of day"),
            ("checkpoint", "checkpoint files of ausearch are not supported"),
            ("99999999999999999999", "no such word or date"),
        ] {
            let error = Bound::Start.parse(&words(text), &clock).unwrap_err();
            assert_eq!(error.to_string(), format!("`{text}` is not a time: {why}"));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_words_panic(text in "[0-9a-zT:/. +-]{0,30}") {
            let clock = clock("UTC0");
            let words = words(&text);
            let _ = Bound::Start.parse(&words, &clock);
            let _ = Bound::End.parse(&words, &clock);
        }
    }
}
