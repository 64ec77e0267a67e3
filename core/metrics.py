"""Prometheus metrics of the whole service.

With several processes each writes its own files in PROMETHEUS_MULTIPROC_DIR (set by scripts/serve.py before they
start), and any of them answers a scrape for all.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
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
        counter = partial(Counter, registry=registry)
        timing = partial(Histogram, registry=registry, buckets=_LATENCY_BUCKETS)
        sum_of_all = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        newest = partial(Gauge, registry=registry, multiprocess_mode="mostrecent")
        self.requests = counter("http_requests", "Requests by route and status", ["method", "route", "status"])
        self.request_seconds = timing("http_request_duration_seconds", "Time to answer", ["route"])
        self.generations = counter("generations", "Generations by outcome", ["mode", "provider", "outcome"])
        self.provider_seconds = timing(
            "provider_call_seconds", "Time of a provider's answer, tries together", ["provider"]
        )
        self.text_seconds = timing("text_call_seconds", "Time of a text model's answer, tries together", ["provider"])
        self.text_answers = counter(
            "text_answers", "Answers of the text model: as asked for, at the second try, or not", ["outcome"]
        )
        self.provider_retries = counter("provider_retries", "Calls that were tried again", ["provider", "reason"])
        self.step_seconds = timing("generation_step_seconds", "Time of each step of a generation", ["step"])
        self.running_generations = sum_of_all("generations_running", "Generations under way")
        self.tasks_ended = counter("tasks_ended", "Tasks by how they ended", ["kind", "status", "reason"])
        self.webhook_tries = counter("webhook_tries", "Tries to deliver a webhook by what came of them", ["outcome"])
        self.event_streams = sum_of_all("event_streams_open", "Watchers of tasks")
        self.quota_points = newest("quota_points", "Today's pool: used and limit", ["kind"])
        self.reservations = counter("quota_reservations", "Reservations by what became of them", ["outcome"])
        self.rate_limit_failures = counter(
            "rate_limit_failures", "Requests let through because the limiter's Redis was away"
        )
        self.verdicts = counter("moderation_verdicts", "Prompts by what the text model's layer decided", ["decision"])
        self.audit_failures = counter("audit_write_failures", "Audit entries that were not written")
        self.retention_runs = counter("retention_runs", "Retention runs by outcome", ["outcome"])
        self.retention_images = counter("retention_images", "Images that the retention run has removed", ["reason"])
        self.retention_bytes = counter("retention_bytes", "Their bytes", ["reason"])
        self.stored_bytes = newest(
            "images_stored_bytes", "Bytes of all images after the last retention run, with MAX_STORAGE_GB"
        )
        self.swept = counter("sweep_actions", "What the worker's sweep put right", ["action"])

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
