"""`clinfer signal`: beats, intervals and quality of one recording, no server needed."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table


def signal(
    record: Annotated[
        Path,
        typer.Argument(help="WFDB record or .hea, DICOM waveform, EDF(+), HL7 aECG, CSV."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The folder to make; it must not exist yet."),
    ] = None,
    lead: Annotated[
        str | None, typer.Option(help="The ECG lead by name (default: II, MLII, I, V5, ...).")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(help="CSV only: the TOML file that declares its columns.")
    ] = None,
    group: Annotated[int, typer.Option(help="DICOM and aECG: which waveform group or series.")] = 0,
    wfdb_defaults: Annotated[
        bool,
        typer.Option(
            "--wfdb-defaults",
            help="Take mV where a WFDB header has no unit, the ADC zero where it has no baseline.",
        ),
    ] = False,
) -> None:
    """Find the beats of one ECG lead; say its intervals and how far it can be trusted.

    With OUT, write result.json, beats.csv, a WFDB annotation file, strip.png and strip.html. A
    signal that cannot be trusted gives "abstained" and the reasons, and no intervals. Exit codes:
    0 done or abstained, 2 usage, 3 refused, 5 failed.
    """
    if out is not None and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise typer.BadParameter(f"{out} is there already; name a new folder", param_hint="-o")
    # Heavy libraries load here, so that a wrong option answers at once.
    from dicom_io.signal_read import read_recording
    from inference.signals.analyse import analyse
    from inference.signals.report import result_json

    recording = read_recording(
        record, schema=schema, group=group, accept_wfdb_defaults=wfdb_defaults
    )
    result = analyse(recording, lead=lead)
    content = result_json(result)
    if out is not None:
        _write(result, content, out)
    _say(content, out)


def _write(result: Any, content: dict[str, Any], out: Path) -> None:
    """Write the folder; it appears only when it is complete."""
    from inference.signals.report import write_annotations, write_beats_csv
    from inference.signals.strip import write_page, write_strip

    out.absolute().parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.absolute().parent))
    try:
        (unfinished / "result.json").write_text(json.dumps(content, indent=2) + "\n")
        write_beats_csv(unfinished / "beats.csv", result.beats)
        if result.beats:
            write_annotations(unfinished, result)
        write_strip(unfinished / "strip.png", result)
        write_page(unfinished / "strip.html", result, content, unfinished / "strip.png")
        unfinished.chmod(0o755)
        if out.exists():
            out.rmdir()
        unfinished.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _say(content: dict[str, Any], out: Path | None) -> None:
    """Print the table of intervals, the quality and what speaks against the result."""
    console = Console()
    record, lead = content["recording"]["record"], content["lead"]
    console.print(
        f"{record}, lead {lead}: {content['beats_found']} beats, {content['status']}", markup=False
    )
    for line in (*content["reasons"], *content["recording"]["notes"]):
        console.print(f"  {line}", markup=False)
    if content["intervals"] is not None:
        table = Table()
        for name in ("quantity", "median", "quartiles", "beats"):
            table.add_column(name, justify="left" if name == "quantity" else "right")
        for name, row in content["intervals"].items():
            quartiles = [row.get("quartile_1"), row.get("quartile_3")]
            said = "" if None in quartiles else f"{quartiles[0]:.1f} to {quartiles[1]:.1f}"
            median = "-" if row["median"] is None else f"{row['median']:.1f}"
            table.add_row(name, median, said, str(row["n"]))
        console.print(table)
    windows = content["quality"]["windows"]
    console.print("windows: " + ", ".join(f"{count} {grade}" for grade, count in windows.items()))
    where = "" if out is None else f"Written to {out}. "
    console.print(f"{where}{content['notice']}", markup=False)
