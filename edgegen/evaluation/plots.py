"""Plots as SVG text that stands in a page: curves, points with names, bars with intervals. Pure; knows no report.

A plotting library would weigh more than the rest of edgegen; three kinds of plot do not need one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

Point = tuple[float, float]
COLOURS = ("#2563a8", "#d07a1f", "#5b8f4e", "#8a8a8a", "#9a4f96", "#b03a3a")
_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 16, 28, 40
_BAR, _GAP, _NAMES, _LINE = 11, 10, 190, 18


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval where it has one."""

    value: float
    low: float | None = None
    high: float | None = None


def curves(series: Mapping[str, Sequence[Point]], x: str, y: str) -> str:
    """A line for each series of points. Each has one at least."""
    axes = _Axes.around([point for points in series.values() for point in points])
    colours = dict(zip(series, _colours(len(series)), strict=True))
    parts = [axes.drawn(x, y), _legend(colours)]
    for colour, points in zip(colours.values(), series.values(), strict=True):
        path = " ".join(f"{axes.x(px):.1f},{axes.y(py):.1f}" for px, py in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return _svg(_WIDTH, _HEIGHT, f"{y} by {x}", parts)


def points(named: Sequence[tuple[str, float, Bar]], x: str, y: str) -> str:
    """A point with its name for each (name, x, y), and its interval where it has one. There is one at least."""
    corners = [(px, v) for _, px, bar in named for v in (bar.value, bar.low, bar.high) if v is not None]
    axes = _Axes.around(corners, margin=0.12)
    parts = [axes.drawn(x, y)]
    for name, px, bar in named:
        cx, cy = axes.x(px), axes.y(bar.value)
        if bar.low is not None and bar.high is not None:
            parts.append(_line(cx, axes.y(bar.low), cx, axes.y(bar.high), COLOURS[0], 1.5))
        parts.append(f'<circle cx="{cx:.1f}" cy="{cy:.1f}" r="4" fill="{COLOURS[0]}"/>')
        end = ' text-anchor="end"' if cx > _WIDTH / 2 else ""
        parts.append(f'<text x="{cx + (-8 if end else 8):.1f}" y="{cy - 7:.1f}"{end}>{escape(name)}</text>')
    return _svg(_WIDTH, _HEIGHT, f"{y} by {x}", parts)


def bars(groups: Mapping[str, Mapping[str, Bar]], title: str, series: Sequence[str]) -> str:
    """For each group a bar of each series that it has; a series has the colour of its place. Groups must not be empty."""
    colours = dict(zip(series, _colours(len(series)), strict=True))
    most = max((v for g in groups.values() for b in g.values() for v in (b.value, b.high or 0.0)), default=0.0) or 1.0
    scale, top = (_WIDTH - _NAMES - 70) / most, float(_TOP + _LINE)
    there = {name: colours[name] for name in series if any(name in group for group in groups.values())}
    parts = [f'<text x="4" y="14">{escape(title)}</text>', _legend(there, _LINE) if len(there) > 1 else ""]
    for label, group in groups.items():
        middle = top + _BAR * len(group) / 2 + 4
        parts.append(f'<text x="{_NAMES - 8}" y="{middle:.1f}" text-anchor="end">{escape(_cut(label))}</text>')
        for name in series:
            if name in group:
                parts += _bar(group[name], top, scale, colours[name])
                top += _BAR
        top += _GAP
    return _svg(_WIDTH, math.ceil(top), title, parts)


def _bar(bar: Bar, top: float, scale: float, colour: str) -> list[str]:
    width, middle = max(bar.value, 0.0) * scale, top + _BAR / 2
    right = max(width, (bar.high or 0.0) * scale)
    parts = [f'<rect x="{_NAMES}" y="{top:.1f}" width="{width:.1f}" height="{_BAR - 1}" fill="{colour}"/>']
    if bar.low is not None and bar.high is not None:
        parts.append(_line(_NAMES + bar.low * scale, middle, _NAMES + bar.high * scale, middle, "#222", 1))
    return [*parts, f'<text x="{_NAMES + right + 5:.1f}" y="{middle + 4:.1f}" class="v">{bar.value:.3g}</text>']


@dataclass(frozen=True, slots=True)
class _Axes:
    """The part of the plane that is drawn, and where its points lie on the page."""

    left: float
    right: float
    low: float
    high: float

    @classmethod
    def around(cls, found: Sequence[Point], margin: float = 0.04) -> _Axes:
        """Room for all points, and a little more."""
        (left, right), (low, high) = (_widened([point[i] for point in found], margin) for i in (0, 1))
        return cls(left, right, low, high)

    def x(self, value: float) -> float:
        """From the left edge."""
        return _LEFT + (value - self.left) / (self.right - self.left) * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        """From the top."""
        return _HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)

    def drawn(self, x: str, y: str) -> str:
        """Grid, numbers and names."""
        parts = []
        for value in ticks(self.low, self.high):
            parts.append(_line(_LEFT, self.y(value), _WIDTH - _RIGHT, self.y(value), "#ddd", 1))
            parts.append(f'<text x="{_LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end" class="v">{value:g}</text>')
        parts += [
            f'<text x="{self.x(value):.1f}" y="{_HEIGHT - 24}" text-anchor="middle" class="v">{value:g}</text>'
            for value in ticks(self.left, self.right)
        ]
        parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 6}" text-anchor="middle">{escape(x)}</text>')
        return "".join(parts) + f'<text x="4" y="14">{escape(y)}</text>'


def ticks(low: float, high: float) -> list[float]:
    """Round numbers from `low` to `high`: the largest step of 1, 2 or 5 times a power of ten that fits in three times."""
    most = (high - low) / 3
    power = 10.0 ** math.floor(math.log10(most))
    step = max(power * m for m in (1, 2, 5) if power * m <= most * (1 + 1e-9))
    return [round(i * step, 12) for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _widened(values: Sequence[float], margin: float) -> tuple[float, float]:
    low, high = min(values), max(values)
    room = (high - low) * margin or abs(high) * 0.1 or 1.0
    return low - room, high + room


def _colours(n: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(n)]


def _legend(colours: Mapping[str, str], top: float = 0.0) -> str:
    parts, at = [], _NAMES
    for name, colour in colours.items():
        parts.append(f'<rect x="{at}" y="{top + 6}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{at + 14}" y="{top + 15}">{escape(name)}</text>')
        at += 26 + 7 * len(name)
    return "".join(parts)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _cut(label: str, most: int = 26) -> str:
    return label if len(label) <= most else label[: most - 1] + "…"


def _svg(width: int, height: int, title: str, parts: Iterable[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )
