"""`raypref watch`: a sweep's report on this machine's loopback while it runs, drawn anew as its records change."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import tyro

from raypref.errors import UserError
from raypref.results.collect import collect
from raypref.results.lineage import stages
from raypref.results.report import report_html
from raypref.storage.headway import headway
from raypref.storage.location import Location
from raypref.storage.store import Address, Store
from raypref.sweeps.options import default_root
from raypref.sweeps.trial_records import read_records

REFRESH_S = 10


def watch(folder: tyro.conf.Positional[Path | None] = None, root: str = "", port: int = 0) -> int:
    """Serve a sweep's report at 127.0.0.1 until Ctrl-C; the page refreshes itself from the sweep's records.

    Args:
        folder: The sweep's folder, <root>/sweeps/NAME; default: the one that changed last.
        root: Folder of all results; default: $RAYPREF_ROOT, else ~/raypref-results.
        port: Of 127.0.0.1; 0: a free one.
    """
    if folder is not None and not (folder / "sweep.json").is_file():
        hint = "name a folder in <root>/sweeps or <root>/runs; without one, what changed last is shown"
        raise UserError("there is no sweep and no run", where=str(folder), hint=hint)
    store = Store(root or default_root()) if folder is None else Store(folder.absolute().parent.parent)
    page = Page(store, folder or newest(store))
    server = serve(page, port)
    print(f"http://127.0.0.1:{server.server_port}/ shows {page.folder}; Ctrl-C ends it", flush=True)
    with server, contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()
    return 0


def newest(store: Store) -> Path:
    """The sweep or run whose records changed last.

    Raises:
        UserError: there is none.
    """
    store.receive(store.root / "sweeps")
    found = [path for kind in ("sweeps", "runs") for path in store.root.glob(f"{kind}/*/sweep.json")]
    if not found:
        raise UserError("there is no sweep yet", where=store.location, hint="start one, or give its --root")
    return max(found, key=lambda path: max(each.stat().st_mtime for each in _records(path.parent))).parent


def _records(folder: Path) -> list[Path]:
    return [folder / "sweep.json", *(folder / "trials").glob("*.json")]


class Page:
    """The report as it stands, drawn again only where a record has changed."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder = store, folder
        self.lock = threading.Lock()
        self.drawn: tuple[object, str] | None = None

    def text(self) -> str:
        """The page, with how far trials that run have come."""
        with self.lock:
            self.store.receive(self.folder)
            running = self._running()
            state = ([(path.name, path.stat().st_mtime_ns) for path in sorted(_records(self.folder))], running)
            if self.drawn is None or self.drawn[0] != state:
                self.drawn = state, report_html(collect(self.folder, self.store.location), links=".", running=running)
            return self.drawn[1]

    def _running(self) -> dict[str, str]:
        found = {}
        for record in read_records(self.folder):
            if record.get("status") != "running":
                continue
            names = record.get("stages") or [record.get("align"), record.get("evaluate")]
            told = (headway(self.store, Address(*_parts(str(name)))) for name in names if name)
            found[str(record["trial"])] = next((str(each) for each in told if each), "at work")
        return found


def _parts(address: str) -> tuple[str, str, str]:
    stage, _, rest = address.partition("/")
    name, _, key = rest.rpartition("-")
    return stage, name, key


def serve(page: Page, port: int) -> http.server.ThreadingHTTPServer:
    """A server of the page, on loopback alone.

    Raises:
        UserError: the port is in use.
    """

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.headers.get("Host", "").rsplit(":", 1)[0] not in ("127.0.0.1", "localhost"):
                self.send_error(HTTPStatus.FORBIDDEN)  # a page elsewhere must not read it under a name of its own
                return
            if self.path == "/":
                self._answer(page.text().encode(), "text/html; charset=utf-8", {"Refresh": str(REFRESH_S)})
            elif (file := stage_file(page, self.path)) is not None:
                self._answer(file, "text/plain; charset=utf-8", {})
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _answer(self, body: bytes, kind: str, more: dict[str, str]) -> None:
            self.send_response(HTTPStatus.OK)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **more}.items():
                self.send_header(name, value)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

        log_message: Callable[..., None] = staticmethod(lambda *arguments: None)

    try:
        return http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
    except OSError as error:
        raise UserError(f"port {port} can't be had: {error.strerror}", where="--port", hint="leave it out") from error


def stage_file(page: Page, path: str) -> bytes | None:
    """The manifest or the log of a stage that a trial of the sweep is made of; nothing else of the disk."""
    root = Location.of(page.store.location)
    evaluations = [str(record["evaluate"]) for record in read_records(page.folder) if record.get("evaluate")]
    known = {address for evaluation in evaluations for address in stages(root, evaluation).values()}
    address, _, name = path.lstrip("/").rpartition("/")
    if address not in known or name not in ("_SUCCESS", "metrics.jsonl"):
        return None
    try:
        return (root / address / name).read_bytes()
    except OSError:
        return None
