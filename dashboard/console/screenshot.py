"""A picture of a running console, for the documentation.

python -m dashboard.console.screenshot http://127.0.0.1:8080/ docs/console.png --width 1280 --height 900 --dark
"""

import argparse
import os
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

__all__ = ["main"]

_CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
_SWITCHES = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run")


def main() -> int:
    """Take the picture once the page shows a reading."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="of the console")
    parser.add_argument("file", type=Path, help="where the picture goes, PNG")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in CSS pixels")
    parser.add_argument("--height", type=int, default=900, help="of the window, in CSS pixels")
    parser.add_argument("--dark", action="store_true", help="as on a system with a dark theme")
    parser.add_argument("--whole", action="store_true", help="the whole page, however high")
    parser.add_argument("--span", choices=("5 min", "1 h", "24 h"), default="5 min", help="how far back")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=list(_SWITCHES))
        page = browser.new_page(
            viewport={"width": arguments.width, "height": arguments.height},
            color_scheme="dark" if arguments.dark else "light",
        )
        page.goto(arguments.url)
        page.locator(".sv-store", has_text="connected").wait_for()
        if arguments.span != "5 min":
            page.get_by_role("button", name=arguments.span, exact=True).click()
        page.locator(".sv-chart svg path").first.wait_for(state="attached")
        page.wait_for_timeout(1_500)  # two refreshes: all charts are drawn
        page.mouse.move(0, 0)
        page.screenshot(path=arguments.file, full_page=arguments.whole)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
