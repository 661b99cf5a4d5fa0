"""When is a study complete: by expected counts where they are known, else by a quiet period.

C-STORE does not say how many instances will come, and an association may carry part of a study or
several. A late instance re-opens the study, so a wrong guess costs time, never a slice.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta


@dataclass(frozen=True, kw_only=True)
class CompletionRule:
    """How long to wait for more.

    Attributes
    ----------
    quiet_period_s : after the last instance, where nobody said how many there are
    incomplete_wait_s : after the last instance, while fewer are here than were announced
    """

    quiet_period_s: float = 5.0
    incomplete_wait_s: float = 60.0

    def run_after(
        self, *, now: datetime, n_instances: int, expected_instances: int | None
    ) -> datetime:
        """Return the time at which the study counts as complete unless another instance comes."""
        if expected_instances is None:
            return now + timedelta(seconds=self.quiet_period_s)
        if n_instances >= expected_instances:
            return now
        return now + timedelta(seconds=max(self.incomplete_wait_s, self.quiet_period_s))
