"""Try a destination without storing anything: C-ECHO, or a STOW-RS request that must be refused."""

from __future__ import annotations

import httpx
from pynetdicom import AE

from inference.domain.result import Destination, DicomwebDestination, DimseDestination
from inference.jobs.errors import DeliveryError

LONGEST_S = 10.0
VERIFICATION = "1.2.840.10008.1.1"
_BOUNDARY = "clinfer-destination-check"
_CONTENT_TYPE = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
_EMPTY_PART = (
    f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n\r\n--{_BOUNDARY}--\r\n".encode()
)
_REFUSED_AS_IT_SHOULD = frozenset({200, 202, 204, 400, 409, 415, 422})


def check_destination(destination: Destination) -> str:
    """Return in words what the destination answered.

    Raises
    ------
    DeliveryError
        It is not there, or does not let this service in.
    """
    if isinstance(destination, DimseDestination):
        return _echo(destination)
    return _stow(destination)


def _echo(to: DimseDestination) -> str:
    entity = AE(ae_title=to.calling_aet)
    entity.acse_timeout = entity.dimse_timeout = min(to.timeout_s, LONGEST_S)
    entity.network_timeout = entity.connection_timeout = min(to.timeout_s, LONGEST_S)
    entity.add_requested_context(VERIFICATION)
    association = entity.associate(to.host, to.port, ae_title=to.called_aet)
    if not association.is_established:
        answer = association.acceptor.primitive
        problem = "no association: nobody answers there, or it was cut off"
        if association.is_rejected and answer is not None:
            problem = f"association rejected: {answer.reason_str}"
        raise DeliveryError(destination=to.name, problem=problem)
    try:
        status = association.send_c_echo()
    finally:
        association.release()
    if "Status" not in status or status.Status != 0x0000:
        raise DeliveryError(destination=to.name, problem="C-ECHO was not answered with success")
    return "C-ECHO answered success"


def _stow(to: DicomwebDestination) -> str:
    """Send one part that is no DICOM: a store that is there refuses it, and keeps nothing."""
    try:
        answer = httpx.post(
            f"{to.url.rstrip('/')}/studies",
            content=_EMPTY_PART,
            headers={
                **to.headers,
                "Accept": "application/dicom+json",
                "Content-Type": _CONTENT_TYPE,
            },
            timeout=min(to.timeout_s, LONGEST_S),
            trust_env=False,
        )
    except httpx.HTTPError as error:
        raise DeliveryError(destination=to.name, problem=type(error).__name__) from error
    if answer.status_code not in _REFUSED_AS_IT_SHOULD:
        raise DeliveryError(destination=to.name, problem=f"STOW-RS answered {answer.status_code}")
    return f"STOW-RS is there: an empty part was answered with {answer.status_code}"
