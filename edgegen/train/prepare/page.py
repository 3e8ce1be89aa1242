"""The report as one HTML file: no script, nothing from the network, bars as plain SVG."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, Template


def html(made: Mapping[str, Any]) -> str:
    """The page of a report (see `report.make`). Every text is escaped."""
    return _template().render(report=made)


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["percent"] = lambda share: "-" if share is None else f"{share:.1%}"
    return environment.from_string(files("edgegen").joinpath("train/prepare/page.html").read_text("utf-8"))
