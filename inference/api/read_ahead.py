"""Keeps the case that waits longest for a decision in memory, so that it opens at once."""

from __future__ import annotations

import threading

from dicom_io.errors import DicomIoError
from inference.api.deps import ApiContext
from inference.api.errors import ApiError
from inference.api.routes.views import labels_of
from inference.domain.errors import ClinferError
from inference.storage import reviews
from inference.telemetry import get_logger

POLL_S = 2.0
FULL_SHARE = 0.5
"""Nothing is read ahead into a cache that is fuller than this: what people look at stays."""
log = get_logger(__name__)


class ReadAhead:
    """Reads one case whenever another one has come to the top."""

    def __init__(self, context: ApiContext, *, max_bytes: int) -> None:
        self._context, self._max_bytes = context, max_bytes
        self._last: int | None = None

    def run(self, stop: threading.Event) -> None:
        """Go on until told to stop; a case that cannot be read is left for its own page to say."""
        while not stop.wait(POLL_S):
            try:
                self.step()
            except (ApiError, DicomIoError, ClinferError) as error:
                log.info("the next case cannot be read ahead", reason=str(error))
            except Exception:  # a thread's end: the database may be back next time
                log.exception("reading ahead failed; trying again")

    def step(self) -> int | None:
        """Read the top case unless it was read last; return its result's id if it was read now."""
        with self._context.database.read() as connection:
            found = reviews.next_undecided(connection)
        is_full = self._context.views.n_bytes > FULL_SHARE * self._max_bytes
        if found is None or found[1] == self._last or is_full:
            return None
        self._last = found[1]
        labels_of(self._context, found[1])
        return found[1]
