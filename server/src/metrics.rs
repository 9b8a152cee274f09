//! The metrics of the server, in Prometheus' text format.

use crate::batching::BatchingMetrics;
use model::engine::Device;
use parking_lot::Mutex;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
};
use std::sync::Arc;
use std::time::Duration;

/// Buckets of durations in seconds, from the fastest inference to longer than clients wait.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets of batch sizes.
const IMAGES: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0];

pub struct Metrics {
    registry: prometheus::Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    refusals: IntCounterVec,
    queue_seconds: HistogramVec,
    batch_size: HistogramVec,
    inference_seconds: HistogramVec,
    pub decode_queue_seconds: Histogram,
    pub decode_seconds: Histogram,
    pub preprocess_seconds: Histogram,
    pub connections: IntGauge,
    queue_depth: IntGaugeVec,
    decode_queue_depth: IntGauge,
    in_flight_bytes: IntGauge,
    model_info: IntGaugeVec,
    model_ready: IntGaugeVec,
    model_weights_bytes: IntGaugeVec,
    model_load_failed: IntGaugeVec,
    device_memory_bytes: IntGaugeVec,
    /// Locked while the gauges are reset, updated and encoded, so that no other request encodes them in between.
    encoding: Mutex<()>,
}

/// Values of the gauges that are read when the metrics are requested.
pub struct Gauges<'a> {
    pub models: &'a [ModelGauges<'a>],
    /// Names of the models that could not be loaded at the last attempt.
    pub failed_models: &'a [String],
    pub decode_queue_depth: usize,
    pub in_flight_bytes: usize,
}

/// Values of the gauges of one model.
pub struct ModelGauges<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub architecture: String,
    pub devices: &'a [Device],
    pub is_ready: bool,
    /// Number of images that wait for an engine.
    pub queue_depth: usize,
    /// Size of the checkpoint, in bytes.
    pub weights_bytes: usize,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = prometheus::Registry::new();
        let metrics = Metrics {
            requests: counters(
                "requests_total",
                "Number of requests, by route, status and model",
                &["route", "status", "model"],
            ),
            request_seconds: histograms(
                "request_seconds",
                "Time from the head of a request to the head of its response",
                &["route"],
                &SECONDS,
            ),
            refusals: counters(
                "refusals_total",
                "Number of failed requests and rejected connections, by error code",
                &["reason"],
            ),
            queue_seconds: histograms(
                "queue_seconds",
                "Time that an image waits until its batch starts",
                &["model"],
                &SECONDS,
            ),
            batch_size: histograms("batch_size", "Number of images in a batch, without padding", &["model"], &IMAGES),
            inference_seconds: histograms(
                "inference_seconds",
                "Time that an engine takes for a batch",
                &["model"],
                &SECONDS,
            ),
            decode_queue_seconds: histogram("decode_queue_seconds", "Time that a photo waits for a decoding thread"),
            decode_seconds: histogram("decode_seconds", "Time to decode a photo"),
            preprocess_seconds: histogram("preprocess_seconds", "Time to resize and crop a photo"),
            connections: gauge("connections", "Number of open connections"),
            queue_depth: gauges("queue_depth", "Number of images that wait for an engine", &["model"]),
            decode_queue_depth: gauge(
                "decode_queue_depth",
                "Number of photos that are being decoded or wait for a decoding thread",
            ),
            in_flight_bytes: gauge(
                "in_flight_bytes",
                "Memory held by request bodies and the data decoded from them, in bytes",
            ),
            model_info: gauges(
                "model_info",
                "Always 1; the labels describe the model",
                &["model", "version", "architecture", "device"],
            ),
            model_ready: gauges("model_ready", "1 if all engines of the model are ready, otherwise 0", &["model"]),
            model_weights_bytes: gauges(
                "model_weights_bytes",
                "Size of the checkpoint of the model in memory, in bytes",
                &["model"],
            ),
            model_load_failed: gauges(
                "model_load_failed",
                "1 if the last attempt to load the model failed, whether or not an earlier version is served",
                &["model"],
            ),
            device_memory_bytes: gauges(
                "device_memory_bytes",
                "Memory in use on an NVIDIA GPU by all processes, in bytes",
                &["device"],
            ),
            registry,
            encoding: Mutex::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&self) {
        let Metrics { registry, .. } = self;
        let all: Vec<Box<dyn prometheus::core::Collector>> = vec![
            Box::new(self.requests.clone()),
            Box::new(self.request_seconds.clone()),
            Box::new(self.refusals.clone()),
            Box::new(self.queue_seconds.clone()),
            Box::new(self.batch_size.clone()),
            Box::new(self.inference_seconds.clone()),
            Box::new(self.decode_queue_seconds.clone()),
            Box::new(self.decode_seconds.clone()),
            Box::new(self.preprocess_seconds.clone()),
            Box::new(self.connections.clone()),
            Box::new(self.queue_depth.clone()),
            Box::new(self.decode_queue_depth.clone()),
            Box::new(self.in_flight_bytes.clone()),
            Box::new(self.model_info.clone()),
            Box::new(self.model_ready.clone()),
            Box::new(self.model_weights_bytes.clone()),
            Box::new(self.model_load_failed.clone()),
            Box::new(self.device_memory_bytes.clone()),
            // Memory, CPU time, open files and start time of the process.
            #[cfg(target_os = "linux")]
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        all.into_iter().for_each(|collector| registry.register(collector).expect("metric names are unique"));
    }

    /// Returns the histograms for the engines of a model, and new statistics.
    pub fn batching(&self, model: &str) -> BatchingMetrics {
        BatchingMetrics {
            queue_seconds: self.queue_seconds.with_label_values(&[model]),
            inference_seconds: self.inference_seconds.with_label_values(&[model]),
            batch_size: self.batch_size.with_label_values(&[model]),
            statistics: Arc::default(),
        }
    }

    /// Removes the histograms of a model that is no longer served.
    pub fn remove_model(&self, model: &str) {
        for histograms in [&self.queue_seconds, &self.batch_size, &self.inference_seconds] {
            // Fails if the model was never loaded.
            let _ = histograms.remove_label_values(&[model]);
        }
    }

    /// Counts a response. `model` is empty for routes that concern no model, `error_code` is `None` for successful
    /// requests.
    pub fn record_response(&self, route: &str, status: u16, model: &str, error_code: Option<&str>, duration: Duration) {
        self.requests.with_label_values(&[route, &status.to_string(), model]).inc();
        self.request_seconds.with_label_values(&[route]).observe(duration.as_secs_f64());
        if let Some(code) = error_code {
            self.record_refusal(code);
        }
    }

    /// Counts a failed request or a rejected connection.
    pub fn record_refusal(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Updates the gauges and returns all metrics in Prometheus' text format.
    pub fn encode(&self, gauges: Gauges) -> String {
        let _encoding = self.encoding.lock();
        self.decode_queue_depth.set(gauges.decode_queue_depth as i64);
        self.in_flight_bytes.set(gauges.in_flight_bytes as i64);
        // Drops the values of models that are no longer served.
        let per_model = [
            &self.queue_depth,
            &self.model_info,
            &self.model_ready,
            &self.model_weights_bytes,
            &self.model_load_failed,
        ];
        per_model.iter().for_each(|gauges| gauges.reset());
        for model in gauges.failed_models {
            self.model_load_failed.with_label_values(&[model]).set(1);
        }
        for model in gauges.models {
            let ModelGauges { name, version, architecture, .. } = model;
            let devices: Vec<String> = model.devices.iter().map(Device::to_string).collect();
            self.queue_depth.with_label_values(&[name]).set(model.queue_depth as i64);
            self.model_info.with_label_values(&[name, version, architecture.as_str(), &devices.join(",")]).set(1);
            self.model_ready.with_label_values(&[name]).set(i64::from(model.is_ready));
            self.model_weights_bytes.with_label_values(&[name]).set(model.weights_bytes as i64);
            for device in model.devices {
                if let Some(bytes) = used_device_memory(*device) {
                    self.device_memory_bytes.with_label_values(&[&device.to_string()]).set(bytes as i64);
                }
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("writing to a Vec cannot fail");
        String::from_utf8(text).expect("the text format is UTF-8")
    }
}

/// Returns the memory in use on an NVIDIA GPU by all processes, in bytes. NVML does not cover other devices.
#[cfg(feature = "cuda")]
fn used_device_memory(device: Device) -> Option<u64> {
    use nvml_wrapper::Nvml;
    use std::sync::OnceLock;
    static NVML: OnceLock<Option<Nvml>> = OnceLock::new();
    let Device::Cuda(index) = device else { return None };
    let unavailable = |error| tracing::warn!("cannot read GPU memory usage, NVML is not available: {error}");
    let nvml = NVML.get_or_init(|| Nvml::init().map_err(unavailable).ok()).as_ref()?;
    Some(nvml.device_by_index(u32::try_from(index).ok()?).ok()?.memory_info().ok()?.used)
}

#[cfg(not(feature = "cuda"))]
fn used_device_memory(_: Device) -> Option<u64> {
    None
}

const VALID_NAMES: &str = "the names of metrics and labels are valid";

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("shortcut")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(options(name, help), labels).expect(VALID_NAMES)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(options(name, help)).expect(VALID_NAMES)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(options(name, help), labels).expect(VALID_NAMES)
}

fn histogram(name: &str, help: &str) -> Histogram {
    Histogram::with_opts(HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec())).expect(VALID_NAMES)
}

fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::from(options(name, help)).buckets(buckets.to_vec()), labels).expect(VALID_NAMES)
}
