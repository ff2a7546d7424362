"""Pictures of Ray's dashboard during and after a small sweep: `python docs/scripts/screenshot_dashboard.py`.

Starts a Ray head of its own, submits the λ sweep of the smoke preset (or what follows `--`), opens the Actors page
while trials run and the job's page when it has ended. Fails where actors do not carry their trials' names, or the log
lacks the table or the answer.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from raypref.cluster.own_head import head_environment, local_head  # noqa: E402
from raypref.commands.submit import submission  # noqa: E402
from tests.support.chromium import browsing, missing  # noqa: E402

FIGURES = ROOT / "docs" / "figures"
SMALL = ["--preset", "smoke", "--seeds", "2", "--values", "0", "2"]
PATIENCE = 600


def main(options: list[str]) -> None:
    if why := missing():
        sys.exit(why)
    job = "raypref_sweep"
    with local_head(None) as address, browsing() as browser, tempfile.TemporaryDirectory() as results:
        token = (Path.home() / ".ray" / "auth_token").read_text().strip()
        context = browser.new_context(
            viewport={"width": 1500, "height": 900}, extra_http_headers={"Authorization": f"Bearer {token}"}
        )
        arguments = [*options, "--root", results]
        command = submission(address, Path("jobs") / "sweep_lambda.py", arguments, ["--submission-id", job])
        running = subprocess.Popen(command, env=head_environment(), cwd=ROOT)
        page = context.new_page()
        page.goto(f"{address}/#/actors")
        wait_for(page, "Board", running)
        page.get_by_label("Class").fill("Board")
        page.keyboard.press("Enter")
        while page.get_by_text("ALIVE").count() < 2 and running.poll() is None:
            page.wait_for_timeout(1000)
        must_show(page, "recpo λ=", "an actor named after its trial")
        page.screenshot(path=FIGURES / "dashboard-actors.png", clip={"x": 0, "y": 0, "width": 1500, "height": 560})
        running.wait(PATIENCE)
        page.set_viewport_size({"width": 1500, "height": 1500})
        page.goto(f"{address}/#/jobs/{job}")
        wait_for(page, "SUCCEEDED", None)
        page.wait_for_timeout(5000)
        page.mouse.move(700, 1080)
        page.mouse.wheel(0, 5000)
        page.wait_for_timeout(1000)
        must_show(page, "vs default", "the comparison table in the job's log")
        must_show(page, "gives HR@1", "the answer in the job's log")
        page.screenshot(path=FIGURES / "dashboard-job.png", clip={"x": 0, "y": 0, "width": 1500, "height": 1220})
    print(FIGURES / "dashboard-actors.png", FIGURES / "dashboard-job.png")


def must_show(page: Any, text: str, what: str) -> None:
    if not page.get_by_text(text).count():
        page.screenshot(path=os.environ.get("RAYPREF_SHOT", "missing.png"))
        sys.exit(f"the page does not show {what} ('{text}'): see missing.png")


def wait_for(page: Any, text: str, running: subprocess.Popen[bytes] | None) -> None:
    """Until the page shows a text, loading it again; gives up when the job has ended, or after PATIENCE."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and (running is None or running.poll() is None):
        page.reload()
        page.wait_for_timeout(3000)
        if page.get_by_text(text).count():
            return
    page.screenshot(path=os.environ.get("RAYPREF_SHOT", "missing.png"))
    sys.exit(f"the page never showed '{text}': see missing.png")


if __name__ == "__main__":
    main(sys.argv[1:] or SMALL)
