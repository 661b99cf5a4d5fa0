"""A result beside the patient's earlier ones, and the reader's word on which lesion is which."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from inference.api.deps import ApiContext, Asker, Context, RowId
from inference.api.errors import ApiError
from inference.domain.change import Comparison, Judgement, Limits, Match, compare
from inference.domain.roles import Permissions, Role
from inference.storage import audit, priors

router = APIRouter(prefix="/v1/results", tags=["results"])

PERMISSIONS: Permissions = {
    ("GET", "/v1/results/{result_id}/changes"): frozenset(
        {Role.READER, Role.REVIEWER, Role.ADMIN, Role.INTEGRATION}
    ),
    ("POST", "/v1/results/{result_id}/matches"): frozenset({Role.READER}),
}


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuantityChangeOut(_Model):
    """From the earlier value to the later one; percent is of the earlier one."""

    earlier: float
    later: float
    difference: float
    percent: float | None
    limit_percent: float | None = Field(description="limits of agreement; null: not known")
    judgement: Judgement


class SegmentChangeOut(_Model):
    """One structure at both time points."""

    label: int
    name: str
    match: Match
    volume_ml: QuantityChangeOut | None
    long_axis_mm: QuantityChangeOut | None


class ComparisonOut(_Model):
    """A result beside one prior; ``reason`` says why it is not comparable."""

    prior_result_id: int
    prior_study_uid: str
    prior_study_date: str = Field(examples=["20260131"])
    prior_model_version: str
    is_comparable: bool
    reason: str = Field(examples=["reconstruction kernel B30f before, B70f now"])
    limits_source: str = Field(description="where the limits of agreement were measured")
    changes: list[SegmentChangeOut]


class ChangesOut(_Model):
    """A result beside each prior, the latest first."""

    result_id: int
    comparisons: list[ComparisonOut]


class MatchIn(_Model):
    """Whether two segments are the same structure."""

    label: int = Field(ge=1, le=65535)
    prior_result_id: int = Field(ge=1, le=2**62)
    prior_label: int = Field(ge=1, le=65535)
    is_match: bool


@router.get("/{result_id}/changes", summary="Changes since the patient's earlier results")
def get_changes(context: Context, result_id: RowId) -> ChangesOut:
    """Compare with each earlier result of the same patient and model."""
    comparisons = comparisons_of(context, result_id)
    return ChangesOut(result_id=result_id, comparisons=[_out(context, one) for one in comparisons])


@router.post("/{result_id}/matches", summary="Say whether two segments are the same structure")
def decide_match(context: Context, asker: Asker, result_id: RowId, said: MatchIn) -> ChangesOut:
    """Keep the reader's word; figures of a rejected match are not given any more."""
    with context.database.write() as connection:
        here = priors.time_point(connection, result_id)
        before = {one.result_id: one for one in priors.priors_of(connection, result_id)}
        prior = before.get(said.prior_result_id)
        if prior is None:
            raise ApiError("invalid_request", f"prior_result_id: no prior of result {result_id}")
        for field, label, point in (
            ("label", said.label, here), ("prior_label", said.prior_label, prior)
        ):  # fmt: skip
            if label not in {one.label for one in point.segments}:
                raise ApiError(
                    "invalid_request", f"{field}: result {point.result_id} has no segment {label}"
                )
        now = context.database.now(connection)
        priors.decide_match(
            connection,
            result_id=result_id,
            label=said.label,
            prior_result_id=said.prior_result_id,
            prior_label=said.prior_label,
            is_confirmed=said.is_match,
            by=asker.name,
            now=now,
        )
        audit.append(
            connection,
            at=now,
            actor=f"http:{asker.name}",
            action="lesion.matched" if said.is_match else "lesion.unmatched",
            subject=here.study_uid,
            detail={"result_id": result_id, **said.model_dump()},
        )
    return get_changes(context, result_id)


def comparisons_of(context: ApiContext, result_id: int) -> tuple[Comparison, ...]:
    """Compare a result with each of its priors.

    Raises
    ------
    NotFoundError
    """
    with context.database.read() as connection:
        here = priors.time_point(connection, result_id)
        before = priors.priors_of(connection, result_id)
        decided = {
            one.result_id: priors.matches_between(connection, result_id, one.result_id)
            for one in before
        }
    limits, _ = _limits(context, here.model, here.model_version)
    return tuple(
        compare(here, one, limits=limits, matches=decided[one.result_id]) for one in before
    )


def _limits(context: ApiContext, model: str, version: str) -> tuple[dict[str, Limits], str]:
    """Return the limits of exactly this version, and their source; nothing where there are none."""
    spec = context.models.get(model)
    if spec is None or spec.version != version or spec.reproducibility is None:
        return {}, ""
    found = {
        one.name: Limits(volume_percent=one.volume_percent, long_axis_percent=one.long_axis_percent)
        for one in spec.reproducibility.segments
    }
    return found, spec.reproducibility.source


def _out(context: ApiContext, one: Comparison) -> ComparisonOut:
    _, source = _limits(context, one.prior.model, one.prior.model_version)
    changes: list[dict[str, Any]] = [asdict(change) for change in one.changes]
    return ComparisonOut(
        prior_result_id=one.prior.result_id,
        prior_study_uid=one.prior.study_uid,
        prior_study_date=one.prior.study_date,
        prior_model_version=one.prior.model_version,
        is_comparable=one.is_comparable,
        reason=one.reason,
        limits_source=source if one.is_comparable else "",
        changes=[SegmentChangeOut.model_validate(change) for change in changes],
    )
