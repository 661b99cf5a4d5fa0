"""Wires the concrete parts into one service: the only place that knows which class is used."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI

from inference.api.access import Access
from inference.api.app import HttpOptions, create_app
from inference.api.deps import ApiContext
from inference.api.health import Health, database_probe, disk_probe
from inference.api.keys import ApiKeys, AttemptLimiter, Sessions
from inference.api.read_ahead import ReadAhead
from inference.api.server import HttpServer, listening_socket
from inference.api.view_cache import ViewCache
from inference.backends.triton_launch import TritonServerOptions
from inference.domain.job import Priority, RetryPolicy
from inference.domain.result import Destination, DicomwebDestination, DimseDestination
from inference.engines import EmbeddedTriton, Engine, InThisProcess, TritonByAddress
from inference.gateways.archive_removal import ArchiveRemover
from inference.gateways.commitment import make_asker
from inference.gateways.dicomweb import Stow
from inference.gateways.dimse import DimseServer
from inference.gateways.dimse_association import DimseSettings
from inference.gateways.senders import make_sender
from inference.gateways.watch import FolderWatcher
from inference.gauges import gauges
from inference.jobs.archive import ArchiveLimits
from inference.jobs.change_reports import ChangeReportWorker
from inference.jobs.commitment import CommitmentDesk
from inference.jobs.completion import CompletionRule
from inference.jobs.delivery import DeliveryWorker
from inference.jobs.intake import Intake, IntakeSettings
from inference.jobs.measured import MeasuredIntake, MeasuredProcessor, delivery_observer
from inference.jobs.retraction import RetractionWorker
from inference.jobs.review_desk import ReviewDesk
from inference.jobs.statements import StatementWorker
from inference.jobs.study_processor import ModelStudyProcessor
from inference.jobs.sweep import data_folder_lock, sweep
from inference.jobs.worker import Worker
from inference.pipeline.spec import ModelSpec, list_models, load_spec
from inference.settings import DestinationSettings, Settings, is_loopback
from inference.start_checks import (
    ServiceStartError,
    prepare_data_folder,
    refuse_shadowed_package,
    require_kernel_threads,
)
from inference.storage import proposals
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import Metrics, get_logger
from inference.version import SOFTWARE_VERSION

MIB = 2**20
DEFAULT_MODEL_REPO = Path(__file__).resolve().parents[1] / "model_repo"
LOOPBACK_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

log = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What `Service` starts and stops, in the order of starting."""

    dimse: DimseServer
    http: HttpServer
    engine: Engine
    workers: tuple[Worker, ...]
    deliveries: tuple[DeliveryWorker, ...]
    statements: StatementWorker
    change_reports: ChangeReportWorker
    retractions: RetractionWorker
    watcher: FolderWatcher | None
    read_ahead: ReadAhead | None


class Service:
    """The whole service in one process, with Triton as its child.

    Doors open first: what is received is durable without a network to run it. Then the engine,
    then the workers. Stopping goes the other way round and takes a bounded time; a job that is
    not done by then is taken up again at the next start.
    """

    def __init__(self, settings: Settings, *, engine: Engine | None = None) -> None:
        self._settings = settings
        self._given_engine = engine
        self._stop = threading.Event()
        self._stack = ExitStack()
        self._threads: list[threading.Thread] = []
        self._parts: Parts | None = None

    @property
    def http_url(self) -> str:
        """Where the pages and the API are."""
        host, port = self._started().http.address
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def dicom_address(self) -> str:
        """Where C-STORE goes: ``AETITLE@host:port``."""
        settings = self._settings
        port = self._started().dimse.port
        return f"{settings.dicom_ae_title}@{settings.dicom_host}:{port}"

    @property
    def dicom_port(self) -> int:
        """The port of the DICOM receiver."""
        return self._started().dimse.port

    @property
    def ae_title(self) -> str:
        """The name of the DICOM receiver."""
        return self._settings.dicom_ae_title

    @property
    def is_healthy(self) -> bool:
        """Whether every thread that should run does."""
        alive = all(thread.is_alive() for thread in self._threads)
        return alive and self._started().http.is_alive

    def start(self) -> None:
        """Check, sweep, open the doors, start the engine, and begin to work.

        Raises
        ------
        ServiceStartError, SettingsError, ModelError, BackendError, StorageError
            Nothing is left open.
        """
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Close the doors, let what runs finish for a while, and end; does nothing twice."""
        self._stop.set()
        until_s = time.monotonic() + self._settings.stop_timeout_s
        parts, self._parts = self._parts, None
        if parts is not None:
            parts.dimse.stop()
            parts.http.stop(max(1.0, until_s - time.monotonic()))
        for thread in self._threads:
            thread.join(max(0.0, until_s - time.monotonic()))
        unfinished = [thread.name for thread in self._threads if thread.is_alive()]
        self._threads.clear()
        if unfinished:
            log.warning(
                "stopping with work in hand; it is repeated at the next start",
                unfinished=unfinished,
            )
        if parts is not None:
            parts.engine.stop()
        self._stack.close()

    def _start(self) -> None:
        settings = self._settings
        refuse_shadowed_package()
        require_kernel_threads()
        prepare_data_folder(settings.data_dir)
        models = self._models()
        self._stack.enter_context(data_folder_lock(settings.data_dir))
        bound = self._bind()
        database, objects = self._open_storage()
        policy = RetryPolicy(max_tries=settings.job_max_tries)
        sweep(database, objects, policy=policy)
        with database.write() as connection:  # nobody watched the inputs of open proposals
            proposals.expire_open(connection, now=database.now(connection))
        metrics = Metrics()
        intake = MeasuredIntake(
            database=database,
            objects=objects,
            settings=intake_settings(settings),
            metrics=metrics,
        )
        engine = self._given_engine or make_engine(settings, tuple(models), self._model_repo)
        context = self._context(database, objects, intake, engine, metrics, models)
        destinations = tuple(make_destination(one, settings) for one in settings.destinations)
        processor = MeasuredProcessor(
            ModelStudyProcessor(
                model_repo=self._model_repo,
                predictor=engine,
                encodings=encodings_for(settings),
                engine_cache_dir=settings.engine_cache_dir,
            ),
            metrics,
        )
        parts = Parts(
            dimse=DimseServer(
                intake, dimse_settings(settings), committed=CommitmentDesk(database=database).answer
            ),
            http=HttpServer(
                self._app(context, intake),
                bound,
                max_connections=settings.max_http_connections,
                stop_timeout_s=settings.stop_timeout_s,
            ),
            engine=engine,
            workers=tuple(
                Worker(
                    database=database,
                    objects=objects,
                    processor=processor,
                    destinations=destinations,
                    policy=policy,
                    name=name,
                    least_urgent=least_urgent,
                    max_wait_s=settings.max_wait_s,
                )
                for name, least_urgent in worker_slots(settings)
            ),
            deliveries=tuple(
                DeliveryWorker(
                    database=database,
                    objects=objects,
                    destination=destination,
                    sender=make_sender(destination),
                    delivered=delivery_observer(metrics),
                    asker=make_asker(destination),
                )
                for destination in destinations
            ),
            statements=StatementWorker(
                database=database,
                objects=objects,
                destinations=destinations,
                is_research={name: spec.status == "research" for name, spec in models.items()},
            ),
            change_reports=ChangeReportWorker(
                database=database, objects=objects, destinations=destinations, models=models
            ),
            retractions=RetractionWorker(
                database=database,
                objects=objects,
                destinations=destinations,
                remover=ArchiveRemover(),
            ),
            watcher=FolderWatcher(intake, settings.watch_dir) if settings.watch_dir else None,
            read_ahead=ReadAhead(context, max_bytes=settings.view_cache_mib * MIB)
            if settings.read_ahead
            else None,
        )
        if not self._stop.is_set():
            self._open(parts)

    def _open(self, parts: Parts) -> None:
        try:
            parts.dimse.start()
        except OSError as error:
            port = self._settings.dicom_port
            raise ServiceStartError(f"dicom_port {port}: {error.strerror or error}") from error
        parts.http.start()
        self._parts = parts
        log.info("doors are open", http=self.http_url, dicom=self.dicom_address)
        parts.engine.start()
        if self._stop.is_set():
            return
        runners: list[tuple[str, Callable[[threading.Event], None]]] = []
        runners += [(worker.name, worker.run) for worker in parts.workers]
        runners += [(delivery.name, delivery.run) for delivery in parts.deliveries]
        if parts.deliveries:
            for outbox in (parts.statements, parts.change_reports, parts.retractions):
                runners.append((outbox.name, outbox.run))
        if parts.read_ahead is not None:
            runners.append(("read-ahead", parts.read_ahead.run))
        if parts.watcher is not None:
            runners.append(("watch-folder", parts.watcher.run))
        for name, run in runners:
            thread = threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("the service is ready", backend=self._settings.backend)

    @property
    def _model_repo(self) -> Path:
        return (self._settings.model_repo or DEFAULT_MODEL_REPO).resolve()

    def _models(self) -> dict[str, ModelSpec]:
        names = list_models(self._model_repo)
        if not names:
            raise ServiceStartError(f"model_repo: there is no model in {self._model_repo}")
        return {name: load_spec(self._model_repo / name) for name in names}

    def _bind(self) -> socket.socket:
        settings = self._settings
        try:
            bound = listening_socket(settings.http_host, settings.http_port)
        except OSError as error:
            raise ServiceStartError(
                f"http_port {settings.http_port}: {error.strerror or error}"
            ) from error
        self._stack.callback(bound.close)
        return bound

    def _open_storage(self) -> tuple[Database, ObjectStore]:
        settings = self._settings
        url = settings.database_url
        database = Database.open(
            url.get_secret_value() if url else settings.data_dir / "clinfer.sqlite3"
        )
        self._stack.callback(database.close)
        objects = ObjectStore(settings.data_dir, reserve_bytes=settings.min_free_disk_mib * MIB)
        return database, objects

    def _context(
        self,
        database: Database,
        objects: ObjectStore,
        intake: Intake,
        engine: Engine,
        metrics: Metrics,
        models: dict[str, ModelSpec],
    ) -> ApiContext:
        settings = self._settings
        health = Health(
            (
                database_probe(database),
                disk_probe(settings.data_dir, settings.min_free_disk_mib * MIB),
                engine.checks,
            )
        )
        views = ViewCache(settings.view_cache_mib * MIB)
        threading.Thread(target=views.warm_up, name="views-warm-up", daemon=True).start()
        metrics.information.labels(SOFTWARE_VERSION, settings.backend).set(1)
        metrics.read_at_scrape(gauges(database, settings.data_dir, health, views))
        return ApiContext(
            database=database,
            objects=objects,
            intake=intake,
            models=models,
            views=views,
            access=Access(
                is_on=settings.is_auth_on,
                keys=ApiKeys(settings.keys_path),
                sessions=Sessions(),
                limiter=AttemptLimiter(),
            ),
            health=health,
            metrics=metrics,
            version=SOFTWARE_VERSION,
            dicom_address=f"{settings.dicom_ae_title}@{settings.dicom_host}:{settings.dicom_port}",
            max_upload_parts=settings.max_archive_entries,
            reviews=ReviewDesk(
                database=database,
                objects=objects,
                models=models,
                destinations=[make_destination(one, settings) for one in settings.destinations],
                encodings=encodings_for(settings),
            ),
        )

    def _app(self, context: ApiContext, intake: Intake) -> FastAPI:
        settings = self._settings
        hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        if is_loopback(settings.http_host):
            hosts |= LOOPBACK_NAMES
        stow = Stow(intake=intake, max_parts=settings.max_archive_entries)
        options = HttpOptions(
            allowed_hosts=hosts,
            max_upload_bytes=settings.max_upload_mib * MIB,
            max_other_bytes=settings.max_json_kib * 1024,
        )
        return create_app(context, options, more_routers=(stow.router(),))

    def _started(self) -> Parts:
        if self._parts is None:
            raise ServiceStartError("the service is not running")
        return self._parts


def worker_slots(settings: Settings) -> tuple[tuple[str, Priority], ...]:
    """Return the name of each worker and the least urgent jobs that it takes."""
    return (
        *((f"worker-{number + 1}", Priority.ROUTINE) for number in range(settings.workers)),
        *((f"worker-stat-{number + 1}", Priority.STAT) for number in range(settings.stat_workers)),
    )


def make_engine(settings: Settings, models: tuple[str, ...], model_repo: Path) -> Engine:
    """Return what runs the models, as the settings say."""
    if settings.backend == "local":
        return InThisProcess(
            model_repo,
            models,
            engine_cache_dir=settings.engine_cache_dir,
            memory_budget_mib=settings.memory_budget_mib,
        )
    if settings.triton_address is not None:
        return TritonByAddress(settings.triton_address, model_repo, models)
    return EmbeddedTriton(
        TritonServerOptions(
            model_repo=model_repo,
            models=models,
            data_dir=settings.data_dir,
            model_memory_mib=settings.model_memory_mib,
            engine_cache_dir=settings.engine_cache_dir,
            memory_budget_mib=settings.memory_budget_mib,
        )
    )


def encodings_for(settings: Settings) -> tuple[str, ...]:
    """Return the kinds of object to make: every one that a destination takes."""
    asked = {kind for one in settings.destinations for kind in one.delivery.kinds}
    return tuple(sorted(asked))


def make_destination(one: DestinationSettings, settings: Settings) -> Destination:
    """Return a destination as the delivery knows it."""
    if one.kind == "dicom":
        if one.host is None or one.port is None or one.ae_title is None:
            raise ServiceStartError(f"destination {one.name} is not complete")
        return DimseDestination(
            name=one.name,
            host=one.host,
            port=one.port,
            called_aet=one.ae_title,
            calling_aet=settings.dicom_ae_title,
            timeout_s=one.timeout_s,
            **rules_of(one),
        )
    token = one.token.get_secret_value() if one.token else None
    return DicomwebDestination(
        name=one.name,
        url=one.url or "",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout_s=one.timeout_s,
        **rules_of(one),
    )


def rules_of(one: DestinationSettings) -> dict[str, Any]:
    """Return what goes to a destination, when, and how it is taken back there."""
    profile = one.delivery
    return {
        "kinds": profile.sent_kinds,
        "release": profile.release,
        "is_research": profile.research,
        "commitment": profile.commitment,
        "retract": profile.retract,
        "archive_url": one.archive_url or "",
    }


def intake_settings(settings: Settings) -> IntakeSettings:
    """Return the limits of what is received."""
    return IntakeSettings(
        max_instance_bytes=settings.max_instance_mib * MIB,
        archive=ArchiveLimits(
            max_entries=settings.max_archive_entries,
            max_unpacked_bytes=settings.max_unpacked_mib * MIB,
            max_ratio=settings.max_archive_ratio,
        ),
        completion=CompletionRule(
            quiet_period_s=settings.quiet_period_s, incomplete_wait_s=settings.incomplete_wait_s
        ),
    )


def dimse_settings(settings: Settings) -> DimseSettings:
    """Return where and to whom the DICOM receiver listens."""
    return DimseSettings(
        host=settings.dicom_host,
        port=settings.dicom_port,
        ae_title=settings.dicom_ae_title,
        calling_ae_titles=settings.dicom_calling_ae_titles,
        max_associations=settings.dicom_max_associations,
    )
