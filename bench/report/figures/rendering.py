"""A figure as a report holds it: as SVG in the page, and as PNG beside the Markdown file."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from matplotlib.figure import Figure

from bench.report.figures.style import styled


@dataclass(frozen=True)
class ReportFigure:
    """A figure as the report holds it."""

    name: str
    title: str
    says: str
    """What it shows, for who cannot see it."""
    caption: str
    svg: str
    png: bytes


def render_figure(name: str, title: str, says: str, caption: str, figure: Figure) -> ReportFigure:
    """A figure in both formats. It is laid out once, which takes as long as drawing it."""
    markup = _svg(figure, name)
    figure.set_layout_engine("none")
    return ReportFigure(name, title, says, caption, markup, _png(figure))


def _svg(figure: Figure, name: str) -> str:
    """The figure as an SVG element, without the file's head and metadata (they name addresses). Its ids begin with
    `name`: several stand in one page."""
    text = io.StringIO()
    with styled():
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    markup = text.getvalue()
    return re.sub(r'( id="|="#|url\(#)', rf"\g<1>{name}-", markup[markup.index("<svg") :])


def _png(figure: Figure) -> bytes:
    """The figure as a PNG at print size."""
    data = io.BytesIO()
    with styled():
        figure.savefig(data, format="png", dpi=200, metadata={"Software": None})
    return data.getvalue()
