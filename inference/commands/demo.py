"""`clinfer demo`: the whole way of a study on this machine, shown step by step."""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table

if TYPE_CHECKING:
    from inference.bootstrap import Service

DEMO_QUIET_PERIOD_S = 1.5
"""Short, because the demo knows that it has sent everything."""

POLL_S = 0.3
BAR_WIDTH = 40
UNITS = {"[hnsf'U]": "HU"}


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What was sent: the studies, how many instances were taken, and why others were not."""

    study_uids: tuple[str, ...]
    n_taken: int
    refusals: tuple[str, ...]


def demo(
    study: Annotated[
        Path | None,
        typer.Option(help="Your own study: a folder, zip or tar (default: a built thorax)."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="End after the table.")] = False,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Keep the data here (default: a temporary folder)."),
    ] = None,
    backend: Annotated[
        Literal["triton", "local"], typer.Option(help="Where models run.")
    ] = "triton",
    model_repo: Annotated[Path | None, typer.Option(help="The folder of models.")] = None,
) -> None:
    """Start everything, send a study by C-STORE, show its result and where to look at it.

    Stays up until Ctrl-C. With --once the exit code is that of `clinfer run`: 3 refused, 4 no
    applicable model, 5 failed.
    """
    if study is not None and not study.exists():
        raise typer.BadParameter(f"{study} is not there", param_hint="--study")
    from inference.bootstrap import Service
    from inference.commands.serve import running, stop_signals
    from inference.settings import load_settings
    from inference.telemetry import configure_logging

    console = Console(highlight=False)
    with data_folder(data) as folder:
        settings = load_settings(
            {
                "data_dir": folder,
                "http_host": "127.0.0.1",
                "http_port": 0,
                "auth": "off",
                "dicom_host": "127.0.0.1",
                "dicom_port": 0,
                "backend": backend,
                "model_repo": model_repo,
                "quiet_period_s": DEMO_QUIET_PERIOD_S,
                "log_level": "warning",
            }
        )
        configure_logging(settings.log_level, settings.log_format)
        service = Service(settings)
        began_s = time.monotonic()
        with stop_signals() as stop, ExitStack() as stack:
            where = "Triton" if backend == "triton" else "the models"
            with console.status(f"starting {where}, the DICOM receiver, the API and the pages"):
                stack.enter_context(running(service, stop))
            if stop.is_set():
                return
            console.print(
                f"[green]✓[/] up after {time.monotonic() - began_s:.1f} s: "
                f"DICOM {service.dicom_address}, pages {service.http_url}"
            )
            _show(console, service, study, stop, is_once=once)


def _show(
    console: Console, service: Service, study: Path | None, stop: threading.Event, *, is_once: bool
) -> None:
    """Send the study, follow it, and print what came out."""
    import httpx

    sent = _send(console, service, study)
    for reason in sent.refusals[:5]:
        console.print(f"[yellow]not taken:[/] {reason}")
    with httpx.Client(base_url=service.http_url, timeout=30.0) as client:
        answers = [_follow(console, client, uid, stop) for uid in sent.study_uids]
    if stop.is_set():
        return
    for answer in answers:
        print_study(console, answer, service.http_url)
    if is_once:
        raise_if_without_result(answers, sent)
        return
    console.print("\nCtrl-C ends the demo.")
    stop.wait()


def _send(console: Console, service: Service, study: Path | None) -> Sent:
    """Send the study, built or given, by C-STORE with a progress bar."""
    from dicom_io.sources import open_source
    from inference.commands.demo_study import write_demo_study

    if study is not None:
        with open_source(study) as files:
            return send_files(console, files, service)
    with tempfile.TemporaryDirectory(prefix="clinfer-demo-study-") as folder:
        with console.status("building a thorax phantom as CT"):
            files = write_demo_study(Path(folder))
        console.print(f"[green]✓[/] built a thorax phantom: {len(files)} CT slices")
        return send_files(console, files, service)


def send_files(console: Console, files: tuple[Path, ...], service: Service) -> Sent:
    """Send DICOM files to the service over one association.

    Raises
    ------
    RefusedError
        None of them is DICOM, or the receiver takes no association.
    """
    from pydicom import dcmread
    from pynetdicom import AE, _config

    from inference.domain.errors import RefusedError
    from inference.jobs.errors import IntakeError
    from inference.jobs.structure import read_file_meta

    listed, refusals = [], []
    for path in files:
        try:
            listed.append((path, read_file_meta(path)))
        except IntakeError as error:
            refusals.append(f"{path.name}: {error}")
    if not listed:
        raise RefusedError(refusals[0] if refusals else "there is no file to send")
    _config.STORE_SEND_CHUNKED_DATASET = True  # the files' own bytes, not decoded and encoded again
    entity = AE(ae_title="CLINFER-DEMO")
    for pair in sorted({(meta.sop_class_uid, meta.transfer_syntax_uid) for _, meta in listed})[
        :128
    ]:
        entity.add_requested_context(*pair)
    association = entity.associate("127.0.0.1", service.dicom_port, ae_title=service.ae_title)
    if not association.is_established:
        raise RefusedError("the DICOM receiver did not take the association")
    studies: dict[str, None] = {}
    n_taken = 0
    try:
        with _progress(console) as bar:
            task = bar.add_task("sending by C-STORE", total=len(listed))
            for path, _ in listed:
                problem = _store(association, path)
                bar.advance(task)
                if problem is not None:
                    refusals.append(f"{path.name}: {problem}")
                    continue
                n_taken += 1
                header = dcmread(path, stop_before_pixels=True, specific_tags=["StudyInstanceUID"])
                studies.setdefault(str(header.StudyInstanceUID))
    finally:
        association.release()
    console.print(f"[green]✓[/] sent {n_taken} of {len(files)} files; each is stored durably")
    if not n_taken:
        raise RefusedError(refusals[0])
    return Sent(study_uids=tuple(studies), n_taken=n_taken, refusals=tuple(refusals))


def _store(association: Any, path: Path) -> str | None:
    """Send one file; return why it was not taken, or None."""
    try:
        status = association.send_c_store(path)
    except (RuntimeError, ValueError) as error:
        return str(error)
    code = status.get("Status")
    if code == 0:
        return None
    comment = status.get("ErrorComment") or "no comment"
    return f"status {code:#06x}: {comment}" if code is not None else "no answer"


def _follow(console: Console, client: Any, study_uid: str, stop: threading.Event) -> dict[str, Any]:
    """Show the study's progress until it is finished."""
    answer: dict[str, Any] = {}
    with _progress(console) as bar:
        task = bar.add_task("waiting for the study to be complete", total=1.0)
        while not stop.is_set():
            response = client.get(f"/v1/studies/{study_uid}")
            response.raise_for_status()
            answer = response.json()
            if not answer["is_pending"]:
                bar.update(task, completed=1.0, description="analysed")
                break
            job = answer["job"] or {}
            if job.get("state") == "leased":
                bar.update(task, completed=job["progress"], description=job["step"] or "running")
            elif job.get("reason"):
                bar.update(task, description=f"trying again: {job['reason'][:60]}")
            stop.wait(POLL_S)
    return answer


def print_study(console: Console, study: dict[str, Any], url: str) -> None:
    """Print a study's results: segments, where the time went, and the page's address."""
    console.print()
    for result in study["results"]:
        if result["outcome"] == "finding":
            console.print(_segment_table(result))
            _print_timings(console, result)
        elif result["outcome"] == "no_finding":
            console.print(f"{result['model']}: none of the structures it looks for was found")
        else:
            what = result["outcome"].replace("_", " ")
            name = f"{result['model']}: " if result["model"] else ""
            console.print(f"[yellow]{name}{what}[/] ({result['reason_code']}): {result['reason']}")
    if not study["results"]:
        console.print(f"[yellow]{study['state']}[/]: {study['reason']}")
    console.print(f"\nLook at it: [bold]{url}/studies/{study['study_uid']}[/]", soft_wrap=True)


def _segment_table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['model']} {result['model_version']}", title_justify="left")
    unit = next((segment["unit"] for segment in result["segments"]), "1")
    word = UNITS.get(unit, "" if unit == "1" else unit)
    table.add_column("segment")
    for name in ("volume ml", f"mean {word}".rstrip(), "SD"):
        table.add_column(name, justify="right")
    for segment in result["segments"]:
        table.add_row(
            segment["name"],
            f"{segment['volume_ml']:.1f}",
            f"{segment['mean']:.1f}",
            f"{segment['sd']:.1f}",
        )
    return table


def _print_timings(console: Console, result: dict[str, Any]) -> None:
    timings = {name: s for name, s in result["timings_s"].items() if name != "total" and s >= 0.005}
    if not timings:
        return
    total = result["timings_s"].get("total", sum(timings.values()))
    longest = max(timings.values())
    table = Table(title=f"where the time went: {total:.2f} s", title_justify="left", box=None)
    table.add_column("stage")
    table.add_column("s", justify="right")
    table.add_column("")
    for name, seconds in timings.items():
        bar = "━" * max(1, round(seconds / longest * BAR_WIDTH))
        table.add_row(name, f"{seconds:.2f}", f"[cyan]{bar}[/]")
    console.print()
    console.print(table)


def raise_if_without_result(answers: list[dict[str, Any]], sent: Sent) -> None:
    """End with the error of `clinfer run` where no study has a result.

    Raises
    ------
    RefusedError, NoApplicableModelError, BackendError
    """
    from inference.domain.errors import BackendError, NoApplicableModelError, RefusedError

    outcomes = {answer["state"] for answer in answers}
    if outcomes & {"finding", "no_finding"}:
        return
    reason = next((answer["reason"] for answer in answers if answer["reason"]), "")
    reason = reason or next(iter(sent.refusals), "the study has no image")
    if "failed" in outcomes:
        raise BackendError(reason)
    if "not_applicable" in outcomes:
        raise NoApplicableModelError(reason)
    raise RefusedError(reason)


@contextmanager
def data_folder(given: Path | None) -> Iterator[Path]:
    """Give the folder that was named, or a temporary one that is removed afterwards."""
    if given is not None:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="clinfer-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(finished_text="[green]✓[/]"),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
