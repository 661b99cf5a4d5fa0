"""`clinfer serve`: the whole service until Ctrl-C or SIGTERM."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from inference.bootstrap import Service
    from inference.settings import Settings

WATCH_S = 1.0


def serve(
    data: Annotated[
        Path | None, typer.Option("--data", help="Data folder (setting data_dir).")
    ] = None,
    host: Annotated[str | None, typer.Option(help="HTTP address (http_host).")] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port, 0: a free one (http_port).")] = None,
    dicom_host: Annotated[str | None, typer.Option(help="DICOM address (dicom_host).")] = None,
    dicom_port: Annotated[
        int | None, typer.Option(help="DICOM port, 0: a free one (dicom_port).")
    ] = None,
    backend: Annotated[
        Literal["triton", "local"] | None, typer.Option(help="Where models run (backend).")
    ] = None,
    triton: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Triton (triton_address).")
    ] = None,
    model_repo: Annotated[
        Path | None, typer.Option(help="The folder of models (model_repo).")
    ] = None,
    watch: Annotated[
        Path | None, typer.Option(help="A folder to receive from (watch_dir).")
    ] = None,
    settings_file: Annotated[
        Path | None,
        typer.Option(
            "--settings", help="A TOML file (CLINFER_SETTINGS_FILE); see docs/settings.md."
        ),
    ] = None,
) -> None:
    """Serve: DICOM receiver, HTTP API and pages, inference server, workers and delivery.

    Every setting has a CLINFER_... variable and a key in the TOML file; docs/settings.md lists
    them. Stops on Ctrl-C or SIGTERM within the setting stop_timeout_s.
    """
    from inference.bootstrap import Service
    from inference.settings import load_settings
    from inference.telemetry import configure_logging

    settings = load_settings(
        {
            "data_dir": data,
            "http_host": host,
            "http_port": port,
            "dicom_host": dicom_host,
            "dicom_port": dicom_port,
            "backend": backend,
            "triton_address": triton,
            "model_repo": model_repo,
            "watch_dir": watch,
        },
        settings_file=settings_file,
    )
    configure_logging(settings.log_level, settings.log_format)
    service = Service(settings)
    with stop_signals() as stop, running(service, stop):
        if not stop.is_set():
            _say_where(service, settings)
        wait(service, stop)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set; the former handlers come back afterwards."""
    stop = threading.Event()

    def on_signal(number: int, _frame: object) -> None:
        stop.set()
        if number == signal.SIGINT:  # a second Ctrl-C does not wait
            signal.signal(signal.SIGINT, signal.default_int_handler)

    former = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def running(service: Service, stop: threading.Event) -> Iterator[None]:
    """Start a service, and stop it whatever happens; a stop signal ends a slow start too."""
    failures: list[BaseException] = []

    def start() -> None:
        try:
            service.start()
        except BaseException as error:  # noqa: BLE001 - handed to the waiting thread, which raises it
            failures.append(error)

    starting = threading.Thread(target=start, name="start", daemon=True)
    starting.start()
    try:
        while starting.is_alive() and not stop.is_set():
            starting.join(0.1)
        if not starting.is_alive() and failures:
            raise failures[0]
        yield
    finally:
        service.stop()
        starting.join(5.0)


def wait(service: Service, stop: threading.Event) -> None:
    """Return when told to stop.

    Raises
    ------
    ServiceStartError
        A part of the service ended by itself.
    """
    from inference.start_checks import ServiceStartError

    while not stop.wait(WATCH_S):
        if not service.is_healthy:
            raise ServiceStartError("a part of the service ended by itself; the log says more")


def _say_where(service: Service, settings: Settings) -> None:
    """Print where things are, once, for the person who started it."""
    from inference.api.keys import ApiKeys

    auth = (
        "people sign in, systems show a key"
        if settings.is_auth_on
        else "no key is asked for on loopback"
    )
    lines = [
        f"clinfer serves  {service.http_url}",
        f"  pages         {service.http_url}/   ({auth})",
        f"  API           {service.http_url}/v1/studies   (OpenAPI: /openapi.json)",
        f"  DICOM         {service.dicom_address}   (DICOMweb: {service.http_url}/dicom-web)",
        f"  data          {settings.data_dir.resolve()}",
    ]
    if settings.is_auth_on and not ApiKeys(settings.keys_path).listed():
        lines.append("  keys          none yet: make one with `clinfer keys create NAME`")
        lines.append("  people        the first: `clinfer people add NAME --role admin`")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
