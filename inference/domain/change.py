"""How a structure changed between two time points, and when that may be said at all.

Two measurements are compared only where the same version of the same model made both, on comparable
acquisitions; else the answer is "not comparable", with the reason. Limits of agreement are the
model's own measured figures; without them a change has no judgement, only a size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

SPACING_TOLERANCE = 0.1
"""Relative difference of slice spacings up to which they count as the same: rounding in headers,
not another protocol. Ours, and on the strict side: a spacing change alters partial volume, and no
figure of how much is known for the models here."""


@dataclass(frozen=True, kw_only=True)
class Acquisition:
    """What about a series decides whether its measurements may be compared.

    ``kernel`` is the reconstruction kernel (0018,1210) and ``contrast`` the agent (0018,0010), ""
    where the header is silent.
    """

    modality: str
    slice_spacing_mm: float
    kernel: str
    contrast: str


class Match(StrEnum):
    """What is known of two segments being the same structure."""

    PROPOSED = "proposed"
    """Same model, same label: nobody has looked at it."""

    CONFIRMED = "confirmed"
    REJECTED = "rejected"


class Judgement(StrEnum):
    """A change beside its limits of agreement."""

    WITHIN_LIMITS = "within limits of agreement"
    BEYOND_LIMITS = "beyond limits of agreement"
    LIMITS_UNKNOWN = "limits unknown"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One segment at one time point; an axis is None where it was not measured."""

    label: int
    name: str
    volume_ml: float
    long_axis_mm: float | None


@dataclass(frozen=True, kw_only=True)
class TimePoint:
    """One result of a patient; ``acquisition`` is None where it was not recorded."""

    result_id: int
    study_uid: str
    study_date: str
    model: str
    model_version: str
    weights_sha256: str
    acquisition: Acquisition | None
    segments: tuple[Measured, ...]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Half width of the 95 % limits of agreement, in percent; None where it was not measured."""

    volume_percent: float | None
    long_axis_percent: float | None


@dataclass(frozen=True, kw_only=True)
class QuantityChange:
    """From the earlier value to the later one, in the quantity's unit (ml or mm).

    ``percent`` is of the earlier value; None where that is 0. ``limit_percent`` is of the mean of
    both, as limits of agreement are.
    """

    earlier: float
    later: float
    difference: float
    percent: float | None
    limit_percent: float | None
    judgement: Judgement


@dataclass(frozen=True, kw_only=True)
class SegmentChange:
    """One structure at both time points; no figures where a reader rejected the match."""

    label: int
    name: str
    match: Match
    volume_ml: QuantityChange | None
    long_axis_mm: QuantityChange | None


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A result beside one prior; ``reason`` says why it is not comparable, "" where it is."""

    prior: TimePoint
    reason: str
    changes: tuple[SegmentChange, ...]

    @property
    def is_comparable(self) -> bool:
        """Whether changes may be given."""
        return not self.reason


def compare(
    now: TimePoint,
    prior: TimePoint,
    *,
    limits: Mapping[str, Limits],
    matches: Mapping[tuple[int, int], Match],
) -> Comparison:
    """Compare a result with an earlier one.

    Parameters
    ----------
    limits : by segment name; those of exactly this version of the model
    matches : what readers decided, by (label now, label of the prior)
    """
    reason = why_not_comparable(now, prior)
    changes: tuple[SegmentChange, ...] = ()
    if not reason:
        changes = _changes(now.segments, prior.segments, limits, matches)
    return Comparison(prior=prior, reason=reason, changes=changes)


def why_not_comparable(now: TimePoint, prior: TimePoint) -> str:
    """Return why no change may be given between two results; "" where it may."""
    if now.model != prior.model:
        return f"the prior was made by model {prior.model}, this by {now.model}"
    if now.model_version != prior.model_version or now.weights_sha256 != prior.weights_sha256:
        return f"the prior was made by version {prior.model_version}, this by {now.model_version}"
    if now.acquisition is None or prior.acquisition is None:
        which = "this result" if now.acquisition is None else "the prior"
        return f"how the images of {which} were acquired is not on record"
    return _acquisitions_differ(now.acquisition, prior.acquisition)


def _acquisitions_differ(now: Acquisition, prior: Acquisition) -> str:
    if now.modality != prior.modality:
        return f"modality {prior.modality} before, {now.modality} now"
    smaller, larger = sorted((now.slice_spacing_mm, prior.slice_spacing_mm))
    if larger > smaller * (1 + SPACING_TOLERANCE):
        return (
            f"slice spacing {prior.slice_spacing_mm:.2f} mm before,"
            f" {now.slice_spacing_mm:.2f} mm now"
        )
    if now.modality == "CT" and not (now.kernel and prior.kernel):
        return "the reconstruction kernel of one of them is not stated"
    if now.kernel != prior.kernel:
        return f"reconstruction kernel {prior.kernel or 'none'} before, {now.kernel or 'none'} now"
    if bool(now.contrast) != bool(prior.contrast):
        given = "before, not now" if prior.contrast else "now, not before"
        return f"contrast agent {given}"
    return ""


def _changes(
    now: Sequence[Measured],
    prior: Sequence[Measured],
    limits: Mapping[str, Limits],
    matches: Mapping[tuple[int, int], Match],
) -> tuple[SegmentChange, ...]:
    earlier_by_label = {one.label: one for one in prior}
    partner = {
        label: before for (label, before), match in matches.items() if match is Match.CONFIRMED
    }
    found = []
    for one in now:
        before = earlier_by_label.get(partner.get(one.label, one.label))
        if before is None:
            continue
        match = matches.get((one.label, before.label), Match.PROPOSED)
        is_same = match is not Match.REJECTED
        bounds = limits.get(one.name) or Limits(volume_percent=None, long_axis_percent=None)
        found.append(
            SegmentChange(
                label=one.label,
                name=one.name,
                match=match,
                volume_ml=(
                    change_of(before.volume_ml, one.volume_ml, bounds.volume_percent)
                    if is_same
                    else None
                ),
                long_axis_mm=(
                    change_of(before.long_axis_mm, one.long_axis_mm, bounds.long_axis_percent)
                    if is_same and before.long_axis_mm is not None and one.long_axis_mm is not None
                    else None
                ),
            )
        )
    return tuple(found)


def change_of(earlier: float, later: float, limit_percent: float | None) -> QuantityChange:
    """Return the change of one quantity, judged by the limits of agreement where they are known."""
    difference, mean = later - earlier, (later + earlier) / 2
    if limit_percent is None:
        judgement = Judgement.LIMITS_UNKNOWN
    elif abs(difference) * 100 > limit_percent * mean:
        judgement = Judgement.BEYOND_LIMITS
    else:
        judgement = Judgement.WITHIN_LIMITS
    return QuantityChange(
        earlier=earlier,
        later=later,
        difference=difference,
        percent=None if earlier == 0 else 100 * difference / earlier,
        limit_percent=limit_percent,
        judgement=judgement,
    )
