//! Metrics. What can be counted is what [`names`] lists, and what is listed there is what `METRICS.md` explains.

pub mod names;

use std::{fmt, sync::Arc};

pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge};
use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder, text},
    metrics::{TypedMetric, family::Family, info::Info},
    registry,
};

pub use self::names::{CounterInfo, GaugeInfo, InfoInfo, Kind, MetricInfo, Program};

/// The content type of [`Registry::encode`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Every metric of one process. Filled while the process is composed, then only read.
#[derive(Debug, Default)]
pub struct Registry {
    inner: registry::Registry,
}

/// Counters that differ in their labels; a counter is shown from when it is first asked for. Clones are the same.
#[derive(Debug, Clone)]
pub struct Counters<const N: usize> {
    series: Series<Counter, N>,
}

/// Gauges that differ in their labels; a gauge is shown from when it is first asked for. Clones are the same.
#[derive(Debug, Clone)]
pub struct Gauges<const N: usize> {
    series: Series<Gauge, N>,
}

impl Registry {
    /// Without metrics.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a counter without labels, shown as zero from now on. A metric is added once.
    #[must_use]
    pub fn counter(&mut self, info: &'static CounterInfo<0>) -> Counter {
        let counter = Counter::default();
        self.add(info, counter.clone());
        counter
    }

    /// Adds a counter with labels. A metric is added once.
    #[must_use]
    pub fn counters<const N: usize>(&mut self, info: &'static CounterInfo<N>) -> Counters<N> {
        let series = Series::new(info);
        self.add(info, series.family.clone());
        Counters { series }
    }

    /// Adds a gauge without labels, shown as zero from now on. A metric is added once.
    #[must_use]
    pub fn gauge(&mut self, info: &'static GaugeInfo<0>) -> Gauge {
        let gauge = Gauge::default();
        self.add(info, gauge.clone());
        gauge
    }

    /// Adds a gauge with labels. A metric is added once.
    #[must_use]
    pub fn gauges<const N: usize>(&mut self, info: &'static GaugeInfo<N>) -> Gauges<N> {
        let series = Series::new(info);
        self.add(info, series.family.clone());
        Gauges { series }
    }

    /// Adds what never changes: one series with the labels given, whose value is 1.
    pub fn info<const N: usize>(&mut self, info: &'static InfoInfo<N>, values: [&str; N]) {
        self.add(info, Info::new(Labels::new(info.labels, values)));
    }

    /// The metrics as OpenMetrics text, which Prometheus reads as well.
    ///
    /// # Errors
    /// When a metric can't be written, which none of ours does.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.inner)?;
        Ok(text)
    }

    fn add(&mut self, info: &MetricInfo, metric: impl registry::Metric) {
        self.inner.register(info.family(), info.help, metric);
    }
}

impl<const N: usize> Counters<N> {
    /// The counter with these values, in the order of the labels in the table. Keep it where it is used often.
    #[must_use]
    pub fn with(&self, values: [&str; N]) -> Counter {
        self.series.with(values)
    }
}

impl<const N: usize> Gauges<N> {
    /// The gauge with these values, in the order of the labels in the table. Keep it where it is used often.
    #[must_use]
    pub fn with(&self, values: [&str; N]) -> Gauge {
        self.series.with(values)
    }
}

#[derive(Debug, Clone)]
struct Series<M, const N: usize> {
    names: &'static [&'static str],
    family: Family<Labels<N>, M>,
}

impl<M: TypedMetric + Clone + Default, const N: usize> Series<M, N> {
    fn new(info: &'static MetricInfo) -> Self {
        Self { names: info.labels, family: Family::default() }
    }

    fn with(&self, values: [&str; N]) -> M {
        self.family.get_or_create_owned(&Labels::new(self.names, values))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Labels<const N: usize> {
    names: &'static [&'static str],
    values: [Arc<str>; N],
}

impl<const N: usize> Labels<N> {
    fn new(names: &'static [&'static str], values: [&str; N]) -> Self {
        Self { names, values: values.map(Arc::from) }
    }
}

impl<const N: usize> EncodeLabelSet for Labels<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        let pairs: Vec<(&str, &str)> = self.names.iter().copied().zip(self.values.iter().map(AsRef::as_ref)).collect();
        pairs.as_slice().encode(encoder)
    }
}

#[cfg(test)]
mod tests;
