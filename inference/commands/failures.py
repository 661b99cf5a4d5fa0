"""From an error to an exit code and the last line of standard error."""

from __future__ import annotations

import os
import traceback

from dicom_io.errors import DicomIoError
from inference.domain.errors import ClinferError, NoApplicableModelError, RefusedError

EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_NO_APPLICABLE_MODEL = 4
EXIT_FAILED = 5


def exit_code_and_line(error: Exception) -> tuple[int, str]:
    """Return the exit code of an error and ``error[code]: message`` on one line.

    A refusal and a model that does not apply are answers, not faults, so they come without a
    traceback; so do the service's own named errors. Anything else is a fault of ours: its
    traceback is shown only where ``CLINFER_DEBUG`` is set.
    """
    message = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, NoApplicableModelError):
        return EXIT_NO_APPLICABLE_MODEL, f"error[{error.code}]: {message}"
    if isinstance(error, DicomIoError | RefusedError):
        return EXIT_REFUSED, f"error[{error.code}]: {message}"
    if isinstance(error, ClinferError):
        return EXIT_FAILED, f"error[{error.code}]: {message}"
    if os.environ.get("CLINFER_DEBUG"):
        traceback.print_exception(error)
    return EXIT_FAILED, f"error[failed]: {type(error).__name__}: {message}"
