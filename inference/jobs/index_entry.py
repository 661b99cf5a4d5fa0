"""From a walked file to its row in the DICOMweb index."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydicom.uid import ImplicitVRLittleEndian
from sqlalchemy import Connection

from dicom_io.dicom_json import (
    CHARACTER_SET,
    JsonContext,
    dataset_json,
    python_encodings,
    value_json,
)
from dicom_io.element_stream import DEFAULT_FILE_LIMITS, ElementStream, Encoding
from dicom_io.errors import DicomIoError
from dicom_io.raw_elements import raw_items
from inference.domain.dicom_index import (
    INSTANCE_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
    Attributes,
    IndexedInstance,
)
from inference.domain.result import ResultFile
from inference.jobs.errors import IntakeError
from inference.jobs.identify import Identity, identify
from inference.jobs.inflate import plain_dataset
from inference.jobs.receipts import IntakeSettings
from inference.jobs.structure import (
    MAX_VALUE_BYTES,
    REQUEST_ATTRIBUTES,
    FileMeta,
    Structure,
    read_file_meta,
    walk_dataset,
)
from inference.storage import dicom_index
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)

DICOM_MEDIA_TYPE = "application/dicom"


def index_entry(
    structure: Structure,
    meta: FileMeta,
    identity: Identity,
    *,
    sha256: str,
    size_bytes: int,
    result_id: int | None = None,
) -> IndexedInstance:
    """Return what the index keeps of an instance."""
    requests = _requests(structure, meta)
    series = dict(_attributes(structure, SERIES_TAGS))
    if requests:
        series[f"{REQUEST_ATTRIBUTES:08X}"] = {"vr": "SQ", "Value": requests}
    return IndexedInstance(
        study_uid=identity.study_uid,
        series_uid=identity.series_uid,
        instance_uid=identity.instance_uid,
        sop_class_uid=identity.sop_class_uid,
        transfer_syntax_uid=meta.transfer_syntax_uid,
        sha256=sha256,
        size_bytes=size_bytes,
        study=_attributes(structure, STUDY_TAGS),
        series=series,
        instance=_attributes(structure, INSTANCE_TAGS),
        result_id=result_id,
    )


def index_file(
    path: Path,
    objects: ObjectStore,
    settings: IntakeSettings,
    *,
    sha256: str,
    result_id: int | None = None,
) -> IndexedInstance:
    """Read a stored file for the index.

    Raises
    ------
    IntakeError
        It is not whole.
    """
    meta = read_file_meta(path)
    with plain_dataset(path, meta, objects, settings) as (plain, offset):
        structure = walk_dataset(plain, offset, meta.transfer_syntax_uid, settings.structure)
    identity = identify(structure, meta, None, is_ours=result_id is not None)
    return index_entry(
        structure,
        meta,
        identity,
        sha256=sha256,
        size_bytes=path.stat().st_size,
        result_id=result_id,
    )


def index_result_files(
    files: Sequence[ResultFile], objects: ObjectStore
) -> Mapping[str, IndexedInstance]:
    """Return the rows of a result's DICOM objects, by hash; the result is numbered later.

    An object that cannot be read back is left out: a result is not lost for being unlisted.
    """
    found: dict[str, IndexedInstance] = {}
    settings = IntakeSettings()
    for file in files:
        if file.media_type != DICOM_MEDIA_TYPE:
            continue
        path = objects.path(file.sha256)
        try:
            found[file.sha256] = index_file(
                path, objects, settings, sha256=file.sha256, result_id=0
            )
        except IntakeError as error:
            logger.error("a result's object is not listed", code=error.code, sha256=file.sha256)
    return found


def add_files_to_index(
    connection: Connection, indexed: Mapping[str, IndexedInstance], result_id: int
) -> None:
    """List a result's objects, in the transaction that stores them."""
    for one in indexed.values():
        dicom_index.add_to_index(connection, replace(one, result_id=result_id))


def _attributes(structure: Structure, tags: Mapping[int, str]) -> Attributes:
    character_set = structure.values.get(CHARACTER_SET, b"").decode("ascii", "replace")
    context = JsonContext(encodings=python_encodings(character_set))
    found: dict[str, dict[str, Any]] = {}
    for tag, vr in tags.items():
        raw = structure.values.get(tag, b"")
        if not raw or vr == "SQ" or len(raw) >= MAX_VALUE_BYTES:
            continue
        member = value_json(vr, raw, context, little=structure.is_little_endian)
        if "Value" in member:
            found[f"{tag:08X}"] = member
    return found


def _requests(structure: Structure, meta: FileMeta) -> list[Attributes]:
    """Items of Request Attributes Sequence; none where they cannot be read."""
    raw = structure.values.get(REQUEST_ATTRIBUTES, b"")
    character_set = structure.values.get(CHARACTER_SET, b"").decode("ascii", "replace")
    context = JsonContext(encodings=python_encodings(character_set))
    stream = ElementStream(Path(), raw, len(raw), DEFAULT_FILE_LIMITS)
    encoding = Encoding(
        meta.transfer_syntax_uid == ImplicitVRLittleEndian, structure.is_little_endian
    )
    try:
        return [
            dataset_json(stream, begin, end, encoding, context)
            for begin, end in raw_items(stream, 0, len(raw), encoding)
        ]
    except (DicomIoError, struct.error):
        return []
