"""A chart on the page."""

from typing import Any, Final

from nicegui import ui

from dashboard.console.cards import text

__all__ = ["AXIS_PX", "Chart"]

AXIS_PX: Final = 36
"""What the axis below takes of a chart's height."""


class Chart:
    """A chart, or a line that there is nothing to draw."""

    def __init__(self, description: str) -> None:
        """Build it at the place that is being filled; whoever cannot see it is told the description."""
        self._chart = ui.echart({}, renderer="svg").props(f'role="img" aria-label="{description}"').classes("sv-chart")
        self._nothing = text("p", "Nothing to show in this time.", "sv-nothing sv-muted")
        self._nothing.set_visibility(False)

    def draw(self, options: dict[str, Any], height_px: int) -> None:
        """Show these options; only what differs from what is shown is sent. Height 0: there is nothing to draw."""
        self._chart.set_visibility(height_px > 0)
        self._nothing.set_visibility(height_px == 0)
        self._chart.style(replace=f"height: {height_px}px")
        if options != self._chart.options:
            self._chart.options.clear()
            self._chart.options.update(options)
            self._chart.update()
