"""Logs and metrics; every logger of the service comes from here."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, Literal

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

WITHHELD = "[withheld]"
_PATIENT_WORDS = ("patient", "birth", "accession", "referring", "person")
_SECRET_WORDS = ("token", "password", "secret", "authorization", "cookie", "api_key")
_VALUE_LIMIT = 2000
NOISY_LIBRARIES = (
    "alembic",
    "highdicom",
    "httpcore",
    "httpx",
    "pydicom",
    "pynetdicom",
    "uvicorn",
)
"""They tell every step at level info; only their warnings are kept."""


def get_logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return a structured logger; messages carry UIDs and values, never patient data."""
    logger: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return logger


def configure_logging(
    level: Literal["debug", "info", "warning", "error"],
    log_format: Literal["auto", "json", "console"],
) -> None:
    """Send every log line, ours and the libraries', to standard error in one form.

    ``auto`` is coloured text on a terminal and one JSON object per line elsewhere. Fields that name
    a patient or a secret are withheld whoever writes them, and control characters are escaped.
    """
    is_console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        withhold_private_fields,
        structlog.processors.format_exc_info,
        escape_control_characters,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer() if is_console else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                renderer,
            ],
            foreign_pre_chain=shared,
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in NOISY_LIBRARIES:
        logging.getLogger(noisy).setLevel(max(logging.WARNING, root.level))


def withhold_private_fields(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace fields whose name speaks of a patient or a secret, and values that are datasets."""
    for name, value in event.items():
        lowered = name.lower()
        is_private = any(word in lowered for word in (*_PATIENT_WORDS, *_SECRET_WORDS))
        if is_private or type(value).__name__ in {"Dataset", "FileDataset", "PersonName"}:
            event[name] = WITHHELD
    return event


def escape_control_characters(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Make each text one printable line of bounded length, so that input cannot forge a line."""
    for name, value in event.items():
        if isinstance(value, str) and name != "exception":
            short = value if len(value) <= _VALUE_LIMIT else value[:_VALUE_LIMIT] + "…"
            event[name] = short if short.isprintable() else short.encode("unicode_escape").decode()
    return event


class Metrics:
    """The service's Prometheus metrics; one object per service, so tests do not share state."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.http_requests = Counter(
            "clinfer_http_requests",
            "HTTP requests answered",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.http_seconds = Histogram(
            "clinfer_http_request_seconds",
            "Time from request to end of answer",
            ("route",),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60),
            registry=self.registry,
        )
        self.rejections = Counter(
            "clinfer_rejections",
            "Input refused, by door and stable code",
            ("door", "code"),
            registry=self.registry,
        )
        self.instances_received = Counter(
            "clinfer_instances_received",
            "Instances acknowledged, by door",
            ("door",),
            registry=self.registry,
        )
        self.results = Counter(
            "clinfer_results", "Results made", ("model", "state"), registry=self.registry
        )
        self.stage_seconds = Histogram(
            "clinfer_stage_seconds",
            "Time of each stage of a result: the eight of docs/batch.md, and other",
            ("model", "stage"),
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200),
            registry=self.registry,
        )
        self.information = Gauge(
            "clinfer_information", "Always 1", ("version", "backend"), registry=self.registry
        )

    def read_at_scrape(self, read: Callable[[], Iterator[GaugeReading]]) -> None:
        """Register gauges whose values are looked up when someone asks for them."""
        self.registry.register(_Reader(read))


@dataclass(frozen=True, kw_only=True)
class GaugeReading:
    """One value of a gauge read at scrape time."""

    name: str
    help: str
    value: float
    labels: dict[str, str]


class _Reader(Collector):
    def __init__(self, read: Callable[[], Iterator[GaugeReading]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for reading in self._read():
            family = families.setdefault(
                reading.name,
                GaugeMetricFamily(reading.name, reading.help, labels=list(reading.labels)),
            )
            family.add_metric(list(reading.labels.values()), reading.value)
        yield from families.values()

    def describe(self) -> list[Metric]:
        return []
