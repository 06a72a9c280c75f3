//! What is written when somebody scrapes: values, collected metric by metric, then put into the
//! OpenMetrics text format in the order of the table.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::{Registry, Unit as TextUnit},
};

use super::{
    histogram::HistogramSample,
    table::{Kind, Name, TABLE, Unit},
};

/// Media type of the text format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug)]
enum Value {
    Whole(u64),
    Real(f64),
    Histogram(HistogramSample),
    Present,
}

#[derive(Debug)]
struct Series {
    labels: Vec<(&'static str, String)>,
    value: Value,
}

/// One scrape in the making.
#[derive(Debug)]
pub struct Scrape {
    /// By row of the table.
    series: Vec<Vec<Series>>,
}

impl Default for Scrape {
    fn default() -> Self {
        Self { series: TABLE.iter().map(|_| Vec::new()).collect() }
    }
}

impl Scrape {
    /// A count or a whole number.
    pub fn whole(&mut self, name: Name, labels: &[&str], value: u64) {
        assert!(
            matches!(name.declared().kind, Kind::Counter | Kind::Gauge),
            "{name:?} is a number"
        );
        self.push(name, labels, Value::Whole(value));
    }

    /// A number with a fraction.
    pub fn real(&mut self, name: Name, labels: &[&str], value: f64) {
        assert!(
            matches!(name.declared().kind, Kind::Counter | Kind::Gauge),
            "{name:?} is a number"
        );
        self.push(name, labels, Value::Real(value));
    }

    /// A distribution.
    pub fn histogram(&mut self, name: Name, labels: &[&str], value: HistogramSample) {
        assert_eq!(name.declared().kind, Kind::Histogram, "{name:?} is a histogram");
        self.push(name, labels, Value::Histogram(value));
    }

    /// Labels only.
    pub fn info(&mut self, name: Name, labels: &[&str]) {
        assert_eq!(name.declared().kind, Kind::Info, "{name:?} is an info");
        self.push(name, labels, Value::Present);
    }

    fn push(&mut self, name: Name, labels: &[&str], value: Value) {
        let names = name.declared().labels;
        assert_eq!(names.len(), labels.len(), "{name:?} has exactly the labels of its row");
        let labels = names.iter().copied().zip(labels.iter().map(|l| (*l).to_owned())).collect();
        self.series[name as usize].push(Series { labels, value });
    }

    /// The text. A metric without a series (no group yet, nothing counted yet) is left out.
    ///
    /// # Panics
    /// Never: writing into a string does not fail.
    #[must_use]
    pub fn into_text(self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut out = String::new();
        text::encode(&mut out, &registry).expect("writing into a string does not fail");
        out
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        for (row, series) in TABLE.iter().zip(&self.series) {
            if series.is_empty() {
                continue;
            }
            let (kind, unit) = (text_kind(row.kind), text_unit(row.unit));
            let mut metric = encoder.encode_descriptor(row.base, row.help, unit.as_ref(), kind)?;
            for one in series {
                match one.value {
                    Value::Present => metric.encode_info(&one.labels)?,
                    _ if one.labels.is_empty() => encode(&mut metric, row.kind, &one.value)?,
                    _ => encode(&mut metric.encode_family(&one.labels)?, row.kind, &one.value)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(metric: &mut MetricEncoder, kind: Kind, value: &Value) -> Result<(), fmt::Error> {
    match (kind, value) {
        (Kind::Counter, Value::Whole(n)) => metric.encode_counter::<NoLabelSet, _, u64>(n, None),
        (Kind::Counter, Value::Real(n)) => metric.encode_counter::<NoLabelSet, _, u64>(n, None),
        (Kind::Gauge, Value::Whole(n)) => metric.encode_gauge(n),
        (Kind::Gauge, Value::Real(n)) => metric.encode_gauge(n),
        (_, Value::Histogram(h)) => {
            metric.encode_histogram::<NoLabelSet>(h.sum, h.count(), &h.buckets, None)
        }
        (kind, value) => unreachable!("values were checked against the table: {kind:?} {value:?}"),
    }
}

fn text_kind(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
        Kind::Info => MetricType::Info,
    }
}

fn text_unit(unit: Unit) -> Option<TextUnit> {
    match unit {
        Unit::None => None,
        Unit::Bytes => Some(TextUnit::Bytes),
        Unit::Seconds => Some(TextUnit::Seconds),
    }
}
