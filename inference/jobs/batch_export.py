"""Copy a batch's result files out of the store: ``out/<model>/<study>/<series>/<file>``."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

from inference.domain.result import Result
from inference.jobs.batch import BatchParts
from inference.jobs.batch_outcome import BatchReport
from inference.storage import results

SUFFIXES = {
    "application/dicom": ".dcm",
    "application/gzip": ".nii.gz",
    "application/json": ".json",
    "image/png": ".png",
}
"""By media type; the only gzip that a result holds is the label file."""

UNFINISHED = ".unfinished"


def export(report: BatchReport, parts: BatchParts, out: Path) -> int:
    """Write the files of every result of the report, and ``studies.csv``; return how many results.

    A folder appears when it is complete, and one that is there is left as it is: a result's files
    never change. Bytes are compared with their hash on the way.

    Raises
    ------
    ObjectDamagedError
        A stored file is not what was stored.
    """
    root = out / parts.spec.name
    root.mkdir(parents=True, exist_ok=True)
    n_results = 0
    for line in report.lines:
        for result_id in line.result_ids:
            with parts.database.read() as connection:
                result = results.get_result(connection, result_id)
            if result.files:
                _copy(result, parts, root / result.study_uid / (result.series_uid or "study"))
                n_results += 1
    with (root / "studies.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["StudyInstanceUID", "outcome", "code", "reason", "was_there"])
        writer.writerows(
            [line.study_uid, line.outcome, line.code, line.reason, line.was_there]
            for line in report.lines
        )
    return n_results


def _copy(result: Result, parts: BatchParts, folder: Path) -> None:
    named = folder.with_name(f"{folder.name}.{result.key[:12]}") if folder.exists() else folder
    if (folder / f".{result.key}").exists() or (named / f".{result.key}").exists():
        return
    unfinished = named.with_name(named.name + UNFINISHED)
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for file in result.files:
        parts.objects.verify(file.sha256)
        shutil.copyfile(
            parts.objects.path(file.sha256),
            unfinished / f"{file.kind}{SUFFIXES.get(file.media_type, '')}",
        )
    (unfinished / f".{result.key}").touch()
    unfinished.replace(named)
