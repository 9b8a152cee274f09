//! What the server counts and measures, for Prometheus.

use crate::batching::BatchingMetrics;
use crate::device_memory;
use crate::registry::Registry;
use model::engine::Device;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, TextEncoder,
};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Seconds, from what an engine needs at least to what no client waits for.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
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
    device_memory_bytes: IntGaugeVec,
    /// Held by who looks up what levels there are.
    looking: Mutex<()>,
}

/// What is looked up when somebody asks.
pub struct Levels<'a> {
    pub models: &'a Registry,
    pub decoding: usize,
    pub in_flight_bytes: usize,
}

impl Metrics {
    pub fn new() -> Self {
        let registry = prometheus::Registry::new();
        let metrics = Metrics {
            requests: counters("requests_total", "Requests that were answered", &["route", "status", "model"]),
            request_seconds: histograms(
                "request_seconds",
                "From a request's head to its answer's",
                &["route"],
                &SECONDS,
            ),
            refusals: counters("refusals_total", "Requests that were answered with an error, by its code", &["reason"]),
            queue_seconds: histograms("queue_seconds", "An image's wait for its batch to begin", &["model"], &SECONDS),
            batch_size: histograms("batch_size", "Images that went through an engine together", &["model"], &IMAGES),
            inference_seconds: histograms("inference_seconds", "An engine's time for a batch", &["model"], &SECONDS),
            decode_queue_seconds: histogram("decode_queue_seconds", "A photo's wait for a thread to decode it"),
            decode_seconds: histogram("decode_seconds", "Decoding a photo"),
            preprocess_seconds: histogram("preprocess_seconds", "Resizing and cropping a photo"),
            connections: gauge("connections", "Connections that are open"),
            queue_depth: gauges("queue_depth", "Images that wait for an engine", &["model"]),
            decode_queue_depth: gauge("decode_queue_depth", "Photos that are being decoded or wait for it"),
            in_flight_bytes: gauge("in_flight_bytes", "Bytes of bodies, and of what is made of them, that are held"),
            model_info: gauges("model_info", "1 for each model", &["model", "version", "architecture", "device"]),
            model_ready: gauges("model_ready", "Whether the model's engines are warm", &["model"]),
            model_weights_bytes: gauges("model_weights_bytes", "Size of the model's checkpoint in memory", &["model"]),
            device_memory_bytes: gauges("device_memory_bytes", "Taken memory of NVIDIA's GPUs", &["device"]),
            registry,
            looking: Mutex::default(),
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
            Box::new(self.device_memory_bytes.clone()),
            // Memory, processor time, open files, start.
            #[cfg(target_os = "linux")]
            Box::new(prometheus::process_collector::ProcessCollector::for_self()),
        ];
        all.into_iter().for_each(|collector| registry.register(collector).expect("every metric has a name of its own"));
    }

    /// Those of a model's engines.
    pub fn batching(&self, model: &str) -> BatchingMetrics {
        BatchingMetrics {
            wait: self.queue_seconds.with_label_values(&[model]),
            inference: self.inference_seconds.with_label_values(&[model]),
            size: self.batch_size.with_label_values(&[model]),
        }
    }

    /// A model that is not served has none.
    pub fn forget(&self, model: &str) {
        for histograms in [&self.queue_seconds, &self.batch_size, &self.inference_seconds] {
            // There are none if nobody has tried to load it.
            let _ = histograms.remove_label_values(&[model]);
        }
    }

    /// A request that was answered. `model` is empty where none was asked, `refusal` is the code of an error.
    pub fn answered(&self, route: &str, status: u16, model: &str, refusal: Option<&str>, took: Duration) {
        self.requests.with_label_values(&[route, &status.to_string(), model]).inc();
        self.request_seconds.with_label_values(&[route]).observe(took.as_secs_f64());
        if let Some(code) = refusal {
            self.refused(code);
        }
    }

    pub fn refused(&self, reason: &str) {
        self.refusals.with_label_values(&[reason]).inc();
    }

    /// Everything, in Prometheus' text format.
    pub fn text(&self, levels: Levels) -> String {
        let _looking = self.looking.lock().unwrap_or_else(PoisonError::into_inner);
        self.decode_queue_depth.set(levels.decoding as i64);
        self.in_flight_bytes.set(levels.in_flight_bytes as i64);
        // Models that are gone leave no values behind.
        let gauges = [&self.queue_depth, &self.model_info, &self.model_ready, &self.model_weights_bytes];
        gauges.iter().for_each(|gauges| gauges.reset());
        for model in levels.models.current().iter() {
            let (name, architecture) = (model.name(), model.metadata.architecture.name());
            self.queue_depth.with_label_values(&[name]).set(model.batcher.waiting().images() as i64);
            let devices: Vec<String> = model.devices.iter().map(Device::to_string).collect();
            self.model_info.with_label_values(&[name, &model.id.version, &architecture, &devices.join(",")]).set(1);
            self.model_ready.with_label_values(&[name]).set(i64::from(model.batcher.is_ready()));
            self.model_weights_bytes.with_label_values(&[name]).set(model.weights.len() as i64);
            for device in &model.devices {
                if let Some(bytes) = device_memory::taken(*device) {
                    self.device_memory_bytes.with_label_values(&[&device.to_string()]).set(bytes as i64);
                }
            }
        }
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text).expect("memory can be written to");
        String::from_utf8(text).expect("the text format is text")
    }
}

const SOUND: &str = "the names of metrics and labels are sound";

fn options(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("shortcut")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    IntCounterVec::new(options(name, help), labels).expect(SOUND)
}

fn gauge(name: &str, help: &str) -> IntGauge {
    IntGauge::with_opts(options(name, help)).expect(SOUND)
}

fn gauges(name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    IntGaugeVec::new(options(name, help), labels).expect(SOUND)
}

fn histogram(name: &str, help: &str) -> Histogram {
    Histogram::with_opts(HistogramOpts::from(options(name, help)).buckets(SECONDS.to_vec())).expect(SOUND)
}

fn histograms(name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    HistogramVec::new(HistogramOpts::from(options(name, help)).buckets(buckets.to_vec()), labels).expect(SOUND)
}
