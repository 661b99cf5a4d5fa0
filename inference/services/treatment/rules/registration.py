"""Fiducial registration: the transform, its residual, and the expected error at a target.

The residual of a case (FRE) does not predict its error at the target (TRE): they are uncorrelated.
So the fiducial localisation error comes from the tracker's own data, and the TRE from the published
formula, in the principal axes of the fiducials wherever they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from inference.domain.care_errors import PopulationError
from inference.services.treatment.rules.frames import Float64, Transform, as_points

FORMULA = "fiducial registration"
SOURCE = "Fitzpatrick JM, West JB, Maurer CR. IEEE Trans Med Imaging 1998;17:694-702, eq. 10 and 46"
LEAST_FIDUCIALS = 3
COLLINEAR_MM = 5.0
"""Fiducials whose second-largest spread (RMS, mm) is below this lie on a line for our purpose: a
turn about that line is then hardly determined."""


@dataclass(frozen=True, kw_only=True)
class Registration:
    """A transform with what is known of its error.

    Attributes
    ----------
    fre_rms_mm : residual over the fiducials; a check for gross faults only
    """

    transform: Transform
    fre_rms_mm: float
    n_fiducials: int


def register(
    from_mm: ArrayLike, to_mm: ArrayLike, *, from_frame: str, to_frame: str
) -> Registration:
    """Return the rigid transform that brings fiducials onto their partners (least squares).

    Parameters
    ----------
    from_mm, to_mm : (n, 3), n >= 3, in the same order

    Raises
    ------
    PopulationError
        Fewer than 3, not the same number, or on a line.

    References
    ----------
    Arun KS et al. IEEE Trans Pattern Anal Mach Intell 1987;9:698-700.
    """
    source, target = as_points("from_mm", from_mm), as_points("to_mm", to_mm)
    if source.shape != target.shape:
        raise _refused("fiducials", (len(source), len(target)), "as many here as there")
    for name, points in (("from_mm", source), ("to_mm", target)):
        _check_spread(name, points)
    centre, goal = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - centre).T @ (target - goal))
    turn = np.diag([1.0, 1.0, np.sign(np.linalg.det(vt.T @ u.T))])
    rotation = vt.T @ turn @ u.T
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, goal - rotation @ centre
    transform = Transform(matrix=matrix, from_frame=from_frame, to_frame=to_frame)
    residual = transform.apply(source, frame=from_frame) - target
    return Registration(
        transform=transform,
        fre_rms_mm=float(np.sqrt((residual**2).sum(axis=1).mean())),
        n_fiducials=len(source),
    )


def expected_fre2_mm2(n_fiducials: int, fle2_mm2: float) -> float:
    """Return the expected squared FRE: (1 - 2/N) of the squared localisation error (eq. 10).

    Raises
    ------
    PopulationError
    """
    if isinstance(n_fiducials, bool) or n_fiducials < LEAST_FIDUCIALS:
        raise _refused("n_fiducials", n_fiducials, f"{LEAST_FIDUCIALS} or more")
    return (1 - 2 / n_fiducials) * _checked_fle2(fle2_mm2)


def expected_tre2_mm2(fiducials_mm: ArrayLike, target_mm: ArrayLike, fle2_mm2: float) -> float:
    """Return the expected squared error at a target (eq. 46).

    Parameters
    ----------
    fiducials_mm : (n, 3), n >= 3, in any frame and any orientation
    target_mm : (3,), same frame
    fle2_mm2 : expected squared localisation error, isotropic, from the tracker's own data

    Raises
    ------
    PopulationError
        Fewer than 3 fiducials, on a line, or an error that is not above 0.
    """
    fle2 = _checked_fle2(fle2_mm2)
    points = as_points("fiducials_mm", fiducials_mm)
    target = as_points("target_mm", target_mm)
    if len(target) != 1:
        raise _refused("target_mm", target.shape, "one point")
    _check_spread("fiducials_mm", points)
    centred = points - points.mean(axis=0)
    axes = np.linalg.svd(centred, full_matrices=True)[2]  # rows are the principal axes
    along = centred @ axes.T
    offset = (target[0] - points.mean(axis=0)) @ axes.T
    ratio = 0.0
    for k in range(3):
        others = [i for i in range(3) if i != k]
        distance2 = float((offset[others] ** 2).sum())
        spread2 = float((along[:, others] ** 2).sum(axis=1).mean())
        ratio += distance2 / spread2
    return fle2 / len(points) * (1 + ratio / 3)


def _check_spread(field: str, points: Float64) -> None:
    if len(points) < LEAST_FIDUCIALS:
        raise _refused(field, len(points), f"{LEAST_FIDUCIALS} or more fiducials")
    spread = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) / np.sqrt(len(points))
    if spread[1] < COLLINEAR_MM:
        raise _refused(
            field, f"second spread {spread[1]:.2f} mm", f"not on a line ({COLLINEAR_MM:g} mm)"
        )


def _checked_fle2(fle2_mm2: float) -> float:
    if isinstance(fle2_mm2, bool) or not np.isfinite(fle2_mm2) or fle2_mm2 <= 0:
        raise _refused("fle2_mm2", fle2_mm2, "above 0, from the tracker's own data")
    return float(fle2_mm2)


def _refused(field: str, value: object, studied: str) -> PopulationError:
    return PopulationError(formula=FORMULA, field=field, value=value, studied=studied)
