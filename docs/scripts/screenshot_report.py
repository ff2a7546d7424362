"""Pictures of a report for the docs: `python docs/scripts/screenshot_report.py RESULTS/sweeps/NAME/report.html`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from tests.support.chromium import browsing, missing  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
SHOTS = {"report": (1200, 1500, "light"), "report-dark": (1200, 1500, "dark"), "report-phone": (390, 1200, "light")}


def main(report: Path) -> None:
    if why := missing():
        sys.exit(why)
    with browsing() as browser:
        for name, (width, height, scheme) in SHOTS.items():
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.goto(report.absolute().as_uri())
            page.screenshot(path=FIGURES / f"{name}.png")
            print(FIGURES / f"{name}.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
