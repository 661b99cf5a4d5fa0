"""Rows of the training set with their stored files, as training takes them."""

from __future__ import annotations

from pathlib import Path

from inference.domain.review import Effort
from inference.settings import load_settings
from inference.start_checks import DataFolderError
from inference.storage import studies, training_set
from inference.storage.database import Database
from training.review_set import ReviewedSeries


def reviewed_series(
    model: str, *, data: Path | None, version: int | None = None
) -> tuple[tuple[ReviewedSeries, ...], int]:
    """Return a model's rows of a version of the set (default: the newest), and the version.

    Raises
    ------
    DataFolderError
        There is no database.
    """
    settings = load_settings({"data_dir": data})
    if settings.database_url is not None:
        database = Database.open(settings.database_url.get_secret_value())
    elif (settings.data_dir / "clinfer.sqlite3").is_file():
        database = Database.open(settings.data_dir / "clinfer.sqlite3")
    else:
        raise DataFolderError(folder=settings.data_dir, problem="holds no database; see --data")
    objects = settings.data_dir / "objects"
    try:
        with database.read() as connection:
            at = training_set.current_version(connection) if version is None else version
            rows = training_set.list_rows(connection, model=model, version=at)
            return tuple(
                ReviewedSeries(
                    id=f"review_{row.id}",
                    patient_key=row.patient_key,
                    role=row.role.value,
                    is_corrected=row.effort is not Effort.UNTOUCHED,
                    series_uid=row.series_uid,
                    images=tuple(
                        _object(objects, image.sha256)
                        for image in studies.list_instances(
                            connection, row.study_uid, series_uid=row.series_uid, images_only=True
                        )
                    ),
                    labels=_object(objects, row.labels_sha256),
                )
                for row in rows
            ), at
    finally:
        database.close()


def _object(objects: Path, sha256: str) -> Path:
    return objects / sha256[:2] / sha256
