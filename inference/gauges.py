"""Metrics that are looked up when somebody asks: queues, results, disk, caches."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from inference.api.health import Health
from inference.api.view_cache import ViewCache
from inference.storage import deliveries, jobs, results
from inference.storage.database import Database
from inference.telemetry import GaugeReading


def gauges(
    database: Database, data_dir: Path, health: Health, views: ViewCache
) -> Callable[[], Iterator[GaugeReading]]:
    """Return the reader that the metrics registry calls."""

    def read() -> Iterator[GaugeReading]:
        with database.read() as connection:
            by_job = jobs.count_by_state(connection)
            by_result = results.count_by_state(connection)
            by_delivery = deliveries.count_by_state(connection)
            oldest = jobs.oldest_waiting_at(connection)
            now = database.now(connection)
        for state, count in by_job.items():
            yield _reading("clinfer_jobs", "Jobs, by state", count, state=state.value)
        for result_state, count in by_result.items():
            yield _reading(
                "clinfer_stored_results",
                "Stored results, by state",
                count,
                state=result_state.value,
            )
        for delivery_state, count in by_delivery.items():
            yield _reading(
                "clinfer_deliveries", "Deliveries, by state", count, state=delivery_state.value
            )
        waited_s = max(0.0, (now - oldest).total_seconds()) if oldest is not None else 0.0
        yield _reading(
            "clinfer_oldest_waiting_job_seconds",
            "How long the first job in the queue waits",
            waited_s,
        )
        yield _reading(
            "clinfer_disk_free_bytes", "Free in the data folder", shutil.disk_usage(data_dir).free
        )
        yield _reading("clinfer_view_cache_bytes", "Held for the study page", views.n_bytes)
        for check in health.checks():
            yield _reading(
                "clinfer_ready", "1 where a part is ready", float(check.is_ready), part=check.name
            )

    return read


def _reading(name: str, text: str, value: float, **labels: str) -> GaugeReading:
    return GaugeReading(name=name, help=text, value=value, labels=labels)
