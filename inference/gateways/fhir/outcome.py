"""What is wrong, as FHIR says it: an OperationOutcome with the element and a stable code."""

from __future__ import annotations

from typing import Any

from inference.domain.errors import ClinferError

ISSUE_OF_STATUS = {
    400: "invalid",
    404: "not-found",
    405: "not-supported",
    406: "not-supported",
    409: "conflict",
    410: "deleted",
    412: "conflict",
    413: "too-long",
    415: "not-supported",
    422: "processing",
    428: "required",
    503: "transient",
    507: "no-store",
}
"""HTTP status to the code of an issue (value set issue-type)."""


class FhirError(ClinferError):
    """A FHIR request is not answered; ``expression`` names the element or parameter."""

    code = "fhir_refused"

    def __init__(
        self, status: int, problem: str, *, expression: str = "", issue: str | None = None
    ) -> None:
        self.status, self.problem, self.expression = status, problem, expression
        self.issue = issue or ISSUE_OF_STATUS.get(status, "exception")
        super().__init__(f"{expression}: {problem}" if expression else problem)


def operation_outcome(error: FhirError) -> dict[str, Any]:
    """Return the resource that says what is wrong."""
    issue: dict[str, Any] = {
        "severity": "error",
        "code": error.issue,
        "details": {"coding": [{"system": "urn:clinfer:problem", "code": error.code}]},
        "diagnostics": str(error),
    }
    if error.expression:
        issue["expression"] = [error.expression]
    return {"resourceType": "OperationOutcome", "issue": [issue]}
