"""Keep the curve that a search saw, in bounded memory."""

from millrace.dataplane.autotune_measure import CurvePoint, Verdict

__all__ = ["Curve"]

KEPT_SECONDS = 1.0
"""A setting that is kept shows at most one point in so long."""


class Curve:
    """Points in the order of their times; when there are too many, every second one goes, of settings kept first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept_at = 0.0
        self.points: list[CurvePoint] = []

    def add(self, point: CurvePoint) -> None:
        """Add a point."""
        if point.verdict is Verdict.KEPT:
            if self.points and point.at_seconds < self._kept_at:
                return
            self._kept_at = point.at_seconds + KEPT_SECONDS
        self.points.append(point)
        if len(self.points) > self._most:
            self.points = _thinned(self.points, self._most)


def _thinned(points: list[CurvePoint], most: int) -> list[CurvePoint]:
    """Return fewer points: the last one stays, as do all tries if the rest is enough to drop."""
    thin = [
        point
        for index, point in enumerate(points)
        if point.verdict is not Verdict.KEPT or index % 2 or index == len(points) - 1
    ]
    return thin if len(thin) <= most * 3 // 4 else [*points[:-1:2], points[-1]]
