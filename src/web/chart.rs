//! Charts as SVG: a sparkline, and an area chart with axis, limit and table. Pure.
//!
//! Paths consist of numbers only. Texts stay outside of the drawing, so the drawing may be
//! stretched to any width. The stylesheet colours the parts by class.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};

use super::format::decimal_mark;
use super::page_context::PageContext;
use crate::i18n::Language;

/// Value of a series in the period that begins at this time; `None` is a gap.
pub(super) type ChartPoint = (DateTime<Utc>, Option<f64>);

/// Size of a sparkline in pixels.
pub(super) const SPARKLINE_SIZE: (f64, f64) = (120.0, 24.0);

/// Size of an area chart in units of its drawing. The page stretches the width.
pub(super) const AREA_SIZE: (f64, f64) = (960.0, 160.0);

/// Most points of a drawing. More would be finer than a pixel.
const MAX_AREA_POINTS: usize = 480;

/// Most rows of the table of a chart.
const MAX_TABLE_ROWS: usize = 24;

/// Number of times below the axis.
const AXIS_TIMES: i32 = 5;

/// Distance of the line from the upper and lower edge, so that its whole width is drawn.
const MARGIN: f64 = 1.5;

/// Fewest values of a sparkline. Fewer would look like a stray dot.
const FEWEST_VALUES: usize = 5;

/// Unit of a series.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ChartUnit {
    /// Whole things.
    Count,
    /// Things in a minute.
    PerMinute,
    /// Seconds.
    Seconds,
}

impl ChartUnit {
    /// Formats a value: whole, or with so many decimals that small values differ.
    pub(super) fn format(self, value: f64, language: Language) -> String {
        let decimals = match self {
            Self::Seconds if value < 10.0 => 2,
            Self::Seconds => 1,
            Self::PerMinute if value > 0.0 && value < 10.0 && value.fract() != 0.0 => 1,
            Self::Count | Self::PerMinute => 0,
        };
        let number = if decimals == 0 {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "series have no negative values, and `as` saturates"
            )]
            let whole = value.round() as u64;
            language.number(whole)
        } else {
            let mark = decimal_mark(language).to_string();
            format!("{value:.decimals$}").replace('.', &mark)
        };
        match self {
            Self::Count | Self::PerMinute => number,
            Self::Seconds => format!("{number}\u{a0}{}", language.choose(["s", "с", "秒"])),
        }
    }
}

/// Small chart in a cell of a table.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Sparkline {
    /// Path of the line; empty without any value.
    pub(super) path: String,
    /// Lowest, highest and last value as a text, for readers that cannot see the line.
    pub(super) title: String,
}

/// Description of an area chart.
#[derive(Clone, Debug)]
pub(super) struct AreaChartSpec<'a> {
    /// Part of the element ids.
    pub(super) id: &'static str,
    /// Name of the series.
    pub(super) title: &'static str,
    pub(super) unit: ChartUnit,
    pub(super) points: &'a [ChartPoint],
    /// Second series, drawn as a line: its name and its values.
    pub(super) second: Option<(&'static str, &'a [ChartPoint])>,
    /// Limit: its name and its value.
    pub(super) limit: Option<(&'static str, f64)>,
}

/// Area chart, ready for the template.
#[derive(Clone, Debug)]
pub(super) struct AreaChart {
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    /// Lowest, highest and last value.
    pub(super) summary: String,
    pub(super) area: String,
    pub(super) line: String,
    /// Name and path of the second series; empty if there is none.
    pub(super) second_title: &'static str,
    pub(super) second: String,
    /// Text and path of the limit; empty if there is none.
    pub(super) limit_text: String,
    pub(super) limit: String,
    /// Upper end of the scale; the lower one is zero.
    pub(super) top: String,
    pub(super) axis: Vec<String>,
    pub(super) zone: String,
    pub(super) rows: Vec<ChartRow>,
}

/// Row of the table: lowest and highest value of a period.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ChartRow {
    pub(super) time: String,
    pub(super) lowest: String,
    pub(super) highest: String,
}

/// Lowest, highest and last value.
#[derive(Clone, Copy, Debug, PartialEq)]
struct ValueRange {
    lowest: f64,
    highest: f64,
    last: f64,
}

impl ValueRange {
    /// Returns the range of the values; `None` if all are gaps.
    fn of(points: &[ChartPoint]) -> Option<Self> {
        let mut values = points.iter().filter_map(|(_, value)| *value);
        let first = values.next()?;
        let start = Self {
            lowest: first,
            highest: first,
            last: first,
        };
        Some(values.fold(start, |range, value| Self {
            lowest: range.lowest.min(value),
            highest: range.highest.max(value),
            last: value,
        }))
    }

    fn text(self, unit: ChartUnit, language: Language) -> String {
        let [lowest, highest, last] =
            [self.lowest, self.highest, self.last].map(|value| unit.format(value, language));
        language.choose([
            format!("last {last} · lowest {lowest} · highest {highest}"),
            format!("последнее {last} · минимум {lowest} · максимум {highest}"),
            format!("最近 {last} · 最低 {lowest} · 最高 {highest}"),
        ])
    }
}

/// Translation of times and values into coordinates.
#[derive(Clone, Copy, Debug)]
struct ChartScale {
    first: DateTime<Utc>,
    /// Length of the time axis in seconds, at least 1.
    seconds: f64,
    top: f64,
    size: (f64, f64),
}

impl ChartScale {
    fn new(points: &[ChartPoint], top: f64, size: (f64, f64)) -> Self {
        let first = points.first().map(|(at, _)| *at).unwrap_or_default();
        let last = points.last().map_or(first, |(at, _)| *at);
        Self {
            first,
            seconds: as_f64((last - first).num_seconds().max(1)),
            top: if top > 0.0 { top } else { 1.0 },
            size,
        }
    }

    fn x(self, at: DateTime<Utc>) -> f64 {
        as_f64((at - self.first).num_seconds()) / self.seconds * self.size.0
    }

    fn y(self, value: f64) -> f64 {
        let height = 2.0f64.mul_add(-MARGIN, self.size.1);
        (1.0 - (value / self.top).clamp(0.0, 1.0)).mul_add(height, MARGIN)
    }

    /// Returns the path of a line. A gap interrupts it; a value between two gaps is a dot.
    fn line(self, points: &[ChartPoint]) -> String {
        let mut path = String::new();
        for part in parts(points) {
            self.push_part(&mut path, &part);
            if part.len() == 1 {
                // A line without length has round ends, so it is a dot.
                path.push_str("h0");
            }
        }
        path
    }

    /// Returns the path of the area below the line.
    fn area(self, points: &[ChartPoint]) -> String {
        let mut path = String::new();
        let base = coordinate(self.size.1);
        for part in parts(points) {
            let (Some((first, _)), Some((last, _))) = (part.first(), part.last()) else {
                continue;
            };
            self.push_part(&mut path, &part);
            let (first, last) = (coordinate(self.x(*first)), coordinate(self.x(*last)));
            push(&mut path, format_args!("L{last} {base}L{first} {base}Z"));
        }
        path
    }

    fn push_part(self, path: &mut String, part: &[(DateTime<Utc>, f64)]) {
        for (index, (at, value)) in part.iter().enumerate() {
            // The middle of a level stretch changes nothing.
            let is_level = |other: Option<&(DateTime<Utc>, f64)>| {
                other.is_some_and(|(_, other)| other.to_bits() == value.to_bits())
            };
            let is_inside = index > 0 && is_level(part.get(index - 1));
            if is_inside && is_level(part.get(index + 1)) {
                continue;
            }
            let command = if index == 0 { 'M' } else { 'L' };
            let (x, y) = (coordinate(self.x(*at)), coordinate(self.y(*value)));
            push(path, format_args!("{command}{x} {y}"));
        }
    }
}

/// Returns the stretches between gaps.
fn parts(points: &[ChartPoint]) -> impl Iterator<Item = Vec<(DateTime<Utc>, f64)>> {
    let stretches = points.split(|(_, value)| value.is_none());
    let values = |part: &[ChartPoint]| -> Vec<(DateTime<Utc>, f64)> {
        part.iter()
            .filter_map(|(at, value)| Some((*at, (*value)?)))
            .collect()
    };
    stretches.filter(|part| !part.is_empty()).map(values)
}

/// Joins neighbouring points, so that at most `max` remain. The highest value of each group stays,
/// so a short peak is visible.
fn thin_out(points: &[ChartPoint], max: usize) -> Vec<ChartPoint> {
    groups(points, max)
        .filter_map(|group| {
            let (at, _) = group.first()?;
            Some((*at, ValueRange::of(group).map(|range| range.highest)))
        })
        .collect()
}

/// Returns neighbouring points in at most `max` groups of the same size.
fn groups(points: &[ChartPoint], max: usize) -> impl Iterator<Item = &[ChartPoint]> {
    points.chunks(points.len().div_ceil(max).max(1))
}

/// Returns the next larger number of the form 1, 2 or 5 times a power of ten.
fn round_top(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let power = 10.0f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
    // The logarithm may be rounded, so the last step is a fallback only.
    let larger = steps.into_iter().find(|step| *step >= value);
    larger.unwrap_or(value)
}

/// Formats a coordinate to a tenth.
fn coordinate(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

fn push(path: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _infallible = path.write_fmt(arguments);
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a chart spans less than 2^52 seconds"
)]
fn as_f64(seconds: i64) -> f64 {
    seconds as f64
}

/// Draws a sparkline.
pub(super) fn sparkline(points: &[ChartPoint], title: &str, language: Language) -> Sparkline {
    let known = points.iter().filter(|(_, value)| value.is_some()).count();
    let Some(range) = ValueRange::of(points).filter(|_| known >= FEWEST_VALUES) else {
        return Sparkline::default();
    };
    let thinned = thin_out(points, 120);
    let scale = ChartScale::new(&thinned, range.highest, SPARKLINE_SIZE);
    let text = range.text(ChartUnit::Count, language);
    Sparkline {
        path: scale.line(&thinned),
        title: format!("{title}: {text}"),
    }
}

/// Draws an area chart; `None` before the first value.
pub(super) fn area_chart(spec: &AreaChartSpec<'_>, context: PageContext) -> Option<AreaChart> {
    let PageContext { language, .. } = context;
    let range = ValueRange::of(spec.points)?;
    let limit_value = spec.limit.map_or(0.0, |(_, value)| value);
    let second_points = spec
        .second
        .map_or(&[] as &[ChartPoint], |(_, points)| points);
    let second_top = ValueRange::of(second_points).map_or(0.0, |range| range.highest);
    let top = round_top(range.highest.max(limit_value).max(second_top));
    let thinned = thin_out(spec.points, MAX_AREA_POINTS);
    let scale = ChartScale::new(&thinned, top, AREA_SIZE);
    let limit_y = coordinate(scale.y(limit_value));
    let rows = groups(spec.points, MAX_TABLE_ROWS).filter_map(|group| {
        let (at, _) = group.first()?;
        let range = ValueRange::of(group);
        let text = |value: fn(ValueRange) -> f64| {
            range.map_or("–".to_owned(), |range| {
                spec.unit.format(value(range), language)
            })
        };
        Some(ChartRow {
            time: context.short_time(*at),
            lowest: text(|range| range.lowest),
            highest: text(|range| range.highest),
        })
    });
    let end = thinned.last().map_or(scale.first, |(at, _)| *at);
    let step = (end - scale.first) / (AXIS_TIMES - 1);
    Some(AreaChart {
        id: spec.id,
        title: spec.title,
        summary: range.text(spec.unit, language),
        area: scale.area(&thinned),
        line: scale.line(&thinned),
        second_title: spec.second.map_or("", |(title, _)| title),
        second: scale.line(&thin_out(second_points, MAX_AREA_POINTS)),
        limit_text: spec.limit.map_or(String::new(), |(title, value)| {
            format!("{title} {}", spec.unit.format(value, language))
        }),
        limit: spec.limit.map_or(String::new(), |_| {
            format!("M0 {limit_y}H{}", coordinate(AREA_SIZE.0))
        }),
        top: spec.unit.format(top, language),
        axis: (0..AXIS_TIMES)
            .map(|index| context.axis_time(scale.first + step * index, end - scale.first))
            .collect(),
        zone: context.zone_name(),
        rows: rows.collect(),
    })
}

#[cfg(test)]
mod tests {
    use chrono::{FixedOffset, TimeDelta};

    use super::*;

    fn points(values: &[Option<f64>]) -> Vec<ChartPoint> {
        let start: DateTime<Utc> = "2026-11-29T00:00:00Z".parse().unwrap();
        let minutes = (0i32..).map(|n| start + TimeDelta::minutes(1) * n);
        minutes.zip(values.iter().copied()).collect()
    }

    fn context() -> PageContext {
        PageContext {
            now: "2026-11-29T12:00:00Z".parse().unwrap(),
            language: Language::English,
            zone: FixedOffset::east_opt(3 * 3_600).unwrap(),
        }
    }

    #[test]
    fn lines_stop_at_gaps() {
        // 10 high and 10 wide, without the margin above and below.
        let size = (10.0, 2.0f64.mul_add(MARGIN, 10.0));
        let some = |value: i32| Some(f64::from(value));
        for (values, line, area) in [
            (vec![], "", ""),
            (vec![None, None], "", ""),
            (vec![some(5)], "M0 6.5h0", "M0 6.5L0 13L0 13Z"),
            (
                vec![some(0), some(10)],
                "M0 11.5L10 1.5",
                "M0 11.5L10 1.5L10 13L0 13Z",
            ),
            // A value above the scale stays inside, a level stretch needs two points.
            (
                vec![some(99), some(99), some(99)],
                "M0 1.5L10 1.5",
                "M0 1.5L10 1.5L10 13L0 13Z",
            ),
            (
                vec![some(2), some(2), some(4)],
                "M0 9.5L5 9.5L10 7.5",
                "M0 9.5L5 9.5L10 7.5L10 13L0 13Z",
            ),
            (vec![None, some(10), None], "M5 1.5h0", "M5 1.5L5 13L5 13Z"),
            (
                vec![some(1), some(3), None, None, some(5)],
                "M0 10.5L2.5 8.5M10 6.5h0",
                "M0 10.5L2.5 8.5L2.5 13L0 13ZM10 6.5L10 13L10 13Z",
            ),
        ] {
            let points = points(&values);
            let scale = ChartScale::new(&points, 10.0, size);
            assert_eq!(scale.line(&points), line, "{values:?}");
            assert_eq!(scale.area(&points), area, "{values:?}");
        }
    }

    #[test]
    fn thinning_keeps_peaks_and_gaps() {
        let mut values = vec![Some(1.0); 1_440];
        values[700] = Some(9.0);
        values[1_200..1_260].fill(None);
        let thinned = thin_out(&points(&values), 120);
        assert_eq!(thinned.len(), 120);
        assert_eq!(thinned[58].1, Some(9.0));
        assert_eq!(
            thinned.iter().filter(|(_, value)| value.is_none()).count(),
            5
        );
        assert_eq!(thin_out(&points(&[Some(1.0), None]), 120).len(), 2);
        assert!(thin_out(&[], 120).is_empty());
    }

    #[test]
    fn the_scale_ends_at_a_round_number() {
        for (value, top) in [
            (0.0, 1.0),
            (0.3, 0.5),
            (1.0, 1.0),
            (1.1, 2.0),
            (4.0, 5.0),
            (5.1, 10.0),
            (9_999.0, 10_000.0),
            (10_000.0, 10_000.0),
            (10_001.0, 20_000.0),
            (f64::NAN, 1.0),
        ] {
            assert!((round_top(value) - top).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn values_have_their_unit() {
        for (unit, value, english, russian) in [
            (ChartUnit::Count, 1_240.4, "1,240", "1\u{a0}240"),
            (ChartUnit::PerMinute, 0.0, "0", "0"),
            (ChartUnit::PerMinute, 2.5, "2.5", "2,5"),
            (ChartUnit::PerMinute, 25.5, "26", "26"),
            (ChartUnit::Seconds, 0.104, "0.10\u{a0}s", "0,10\u{a0}с"),
            (ChartUnit::Seconds, 31.25, "31.2\u{a0}s", "31,2\u{a0}с"),
        ] {
            assert_eq!(unit.format(value, Language::English), english);
            assert_eq!(unit.format(value, Language::Russian), russian);
        }
    }

    #[test]
    fn an_area_chart_says_its_values() {
        let mut values = vec![Some(3.0); 1_440];
        values[0] = Some(40.0);
        values[1..60].fill(None);
        let points = points(&values);
        let spec = AreaChartSpec {
            id: "dirty",
            title: "Waiting",
            unit: ChartUnit::Count,
            points: &points,
            second: None,
            limit: Some(("limit", 100.0)),
        };
        let chart = area_chart(&spec, context()).unwrap();
        assert_eq!(chart.summary, "last 3 · lowest 3 · highest 40");
        assert_eq!(
            (chart.top.as_str(), chart.limit_text.as_str()),
            ("100", "limit 100")
        );
        assert_eq!(chart.limit, "M0 1.5H960");
        assert_eq!(chart.rows.len(), 24);
        assert_eq!(chart.rows[0].highest, "40");
        assert_eq!(chart.rows[1].lowest, "3");
        assert_eq!(chart.zone, "UTC+3");
        assert_eq!(chart.axis.len(), 5);
        assert_eq!(chart.axis[0], "03:00");
        let gap = [(points[0].0, None)];
        let spec = AreaChartSpec {
            points: &gap,
            ..spec
        };
        assert!(area_chart(&spec, context()).is_none());
    }

    #[test]
    fn a_sparkline_describes_itself() {
        let values = [Some(0.0), None, Some(4.0), Some(4.0), Some(0.0), Some(8.0)];
        let line = sparkline(&points(&values), "Waiting", Language::English);
        assert_eq!(line.title, "Waiting: last 8 · lowest 0 · highest 8");
        assert!(line.path.starts_with("M0 22.5h0M"), "{}", line.path);
        let few = sparkline(&points(&values[..4]), "Waiting", Language::English);
        assert_eq!(few.path, "");
        assert_eq!(
            sparkline(&points(&[None]), "", Language::English),
            Sparkline::default()
        );
    }
}
