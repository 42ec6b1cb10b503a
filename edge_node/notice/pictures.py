"""The pictures of the notice: a microphone, and the QR code, each as one SVG for the HTML and the PDF."""

from typing import Final

import segno

__all__ = ["MICROPHONE", "qr_modules", "qr_svg"]

_QUIET: Final = 4
"""Modules of white around a QR code: ISO/IEC 18004 asks for them, and readers need them."""

MICROPHONE: Final = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96" width="96" height="96">'
    '<circle cx="48" cy="48" r="48" fill="#0f5c63"/>'
    '<path fill="#ffffff" d="M48 17a11 11 0 0 1 11 11v18a11 11 0 0 1-22 0V28a11 11 0 0 1 11-11z"/>'
    '<path fill="none" stroke="#ffffff" stroke-width="5" stroke-linecap="round" '
    'd="M29 44v2a19 19 0 0 0 38 0v-2M48 66v12M38 79h20"/>'
    '<path fill="none" stroke="#8fd0cf" stroke-width="4" stroke-linecap="round" '
    'd="M18 36v18M78 36v18"/>'
    "</svg>"
)
"""A microphone between two sound waves, white on the notice's one colour."""


def qr_modules(text: str) -> tuple[tuple[bool, ...], ...]:
    """Return the modules of a QR code, True for black, with the quiet zone around them.

    Args:
        text: what it says; a lost eighth of the picture does not hurt (error correction level M or better).
    """
    code = segno.make_qr(text, error="m")
    return tuple(tuple(bool(each) for each in row) for row in code.matrix_iter(border=_QUIET))


def qr_svg(text: str) -> str:
    """Return a QR code as SVG: black on white, in a dark window too.

    Args:
        text: what it says.
    """
    modules = qr_modules(text)
    side = len(modules)
    bars = "".join(_bars(row, y) for y, row in enumerate(modules))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {side} {side}" width="{side}" height="{side}" '
        f'shape-rendering="crispEdges"><path fill="#ffffff" d="M0 0h{side}v{side}h-{side}z"/>'
        f'<path fill="#000000" d="{bars}"/></svg>'
    )


def _bars(row: tuple[bool, ...], y: int) -> str:
    """Return one row's runs of black, as a part of an SVG path."""
    path, start = [], None
    for x, black in enumerate((*row, False)):
        if black and start is None:
            start = x
        elif not black and start is not None:
            path.append(f"M{start} {y}h{x - start}v1h-{x - start}z")
            start = None
    return "".join(path)
