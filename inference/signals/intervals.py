"""QT corrected for heart rate, by four formulas; the range of each is said, none is chosen."""

from __future__ import annotations

from inference.domain.errors import RefusedError

RR_RANGE_S = (0.3, 2.0)
"""30 to 200 beats a minute; outside, no formula is applied."""
QT_RANGE_MS = (150.0, 700.0)


def corrected_qt_ms(qt_ms: float, rr_s: float) -> dict[str, float]:
    """Correct a QT interval for the RR interval before it.

    Parameters
    ----------
    qt_ms : float
        150 to 700 ms.
    rr_s : float
        0.3 to 2 s.

    Returns
    -------
    dict
        ``bazett``, ``fridericia``, ``framingham``, ``hodges``, in ms.

    Raises
    ------
    RefusedError
        A value is outside its range or not finite.

    References
    ----------
    Bazett, Heart 1920;7:353-370: QT / RR^(1/2). Fridericia, Acta Med Scand 1920;53:469-486:
    QT / RR^(1/3). Sagie et al. (Framingham), Am J Cardiol 1992;70:797-801: QT + 154 (1 - RR).
    Hodges et al., J Am Coll Cardiol 1983;1:694: QT + 1.75 (rate - 60).
    """
    for name, value, (low, high), unit in (
        ("QT", qt_ms, QT_RANGE_MS, "ms"),
        ("RR", rr_s, RR_RANGE_S, "s"),
    ):
        if not low <= value <= high:
            raise RefusedError(f"{name} {value:g} {unit}: QT is corrected for {low:g} to {high:g}")
    return {
        "bazett": qt_ms / rr_s**0.5,
        "fridericia": qt_ms / rr_s ** (1.0 / 3.0),
        "framingham": qt_ms + 154.0 * (1.0 - rr_s),
        "hodges": qt_ms + 1.75 * (60.0 / rr_s - 60.0),
    }
