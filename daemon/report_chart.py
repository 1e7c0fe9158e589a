"""The curves of a training, as SVG that stands in the page itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from daemon.page import element

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

_WIDTH, _HEIGHT = 340.0, 190.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 44.0, 14.0, 12.0, 40.0
_POINTS = 160  # more are not seen in this width
_SMOOTHING = 12  # a point is the mean of one part in so many of the steps around it
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Axes:
    """Where the values of a chart lie on the page.

    Attributes:
        across: From the first value of x to the last.
        up: From the lowest value of y to the highest.
    """

    across: tuple[float, float]
    up: tuple[float, float]

    def x(self, value: float) -> float:
        """Return the place of a value of x."""
        return _between(value, self.across, (_LEFT, _WIDTH - _RIGHT))

    def y(self, value: float) -> float:
        """Return the place of a value of y."""
        return _between(value, self.up, (_HEIGHT - _BOTTOM, _TOP))


def losses(values: Sequence[float], steps: int) -> Element:
    """Draw the training loss, and its course without the noise of single steps.

    Args:
        values: The loss of each step, or the means of as many steps each.
        steps: How many steps there were.
    """
    axes = Axes((1, max(2, steps)), _span(values))
    size = steps / len(values)
    places = [(number - 0.5) * size + 0.5 for number in range(1, len(values) + 1)]
    raw = _thinned(list(zip(places, values, strict=True)))
    smooth = _thinned(list(zip(places, _smoothed(values), strict=True)))
    return _figure(
        axes,
        ("optimizer step", "loss (nats per token)"),
        _whole(axes.across),
        [_line(axes, raw, "faint"), _line(axes, smooth, "bold")],
        f"Training loss over {steps} steps, from {values[0]:.2f} to {values[-1]:.2f}",
    )


def perplexities(values: Sequence[float], kept: int) -> Element:
    """Draw the hold-out's perplexity after each epoch, and mark the epoch that was kept."""
    epochs = list(enumerate(values, start=1))
    axes = Axes((1, max(2, len(values))), _span(values))
    dots = [
        element(
            "circle",
            cx=_short(axes.x(epoch)),
            cy=_short(axes.y(value)),
            r=5 if epoch == kept else 2.5,
            class_="kept" if epoch == kept else "dot",
        )
        for epoch, value in epochs
    ]
    return _figure(
        axes,
        ("epoch", "perplexity"),
        _whole(axes.across),
        [_line(axes, epochs, "bold"), *dots],
        f"Perplexity after each of {len(values)} epochs; epoch {kept} was kept",
    )


def _figure(
    axes: Axes,
    labels: tuple[str, str],
    across: Sequence[float],
    curves: Sequence[Element],
    told: str,
) -> Element:
    ground = _HEIGHT - _BOTTOM
    parts = []
    for value in _ticks(axes.up):
        y = axes.y(value)
        parts.append(_path([(_LEFT, y), (_WIDTH - _RIGHT, y)], "grid"))
        parts.append(_text(_LEFT - 5, y + 3.5, _number(value), "end"))
    parts += [_text(axes.x(value), ground + 14, f"{value:.0f}", "middle") for value in across]
    parts.append(_path([(_LEFT, ground), (_WIDTH - _RIGHT, ground)], "axis"))
    parts.append(_text((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 8, labels[0], "middle"))
    return element(
        "figure",
        element("figcaption", labels[1]),
        element(
            "svg",
            *parts,
            *curves,
            viewBox=f"0 0 {_WIDTH:.0f} {_HEIGHT:.0f}",
            role="img",
            aria_label=told,
        ),
    )


def _line(axes: Axes, points: Sequence[tuple[float, float]], kind: str) -> Element:
    return _path([(axes.x(x), axes.y(y)) for x, y in points], kind)


def _path(points: Sequence[tuple[float, float]], kind: str) -> Element:
    places = " L".join(f"{_short(x)} {_short(y)}" for x, y in points)
    return element("path", d=f"M{places}", class_=kind)


def _text(x: float, y: float, words: str, anchor: str) -> Element:
    return element("text", words, x=_short(x), y=_short(y), text_anchor=anchor)


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return at most `_POINTS` points, each the mean of its neighbours; the ends stay."""
    size = math.ceil(len(points) / _POINTS)
    if size == 1:
        return points
    groups = [points[first : first + size] for first in range(0, len(points), size)]
    means = [(_mean([x for x, _ in one]), _mean([y for _, y in one])) for one in groups]
    return [(points[0][0], means[0][1]), *means, (points[-1][0], means[-1][1])]


def _smoothed(values: Sequence[float]) -> list[float]:
    """Return the mean around each value, of a window that is narrower at the ends."""
    reach = len(values) // (2 * _SMOOTHING)
    sums = [0.0]
    for value in values:
        sums.append(sums[-1] + value)
    smooth = []
    for here in range(len(values)):
        near = min(reach, here, len(values) - 1 - here)
        first, end = here - near, here + near + 1
        smooth.append((sums[end] - sums[first]) / (end - first))
    return smooth


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _ticks(span: tuple[float, float]) -> list[float]:
    """Return about `_TICKS` round numbers within a span."""
    rough = (span[1] - span[0]) / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * part for part in (1, 2, 2.5, 5, 10) if unit * part >= rough)
    first = math.ceil(span[0] / step)
    return [number * step for number in range(first, math.floor(span[1] / step) + 1)]


def _whole(span: tuple[float, float]) -> list[float]:
    """Return the whole numbers that stand below the chart."""
    found = [value for value in _ticks(span) if value == int(value) and value > span[0]]
    return [span[0], *found]


def _between(value: float, one: tuple[float, float], other: tuple[float, float]) -> float:
    return other[0] + (value - one[0]) / (one[1] - one[0]) * (other[1] - other[0])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _short(value: float) -> str:
    return f"{value:.1f}"


def _number(value: float) -> str:
    return f"{value:.6g}"
