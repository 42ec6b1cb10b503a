"""Write the dashboard's file, or check that it is current: `python -m dashboard.grafana [--check]`."""

import argparse
import sys
from collections.abc import Sequence

from dashboard.grafana.dashboards import FILE, dashboard_json

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code: 1 when the file is stale."""
    parser = argparse.ArgumentParser(prog="python -m dashboard.grafana", description="Writes Grafana's dashboard.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the file is stale")
    text = dashboard_json()
    if not parser.parse_args(arguments).check:
        FILE.write_text(text, encoding="utf-8")
    elif not FILE.is_file() or FILE.read_text(encoding="utf-8") != text:
        sys.stderr.write(f"{FILE} is stale; run `python -m dashboard.grafana` and commit it\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
