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

from fastapi import FastAPI, Request

from dicom_io.codec_pool import CodecPool
from inference.api.access import Access, identity_of
from inference.api.app import Door, HttpOptions, create_app
from inference.api.deps import ApiContext
from inference.api.guards import host_name
from inference.api.health import Health, database_probe, disk_probe
from inference.api.keys import ApiKeys, AttemptLimiter
from inference.api.oidc import OidcClient, OidcOptions
from inference.api.read_ahead import ReadAhead
from inference.api.server import HttpServer, listening_socket
from inference.api.sessions import Sessions
from inference.api.signing_in import SigningIn
from inference.api.trail import AccessTrail
from inference.api.view_cache import ViewCache
from inference.backends.triton_launch import TritonServerOptions
from inference.domain.job import Priority, RetryPolicy
from inference.domain.patient import Authorities
from inference.domain.report import FhirDestination, Hl7Destination
from inference.domain.result import Destination, DicomwebDestination, DimseDestination
from inference.engines import EmbeddedTriton, Engine, InThisProcess, TritonByAddress
from inference.gateways import (
    dicomweb,
    dicomweb_pixels,
    dicomweb_rendered,
    dicomweb_retrieve,
    dicomweb_search,
    ups_channel,
    ups_rs,
)
from inference.gateways.archive_removal import ArchiveRemover
from inference.gateways.commitment import make_asker
from inference.gateways.conformance import statement
from inference.gateways.destination_check import check_destination
from inference.gateways.dicomweb import Stow
from inference.gateways.dicomweb_pixels import DicomwebPixels
from inference.gateways.dicomweb_rendered import DicomwebRendered
from inference.gateways.dicomweb_retrieve import DicomwebRetrieve
from inference.gateways.dicomweb_search import DicomwebSearch
from inference.gateways.dicomweb_store import DicomwebStore
from inference.gateways.dimse import DimseServer, offered_contexts
from inference.gateways.dimse_association import DimseSettings
from inference.gateways.fhir import routes as fhir_routes
from inference.gateways.fhir.routes import FhirApi
from inference.gateways.fhir.sender import FhirSender
from inference.gateways.hl7_inbound import Hl7Receiver
from inference.gateways.hl7_report import Hl7Sender
from inference.gateways.mllp import MllpServer, MllpTls
from inference.gateways.senders import make_sender
from inference.gateways.ups import Ups
from inference.gateways.ups_channel import EventChannel
from inference.gateways.ups_dimse import UpsDimse
from inference.gateways.ups_events import EventReporter, Receiver
from inference.gateways.ups_rs import UpsRs
from inference.gateways.watch import FolderWatcher
from inference.gauges import gauges
from inference.jobs.archive import ArchiveLimits
from inference.jobs.change_reports import ChangeReportWorker
from inference.jobs.commitment import CommitmentDesk
from inference.jobs.completion import CompletionRule
from inference.jobs.delivery import DeliveryWorker
from inference.jobs.index_backfill import IndexBackfill
from inference.jobs.intake import Intake, IntakeSettings
from inference.jobs.measured import MeasuredIntake, MeasuredProcessor, delivery_observer
from inference.jobs.reporting import ReportWorker
from inference.jobs.retraction import RetractionWorker
from inference.jobs.review_desk import ReviewDesk
from inference.jobs.statements import StatementWorker
from inference.jobs.study_processor import ModelStudyProcessor
from inference.jobs.sweep import data_folder_lock, sweep
from inference.jobs.worker import Worker
from inference.jobs.worklist_clock import WorklistClock
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
CODEC_PROCESSES = 2
"""Decoders for what is asked over DICOMweb; each is started when first needed."""

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
    backfill: IndexBackfill
    clock: WorklistClock
    reporter: EventReporter
    read_ahead: ReadAhead | None
    mllp: MllpServer | None
    reports: tuple[ReportWorker, ...]


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
    def hl7_port(self) -> int:
        """The port of the HL7 receiver.

        Raises
        ------
        ServiceStartError
            It is not running.
        """
        mllp = self._started().mllp
        if mllp is None:
            raise ServiceStartError("hl7_port: is not set")
        return mllp.port

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
            if parts.mllp is not None:
                parts.mllp.stop()
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
        destinations = destinations_of(settings)
        processor = MeasuredProcessor(
            ModelStudyProcessor(
                model_repo=self._model_repo,
                predictor=engine,
                encodings=encodings_for(settings),
                engine_cache_dir=settings.engine_cache_dir,
            ),
            metrics,
        )
        backfill = IndexBackfill(database, objects, intake.settings)
        parts = Parts(
            dimse=DimseServer(
                intake,
                dimse_settings(settings),
                committed=CommitmentDesk(database=database).answer,
                ups=make_ups(settings, database),
            ),
            http=HttpServer(
                self._app(context, intake, backfill),
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
            backfill=backfill,
            clock=WorklistClock(database),
            reporter=EventReporter(
                database,
                [
                    Receiver(ae_title=one.ae_title, host=one.host, port=one.port)
                    for one in settings.ups_receivers
                ],
                ae_title=settings.dicom_ae_title,
            ),
            read_ahead=ReadAhead(context, max_bytes=settings.view_cache_mib * MIB)
            if settings.read_ahead
            else None,
            mllp=make_mllp(settings, database, metrics),
            reports=tuple(
                make_report_worker(one, settings, database)
                for one in settings.destinations
                if one.takes_reports
            ),
        )
        if not self._stop.is_set():
            self._open(parts)

    def _open(self, parts: Parts) -> None:
        try:
            parts.dimse.start()
        except OSError as error:
            port = self._settings.dicom_port
            raise ServiceStartError(f"dicom_port {port}: {error.strerror or error}") from error
        if parts.mllp is not None:
            try:
                parts.mllp.start()
            except OSError as error:
                parts.dimse.stop()
                raise ServiceStartError(f"hl7_port: {error.strerror or error}") from error
        parts.http.start()
        self._parts = parts
        log.info("doors are open", http=self.http_url, dicom=self.dicom_address)
        self._start_backfill(parts.backfill)
        parts.engine.start()
        if self._stop.is_set():
            return
        runners: list[tuple[str, Callable[[threading.Event], None]]] = [
            *((worker.name, worker.run) for worker in parts.workers),
            *((delivery.name, delivery.run) for delivery in parts.deliveries),
            (parts.clock.name, parts.clock.run),
            (parts.reporter.name, parts.reporter.run),
        ]
        if parts.deliveries:
            outboxes = (parts.statements, parts.change_reports, parts.retractions)
            runners += [(outbox.name, outbox.run) for outbox in outboxes]
        if parts.read_ahead is not None:
            runners.append(("read-ahead", parts.read_ahead.run))
        runners += [(report.name, report.run) for report in parts.reports]
        if parts.watcher is not None:
            runners.append(("watch-folder", parts.watcher.run))
        for name, run in runners:
            thread = threading.Thread(target=run, args=(self._stop,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        log.info("the service is ready", backend=self._settings.backend)

    def _start_backfill(self, backfill: IndexBackfill) -> None:
        """Run what ends by itself beside the runners, whose end would mean a fault."""
        thread = threading.Thread(
            target=backfill.run, args=(self._stop,), name="dicom-index", daemon=True
        )
        thread.start()
        self._stack.callback(thread.join, 5.0)

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
        trail = AccessTrail(database)
        self._stack.callback(trail.stop)
        return ApiContext(
            database=database,
            objects=objects,
            intake=intake,
            models=models,
            views=views,
            access=Access(
                is_on=settings.is_auth_on,
                keys=ApiKeys(settings.keys_path),
                sessions=Sessions(database),
                limiter=AttemptLimiter(),
                signing_in=SigningIn(database=database),
                trail=trail,
                oidc=make_oidc(settings),
            ),
            health=health,
            metrics=metrics,
            version=SOFTWARE_VERSION,
            dicom_address=f"{settings.dicom_ae_title}@{settings.dicom_host}:{settings.dicom_port}",
            destinations=tuple(make_destination(one, settings) for one in settings.destinations),
            check_destination=check_destination,
            watermark_bytes=settings.min_free_disk_mib * MIB,
            max_upload_parts=settings.max_archive_entries,
            promoting_models=frozenset(settings.reading_promoting_models),
            reviews=ReviewDesk(
                database=database,
                objects=objects,
                models=models,
                destinations=destinations_of(settings),
                encodings=encodings_for(settings),
            ),
            statement=lambda routes: statement(
                routes, offered_contexts(make_ups(settings, database))
            ),
        )

    def _app(self, context: ApiContext, intake: Intake, backfill: IndexBackfill) -> FastAPI:
        settings = self._settings
        hosts = frozenset(host.lower() for host in settings.allowed_hosts)
        if is_loopback(settings.http_host):
            hosts |= LOOPBACK_NAMES
        if hosts and settings.public_url:
            hosts |= {host_name(settings.public_url.partition("://")[2].strip("/").lower())}
        doors = self._dicomweb(context, intake, backfill)
        options = HttpOptions(
            allowed_hosts=hosts,
            max_upload_bytes=settings.max_upload_mib * MIB,
            max_other_bytes=settings.max_json_kib * 1024,
            is_behind_tls=(settings.public_url or "").startswith("https://"),
        )
        return create_app(context, options, doors=doors)

    def _dicomweb(
        self, context: ApiContext, intake: Intake, backfill: IndexBackfill
    ) -> tuple[Door, ...]:
        pool = self._stack.enter_context(CodecPool(CODEC_PROCESSES))
        store = DicomwebStore(context.database, context.objects, pool)
        stow = Stow(intake=intake, max_parts=self._settings.max_archive_entries)
        searching = DicomwebSearch(database=context.database, is_complete=lambda: backfill.is_done)
        fhir = FhirApi(
            context.database,
            authorities_of(self._settings),
            imaging_selection=self._settings.fhir_imaging_selection,
        )
        return (
            Door(router=fhir.router(), permissions=fhir_routes.PERMISSIONS),
            Door(router=stow.router(), permissions=dicomweb.PERMISSIONS),
            Door(router=searching.router(), permissions=dicomweb_search.PERMISSIONS),
            Door(
                router=DicomwebRetrieve(store).router(),
                permissions=dicomweb_retrieve.PERMISSIONS,
            ),
            Door(
                router=DicomwebRendered(store).router(),
                permissions=dicomweb_rendered.PERMISSIONS,
            ),
            Door(router=DicomwebPixels(store).router(), permissions=dicomweb_pixels.PERMISSIONS),
            Door(
                router=UpsRs(ups=Ups(database=context.database), name_of=_asker_name).router(),
                permissions=ups_rs.PERMISSIONS,
            ),
            Door(
                router=EventChannel(database=context.database).router(),
                permissions=ups_channel.PERMISSIONS,
            ),
        )

    def _started(self) -> Parts:
        if self._parts is None:
            raise ServiceStartError("the service is not running")
        return self._parts


def _asker_name(request: Request) -> str:
    """Return who asks, for a door that does not know how this is found out."""
    identity = identity_of(request)
    return identity.name if identity else ""


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
    asked = {
        kind
        for one in settings.destinations
        if not one.takes_reports
        for kind in one.delivery.kinds
    }
    return tuple(sorted(asked))


def make_ups(settings: Settings, database: Database) -> UpsDimse:
    """Return the worklist as the DICOM receiver offers it."""
    return UpsDimse(
        ups=Ups(database=database),
        receivers=frozenset(one.ae_title for one in settings.ups_receivers),
    )


def destinations_of(settings: Settings) -> tuple[Destination, ...]:
    """Return where objects go; HL7 and FHIR systems take reports instead."""
    return tuple(
        make_destination(one, settings) for one in settings.destinations if not one.takes_reports
    )


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


def make_oidc(settings: Settings) -> OidcClient | None:
    """Return the client of the identity provider, where one is set."""
    if settings.oidc_issuer is None or settings.oidc_client_secret is None:
        return None
    return OidcClient(
        OidcOptions(
            issuer=settings.oidc_issuer,
            client_id=settings.oidc_client_id or "",
            client_secret=settings.oidc_client_secret.get_secret_value(),
            redirect_uri=f"{(settings.public_url or '').rstrip('/')}/sign-in/provider/answer",
            label=settings.oidc_label,
            roles_claim=settings.oidc_roles_claim,
            roles={value: frozenset(roles) for value, roles in settings.oidc_roles.items()},
        )
    )


def authorities_of(settings: Settings) -> Authorities:
    """Return whose the patient numbers are that come through any door."""
    return Authorities(
        names=settings.patient_authorities, default=settings.default_patient_authority or ""
    )


def make_mllp(settings: Settings, database: Database, metrics: Metrics) -> MllpServer | None:
    """Return the HL7 receiver, not started; None where no port is set."""
    if settings.hl7_port is None:
        return None
    tls = None
    if settings.hl7_tls_certificate is not None and settings.hl7_tls_key is not None:
        tls = MllpTls(
            certificate=settings.hl7_tls_certificate,
            key=settings.hl7_tls_key,
            client_ca=settings.hl7_tls_client_ca,
        )
    receiver = Hl7Receiver(
        database,
        authorities_of(settings),
        senders=frozenset(settings.hl7_senders),
        refused=lambda code: metrics.rejections.labels("hl7", code).inc(),
    )
    return MllpServer(receiver.handle, host=settings.hl7_host, port=settings.hl7_port, tls=tls)


def make_report_worker(
    one: DestinationSettings, settings: Settings, database: Database
) -> ReportWorker:
    """Return what tells a destination of results."""
    if one.kind == "hl7":
        if one.host is None or one.port is None:
            raise ServiceStartError(f"destination {one.name} is not complete")
        to = Hl7Destination(
            name=one.name,
            host=one.host,
            port=one.port,
            receiving_application=one.receiving_application,
            receiving_facility=one.receiving_facility,
            tls_ca=one.tls_ca,
            after_sign_off=one.release == "after sign-off",
            timeout_s=one.timeout_s,
        )
        sender = Hl7Sender(database, to, authorities_of(settings))
        return ReportWorker(database=database, destination=to, sender=sender)
    token = one.token.get_secret_value() if one.token else None
    server = FhirDestination(
        name=one.name,
        url=one.url or "",
        headers={"Authorization": f"Bearer {token}"} if token else {},
        after_sign_off=one.release == "after sign-off",
        imaging_selection=one.imaging_selection,
        timeout_s=one.timeout_s,
    )
    return ReportWorker(database=database, destination=server, sender=FhirSender(database, server))


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
        authorities=authorities_of(settings),
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
