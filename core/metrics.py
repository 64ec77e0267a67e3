"""Prometheus metrics of the whole service.

With several processes each writes its own files in PROMETHEUS_MULTIPROC_DIR (set by scripts/serve.py before they
start), and any of them answers a scrape for all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

_LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


@dataclass(frozen=True)
class Measured:
    """A gauge whose truth is not in these processes, asked for at a scrape: values by `label`, or one under ""."""

    name: str
    help: str
    values: Mapping[str, float]
    label: str = ""


class _Measurements(Collector):
    """They are not kept: whichever process answers, what is not there any more is not told of."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._measured = measured

    def collect(self) -> Iterator[GaugeMetricFamily]:
        for found in self._measured:
            family = GaugeMetricFamily(found.name, found.help, labels=[found.label] if found.label else [])
            for name, value in found.values.items():
                family.add_metric([name] if found.label else [], value)
            yield family


class Metrics:
    """One instance a process, made by the composition root."""

    def __init__(self, shared_folder: Path | None = None) -> None:
        self._shared_folder = shared_folder
        registry = self._registry = CollectorRegistry()
        self.requests = Counter(
            "http_requests", "Requests by route and status", ["method", "route", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "http_request_duration_seconds", "Time to answer", ["route"], registry=registry, buckets=_LATENCY_BUCKETS
        )
        self.generations = Counter(
            "generations", "Generations by outcome", ["mode", "provider", "outcome"], registry=registry
        )
        self.provider_seconds = Histogram(
            "provider_call_seconds",
            "Time of a provider's answer, tries together",
            ["provider"],
            registry=registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.text_seconds = Histogram(
            "text_call_seconds",
            "Time of a text model's answer, tries together",
            ["provider"],
            registry=registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.text_answers = Counter(
            "text_answers",
            "Answers of the text model: as asked for, at the second try, or not",
            ["outcome"],
            registry=registry,
        )
        self.provider_retries = Counter(
            "provider_retries", "Calls that were tried again", ["provider", "reason"], registry=registry
        )
        self.step_seconds = Histogram(
            "generation_step_seconds",
            "Time of each step of a generation",
            ["step"],
            registry=registry,
            buckets=_LATENCY_BUCKETS,
        )
        self.running_generations = Gauge(
            "generations_running", "Generations under way", registry=registry, multiprocess_mode="livesum"
        )
        self.tasks_ended = Counter(
            "tasks_ended", "Tasks by how they ended", ["kind", "status", "reason"], registry=registry
        )
        self.webhook_tries = Counter(
            "webhook_tries", "Tries to deliver a webhook by what came of them", ["outcome"], registry=registry
        )
        self.event_streams = Gauge(
            "event_streams_open", "Watchers of tasks", registry=registry, multiprocess_mode="livesum"
        )
        self.quota_points = Gauge(
            "quota_points", "Today's pool: used and limit", ["kind"], registry=registry, multiprocess_mode="mostrecent"
        )
        self.reservations = Counter(
            "quota_reservations", "Reservations by what became of them", ["outcome"], registry=registry
        )
        self.rate_limit_failures = Counter(
            "rate_limit_failures", "Requests let through because the limiter's Redis was away", registry=registry
        )
        self.verdicts = Counter(
            "moderation_verdicts", "Prompts by what the text model's layer decided", ["decision"], registry=registry
        )
        self.audit_failures = Counter("audit_write_failures", "Audit entries that were not written", registry=registry)
        self.retention_runs = Counter("retention_runs", "Retention runs by outcome", ["outcome"], registry=registry)
        self.retention_images = Counter(
            "retention_images", "Images that the retention run has removed", ["reason"], registry=registry
        )
        self.retention_bytes = Counter("retention_bytes", "Their bytes", ["reason"], registry=registry)
        self.stored_bytes = Gauge(
            "images_stored_bytes",
            "Bytes of all images after the last retention run, with MAX_STORAGE_GB",
            registry=registry,
            multiprocess_mode="mostrecent",
        )
        self.swept = Counter("sweep_actions", "What the worker's sweep put right", ["action"], registry=registry)

    def render(self, measured: Sequence[Measured] = ()) -> bytes:
        """The Prometheus text of all processes, and what was measured for it."""
        now = CollectorRegistry()
        now.register(_Measurements(measured))
        return self._counted() + generate_latest(now)

    def _counted(self) -> bytes:
        if self._shared_folder is None:
            return generate_latest(self._registry)
        merged = CollectorRegistry()
        MultiProcessCollector(merged, path=str(self._shared_folder))  # type: ignore[no-untyped-call]
        return generate_latest(merged)
