"""The conformance statement, made of what the running service itself works by.

Presentation contexts come from the DICOM receiver, routes from the application, search parameters
and message types from the tables of the FHIR and HL7 doors. What is written by hand is what those
cannot say: which transaction a route is, and which profile was read. A route or context that
nothing here describes is listed as `NOT_DESCRIBED`, and a test fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydicom.uid import UID

from inference.domain.encoding import Base
from inference.domain.statement import Section, StatementTable
from inference.gateways.fhir.capability import FHIR_VERSION, MEDIA_TYPE
from inference.gateways.fhir.search_terms import PREFIXES, RESULT_PARAMETERS, SEARCH, includes_of
from inference.gateways.fhir.write import WRITABLE
from inference.gateways.hl7_ack import WANTED
from inference.gateways.hl7_inbound import TAKEN
from inference.gateways.hl7_message import CHARACTER_SETS, VERSIONS
from inference.gateways.hl7_orders import CONTROLS
from inference.gateways.hl7_report import OBSERVATION_STATUS, REPORT_STATUS, SEGMENTS
from inference.gateways.hl7_report import VERSION as SENT_VERSION
from inference.gateways.hl7_results import STATUSES
from inference.gateways.hl7_values import PRIORITIES
from inference.jobs.identify import is_accepted_sop_class

TITLE = "Conformance statement"
NOT_DESCRIBED = "NOT DESCRIBED"
Routes = Iterable[tuple[str, str]]
"""(method, path template) of each route of the application."""

SERVICES: Mapping[str, str] = MappingProxyType(
    {
        "1.2.840.10008.1.1": "Verification (C-ECHO)",
        "1.2.840.10008.1.20.1": "Storage Commitment, reports taken as user (N-EVENT-REPORT)",
        "1.2.840.10008.5.1.4.34.6.1": "Unified Procedure Step, create, get, cancel request"
        " (N-CREATE, N-GET, N-ACTION)",
        "1.2.840.10008.5.1.4.34.6.2": "Unified Procedure Step, subscribe, get, cancel request"
        " (N-ACTION, N-GET)",
        "1.2.840.10008.5.1.4.34.6.3": "Unified Procedure Step, find, get, set, change state"
        " (C-FIND, N-GET, N-SET, N-ACTION)",
        "1.2.840.10008.5.1.4.34.6.4": "Unified Procedure Step, events sent (N-EVENT-REPORT)",
        "1.2.840.10008.5.1.4.34.6.5": "Unified Procedure Step, find and get (C-FIND, N-GET)",
    }
)
"""SOP classes of the receiver that are no storage, and their service."""

SENT: Mapping[Base, tuple[str, ...]] = MappingProxyType(
    {
        "seg": ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"),
        "sr": ("1.2.840.10008.5.1.4.1.1.88.34",),
        "gsps": ("1.2.840.10008.5.1.4.1.1.11.1",),
        "sc": ("1.2.840.10008.5.1.4.1.1.7",),
        "rtstruct": ("1.2.840.10008.5.1.4.1.1.481.3",),
        "pdf": ("1.2.840.10008.5.1.4.1.1.104.1",),
        "ko": ("1.2.840.10008.5.1.4.1.1.88.59",),
        "pmap": ("1.2.840.10008.5.1.4.1.1.30",),
    }
)
"""Kind of result object to the SOP classes it is sent as."""

_NEW_NAMES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}
"""Classes that are younger than the dictionary."""

_STUDY = "/dicom-web/studies/{study_uid}"
_SERIES = f"{_STUDY}/series/{{series_uid}}"
_INSTANCE = f"{_SERIES}/instances/{{instance_uid}}"
_UPS = "/dicom-web/workitems"
_SEARCHES = {
    "/dicom-web/studies": "studies",
    "/dicom-web/series": "series",
    "/dicom-web/instances": "instances",
    f"{_STUDY}/series": "a study's series",
    f"{_STUDY}/instances": "a study's instances",
    f"{_SERIES}/instances": "a series' instances",
}
_LEVELS = {_STUDY: "a study", _SERIES: "a series", _INSTANCE: "an instance"}
_FRAME = f"{_INSTANCE}/frames/{{frame_number}}"

DICOMWEB: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("POST", "/dicom-web/studies"): "Store Instances (STOW-RS), PS3.18 section 10.5",
        ("POST", _STUDY): "Store Instances (STOW-RS) of one study, PS3.18 section 10.5",
        **{
            ("GET", path): f"Search (QIDO-RS) for {what}, PS3.18 section 10.6"
            for path, what in _SEARCHES.items()
        },
        **{
            ("GET", path + resource): f"Retrieve (WADO-RS) {named}{what}, PS3.18 section 10.4"
            for path, what in _LEVELS.items()
            for resource, named in (
                ("", ""),
                ("/metadata", "metadata of "),
                ("/rendered", "a picture of "),
                ("/thumbnail", "a small picture of "),
            )
        },
        ("GET", f"{_INSTANCE}/frames/{{frame_list}}"): "Retrieve (WADO-RS) frames,"
        " PS3.18 section 10.4",
        ("GET", f"{_FRAME}/rendered"): "Retrieve (WADO-RS) a picture of a frame,"
        " PS3.18 section 10.4",
        ("GET", f"{_FRAME}/thumbnail"): "Retrieve (WADO-RS) a small picture of a frame,"
        " PS3.18 section 10.4",
        ("GET", f"{_INSTANCE}/bulkdata/{{attribute_path}}"): "Retrieve (WADO-RS) bulk data,"
        " PS3.18 section 10.4",
        ("POST", _UPS): "Create Workitem (UPS-RS), PS3.18 section 11.4",
        ("GET", _UPS): "Search for Workitems (UPS-RS), PS3.18 section 11.9",
        ("GET", f"{_UPS}/{{uid}}"): "Retrieve Workitem (UPS-RS), PS3.18 section 11.5",
        ("POST", f"{_UPS}/{{uid}}"): "Update Workitem (UPS-RS), PS3.18 section 11.6",
        **{
            (
                method,
                f"{_UPS}/{{uid}}/{action}{suffix}",
            ): f"{what} (UPS-RS), PS3.18 section {number}"
            for method, action, what, number in (
                ("PUT", "state", "Change Workitem State", "11.7"),
                ("POST", "cancelrequest", "Request Cancellation", "11.8"),
            )
            for suffix in ("", "/{ae_title}")
        },
        ("POST", f"{_UPS}/{{uid}}/subscribers/{{ae_title}}"): "Subscribe (UPS-RS),"
        " PS3.18 section 11.10",
        ("DELETE", f"{_UPS}/{{uid}}/subscribers/{{ae_title}}"): "Unsubscribe (UPS-RS),"
        " PS3.18 section 11.11",
        ("POST", f"{_UPS}/{{uid}}/subscribers/{{ae_title}}/suspend"): "Suspend Global Subscription"
        " (UPS-RS), PS3.18 section 11.12",
    }
)
"""Route to the transaction of PS3.18 that it is."""

FHIR: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("GET", "/fhir/metadata"): "capabilities",
        ("GET", "/fhir/{type}"): "search-type",
        ("GET", "/fhir/{type}/{id}"): "read, conditional read",
        ("POST", "/fhir/{type}"): "create, conditional create (If-None-Exist)",
        ("PUT", "/fhir/{type}/{id}"): "update (If-Match is required)",
        ("POST", "/fhir"): "transaction",
    }
)
"""Route to the interaction of FHIR's RESTful API that it is."""

MESSAGES: Mapping[tuple[str, str], tuple[str, str]] = MappingProxyType(
    {
        ("ADT", "A01"): ("MSH, PID, PV1", "admitted; patient and location recorded"),
        ("ADT", "A02"): ("MSH, PID, PV1", "transferred; location recorded"),
        ("ADT", "A03"): ("MSH, PID, PV1", "discharged"),
        ("ADT", "A08"): ("MSH, PID, PV1", "patient and location updated"),
        ("ADT", "A40"): ("MSH, PID, MRG", "two records become one; can be undone"),
        ("ORM", "O01"): ("MSH, PID, ORC, OBR, TQ1, ZDS", "order placed, changed, cancelled"),
        ("OMI", "O23"): ("MSH, PID, ORC, TQ1, OBR, IPC", "order placed, changed, cancelled"),
        ("ORU", "R01"): ("MSH, PID, OBR, OBX", "numbers (NM) kept as observations"),
    }
)
"""Message to the segments that are read of it, and its effect; other segments are passed over."""

NOT_CLAIMED = (
    ("IHE AIR (AI Results)", "results follow its choice of objects; its text was not read in full"),
    ("IHE AIW-I (AI Workflow)", "its text was not read"),
    ("IHE SWF.b (Scheduled Workflow)", "ORM and OMI are taken as described above, no more"),
    ("IHE PIR (Patient Information Reconciliation)", "ADT^A40 is taken as described above"),
    ("IHE IMR, RRR-WF, XRR-WD, XDS-I, MADO", "their texts were not read"),
    ("IHE ATNA", "the audit trail is our own; its text was not read"),
    ("HL7 FHIR implementation guides", "none is claimed; resources are plain R4"),
)
"""Profiles somebody may look for. None is claimed, because none was read whole."""


def statement(routes: Routes, contexts: Sequence[Any]) -> tuple[Section, ...]:
    """Return the whole statement; ``contexts`` are those that the DICOM receiver offers."""
    known = sorted(set(routes))
    return (
        Section(
            title="How to read this",
            title_zh="说明",
            text=(
                "Made by the service from the tables it works by, and shown under `/conformance`; "
                "`/conformance?as=markdown` gives this document. A test compares the two. "
                "Nothing is claimed that the service does not do."
            ),
        ),
        _storage(contexts),
        _services(contexts),
        _sending(),
        _web(known),
        _fhir_routes(known),
        _fhir_types(),
        _hl7_in(),
        _hl7_out(),
        Section(
            title="Profiles that are not claimed",
            title_zh="未声明的规范",
            text="A profile is claimed only where its text was read whole. So far none is.",
            tables=(StatementTable(columns=("profile", "why"), rows=NOT_CLAIMED),),
        ),
    )


def _storage(contexts: Sequence[Any]) -> Section:
    storage = [one for one in contexts if is_accepted_sop_class(one.abstract_syntax)]
    syntaxes = dict.fromkeys(str(one) for context in storage for one in context.transfer_syntax)
    return Section(
        title="DICOM: storage as provider (C-STORE SCP)",
        title_zh="DICOM 存储服务（SCP）",
        text=(
            "Every class is taken in every transfer syntax below; the first that "
            "both sides know is "
            "used. Success (0x0000) means: on disk, indexed, queued. Status codes: 0x0111, 0x0110, "
            "0x0122, 0xA700, 0xA900, 0xC000 (docs/reliability.md)."
        ),
        tables=(
            StatementTable(
                columns=("SOP class", "UID"),
                rows=tuple(
                    (_name(uid), uid) for uid in sorted(str(one.abstract_syntax) for one in storage)
                ),
            ),
            StatementTable(
                columns=("transfer syntax", "UID"),
                rows=tuple((_name(uid), uid) for uid in syntaxes),
            ),
        ),
    )


def _services(contexts: Sequence[Any]) -> Section:
    others = sorted(
        str(one.abstract_syntax)
        for one in contexts
        if not is_accepted_sop_class(one.abstract_syntax)
    )
    return Section(
        title="DICOM: other services as provider",
        title_zh="DICOM 其他服务（SCP）",
        text="Services of the same receiver beside storage.",
        tables=(
            StatementTable(
                columns=("SOP class", "UID", "service"),
                rows=tuple((_name(uid), uid, SERVICES.get(uid, NOT_DESCRIBED)) for uid in others),
            ),
        ),
    )


def _sending() -> Section:
    return Section(
        title="DICOM and DICOMweb: results as user (C-STORE SCU, STOW-RS)",
        title_zh="DICOM 结果发送（SCU）",
        text=(
            "What a destination takes is said by its profile (docs/encodings.md). The file's own "
            "transfer syntax is proposed, Explicit VR Little Endian unless the encoding says "
            "otherwise. Over HTTP: Store Instances, PS3.18 section 10.5."
        ),
        tables=(
            StatementTable(
                columns=("kind", "SOP class", "UID"),
                rows=tuple((kind, _name(uid), uid) for kind, uids in SENT.items() for uid in uids),
            ),
        ),
    )


def _web(routes: Sequence[tuple[str, str]]) -> Section:
    return Section(
        title="DICOMweb: origin server",
        title_zh="DICOMweb 服务",
        text="Media types and status codes are in docs/api.md.",
        tables=(
            StatementTable(
                columns=("route", "transaction"),
                rows=_described(routes, "/dicom-web", DICOMWEB),
            ),
        ),
    )


def _fhir_routes(routes: Sequence[tuple[str, str]]) -> Section:
    return Section(
        title="FHIR: interactions",
        title_zh="FHIR 接口",
        text=(
            f"Version {FHIR_VERSION} (R4), {MEDIA_TYPE} only; the CapabilityStatement is at "
            f"`/fhir/metadata`. {', '.join(WRITABLE)} can be written. Sending: a "
            "transaction Bundle "
            "with conditional create and update, posted to each FHIR destination."
        ),
        tables=(
            StatementTable(
                columns=("route", "interaction"), rows=_described(routes, "/fhir", FHIR)
            ),
        ),
    )


def _fhir_types() -> Section:
    return Section(
        title="FHIR: resources and search parameters",
        title_zh="FHIR 资源与检索参数",
        text=(
            f"Dates take the prefixes {', '.join(PREFIXES)}. Every search takes "
            f"{', '.join(RESULT_PARAMETERS)}; where there is `patient`, also "
            "`patient.identifier=SYSTEM|NUMBER`. Parameters that are not listed "
            "are refused, unless "
            "`Prefer: handling=lenient` leaves them out. Basic is ImagingSelection of R5 "
            "(setting `fhir_imaging_selection`)."
        ),
        tables=(
            StatementTable(
                columns=("type", "search parameters", "_include"),
                rows=tuple(
                    (
                        type,
                        ", ".join(f"{name} ({one.kind})" for name, one in parameters.items()),
                        ", ".join(includes_of(type)),
                    )
                    for type, parameters in SEARCH.items()
                ),
            ),
        ),
    )


def _hl7_in() -> Section:
    return Section(
        title="HL7 v2: messages taken (MLLP server)",
        title_zh="HL7 v2 接收",
        text=(
            f"Versions {', '.join(VERSIONS)}; processing id P; separators | and ^~\\&. "
            "Character sets (MSH-18): "
            f"{', '.join(one for one in CHARACTER_SETS if one)}; none means "
            "ASCII. Original mode, and enhanced mode with "
            f"{', '.join(one for one in WANTED if one)} "
            "in MSH-15 and MSH-16. At most 1 MiB and 10 s for a message. A control "
            "id (MSH-10) counts "
            "once for each sender (MSH-3, MSH-4). ERR names the field (ERR-2) with HL7 table 0357 "
            f"(ERR-3). ORC-1: {', '.join(CONTROLS)}; priority from TQ1-9, OBR-27.6, "
            "ORC-7.6 or OBR-5: "
            f"{', '.join(PRIORITIES)}; accession number from IPC-1 or OBR-18; OBX-11: "
            f"{', '.join(STATUSES)}."
        ),
        tables=(
            StatementTable(
                columns=("message", "segments read", "effect"),
                rows=tuple(
                    (f"{kind}^{event}", *MESSAGES.get((kind, event), (NOT_DESCRIBED, "")))
                    for kind, events in TAKEN.items()
                    for event in sorted(events)
                ),
            ),
        ),
    )


def _hl7_out() -> Section:
    return Section(
        title="HL7 v2: reports sent (MLLP client)",
        title_zh="HL7 v2 发送",
        text=(
            f"ORU^R01^ORU_R01, version {SENT_VERSION}, UNICODE UTF-8, segments "
            f"{', '.join(SEGMENTS)}. "
            "AA and CA end a delivery; AE, CE and the errors 200 to 203 make it a "
            "dead letter; AR, CR, "
            "206 and 207 are tried again. OBX-11 is W where a retraction is for the wrong patient, "
            "and X where no result could be made."
        ),
        tables=(
            StatementTable(
                columns=("step of a result", "OBX-11", "OBR-25"),
                rows=tuple(
                    (step.value, code, REPORT_STATUS[step])
                    for step, code in OBSERVATION_STATUS.items()
                ),
            ),
        ),
    )


def _name(uid: str) -> str:
    return _NEW_NAMES.get(uid) or str(UID(uid).name)


def _described(
    routes: Sequence[tuple[str, str]], prefix: str, words: Mapping[tuple[str, str], str]
) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{method} {path}", words.get((method, path), NOT_DESCRIBED))
        for method, path in routes
        if path == prefix or path.startswith(f"{prefix}/")
    )
