"""Why a care service does not answer: each refusal names field, value, unit, range and what to do.

::

    RefusedError
    └── CareRefusedError
        ├── QuantityError         a value without a unit, in another unit, or not a finite number
        ├── PopulationError       the formula was not derived for such a person
        ├── ReadingError          input is missing, stale, flat or impossible: an alarm, no answer
        ├── LimitMissingError     no limit, so no proposal
        ├── HardLimitError        a value is outside the smallest of its independent caps
        ├── SoftLimitError        outside a soft limit, and nobody gave a reason
        ├── StepError             the change is larger than allowed, or suggestions swing to and fro
        ├── LibraryError          a limit library is unsigned, altered, expired, or EXAMPLE data
        ├── ProposalStateError    the proposal is not in a state in which this may happen
        ├── ConfirmationError     who confirms, or what was confirmed, is not right
        └── VectorFileError       a file of acceptance vectors that cannot be read
"""

from __future__ import annotations

from inference.domain.errors import RefusedError


class CareRefusedError(RefusedError):
    """Root of the care refusals; nothing acts by itself and nothing is clamped."""

    code = "care_refused"


class QuantityError(CareRefusedError):
    """A value without a unit, in a unit that is not the wanted one, or not a finite number."""

    code = "quantity"

    def __init__(self, *, field: str, value: object, unit: str | None, problem: str) -> None:
        self.field, self.value, self.unit, self.problem = field, value, unit, problem
        super().__init__(f"{field} = {value!r} {unit or '(no unit)'}: {problem}")


class PopulationError(CareRefusedError):
    """The formula's source did not study such a person."""

    code = "population"

    def __init__(self, *, formula: str, field: str, value: object, studied: str) -> None:
        self.formula, self.field, self.value, self.studied = formula, field, value, studied
        super().__init__(
            f"{formula}: {field} = {value!r} is outside the studied population ({studied});"
            " use another method or leave it out"
        )


class ReadingError(CareRefusedError):
    """Input that nothing may be proposed from; ``kind`` says why."""

    code = "reading"

    def __init__(self, *, field: str, kind: str, problem: str) -> None:
        self.field, self.kind, self.problem = field, kind, problem
        super().__init__(f"{field} is {kind}: {problem}; nothing is proposed from it")


class LimitMissingError(CareRefusedError):
    """There is no limit for a parameter, so there is no proposal."""

    code = "limit_missing"

    def __init__(self, *, parameter: str, library: str, problem: str) -> None:
        self.parameter, self.library, self.problem = parameter, library, problem
        super().__init__(f"{parameter}: {problem} (library {library}); no limit, no proposal")


class HardLimitError(CareRefusedError):
    """A value is outside a hard limit; it is refused, never moved to the limit."""

    code = "hard_limit"

    def __init__(
        self, *, parameter: str, value: float, unit: str, low: float | None, high: float, cap: str
    ) -> None:
        self.parameter, self.value, self.unit = parameter, value, unit
        self.low, self.high, self.cap = low, high, cap
        super().__init__(
            f"{parameter} = {value:g} {unit} is outside {'-inf' if low is None else f'{low:g}'}"
            f" to {high:g} {unit}, bound by {cap}"
        )


class SoftLimitError(CareRefusedError):
    """A value is outside a soft limit and no listed reason was given."""

    code = "soft_limit"

    def __init__(self, *, parameters: tuple[str, ...], reasons: tuple[str, ...]) -> None:
        self.parameters, self.reasons = parameters, reasons
        super().__init__(
            f"outside the soft limit: {', '.join(parameters)}; confirm with one of the reasons"
            f" {', '.join(reasons)}"
        )


class StepError(CareRefusedError):
    """The change is larger than one interval allows, or suggestions swing to and fro."""

    code = "step"

    def __init__(self, *, parameter: str, problem: str) -> None:
        self.parameter, self.problem = parameter, problem
        super().__init__(f"{parameter}: {problem}; withheld")


class LibraryError(CareRefusedError):
    """A limit library may not be used; ``problem`` names what is wrong with it."""

    code = "limit_library"

    def __init__(self, *, library: str, problem: str) -> None:
        self.library, self.problem = library, problem
        super().__init__(f"limit library {library}: {problem}")


class ProposalStateError(CareRefusedError):
    """What was asked cannot happen to a proposal in this state."""

    code = "proposal_state"

    def __init__(self, *, proposal_id: str, state: str, event: str) -> None:
        self.proposal_id, self.state, self.event = proposal_id, state, event
        super().__init__(f"proposal {proposal_id} is {state}: {event} is not possible")


class ConfirmationError(CareRefusedError):
    """Who confirms, or what was confirmed, is not right; ``reason`` is stable."""

    code = "confirmation"

    def __init__(self, *, proposal_id: str, reason: str, problem: str) -> None:
        self.proposal_id, self.reason, self.problem = proposal_id, reason, problem
        super().__init__(f"proposal {proposal_id} [{reason}]: {problem}")


class VectorFileError(CareRefusedError):
    """A file of acceptance vectors cannot be read, or is of another schema."""

    code = "vector_file"

    def __init__(self, *, path: str, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}")
