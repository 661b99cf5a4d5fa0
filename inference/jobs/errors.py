"""Why input was not accepted, and why work was given up.

::

    ClinferError
    ├── IntakeError                 the input was not accepted; nothing of it is analysed
    │   ├── NotDicomError             no DICOM file, or one without file meta information
    │   ├── DamagedFileError          truncated, contradictory or malformed
    │   ├── IdentifierError           a UID is missing, malformed, or says two things
    │   ├── UnsupportedObjectError    a SOP class or transfer syntax that is not accepted
    │   ├── TooLargeError             over a limit of size, depth, count or ratio
    │   └── ConflictError             contradicts an instance that is already stored
    ├── JobAbandonedError           the running job is no longer wanted or no longer ours
    └── DeliveryError               a receiver did not acknowledge an object
"""

from __future__ import annotations

from typing import ClassVar

from inference.domain.errors import ClinferError


class IntakeError(ClinferError):
    """The input was not accepted; ``is_kept``: its bytes go to the quarantine with the reason."""

    code = "intake"
    is_kept: ClassVar[bool] = True

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


class NotDicomError(IntakeError):
    """No DICOM file, or one without file meta information."""

    code = "not_dicom"
    is_kept = False


class DamagedFileError(IntakeError):
    """Truncated, contradictory or malformed."""

    code = "damaged_file"


class IdentifierError(IntakeError):
    """A UID is missing, malformed, or differs between two places that must agree."""

    code = "identifier"


class UnsupportedObjectError(IntakeError):
    """A SOP class or transfer syntax that is not accepted here."""

    code = "unsupported_object"
    is_kept = False


class TooLargeError(IntakeError):
    """Over a limit of size, depth, count or ratio."""

    code = "too_large"
    is_kept = False


class ConflictError(IntakeError):
    """Contradicts what is stored: same UID with other content, or a study of another patient."""

    code = "conflict"


class JobAbandonedError(ClinferError):
    """The running job is no longer wanted, or no longer ours; drop what was computed."""

    code = "job_abandoned"


class DeliveryError(ClinferError):
    """A receiver did not acknowledge an object.

    ``is_permanent``: sending the same again cannot help (refused SOP class, not authorised).
    """

    code = "delivery"

    def __init__(self, *, destination: str, problem: str, is_permanent: bool = False) -> None:
        self.destination, self.problem, self.is_permanent = destination, problem, is_permanent
        super().__init__(f"{destination}: {problem}")
