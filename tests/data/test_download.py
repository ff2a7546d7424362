"""Downloads from a server on this machine: checksum, resumption, unpacking, and what is said when nothing answers."""

from __future__ import annotations

import hashlib
import io
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from raypref.config.sources import MovieLensSource
from raypref.data import download as catalog
from raypref.data.catalog import CATALOG
from raypref.data.download import download
from raypref.data.sources import SOURCES
from raypref.errors import UserError
from tests.support.raw_formats import ml_dat


@pytest.fixture
def server():
    """A server of `files`; `cut` bytes are sent of a file before the line goes dead."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            state.asked.append((self.path, self.headers.get("Range")))
            content = state.files.get(self.path.strip("/"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if self.headers.get("Range"):
                start = int(self.headers["Range"].split("=")[1].rstrip("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            self.wfile.write(content[start : state.cut])

        def log_message(self, *_):
            pass

    state = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.files, state.asked, state.cut = {}, [], None
    threading.Thread(target=state.serve_forever, daemon=True).start()
    yield state
    state.shutdown()
    state.server_close()


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """The catalog's MovieLens 1M, from the local server, with a small archive."""
    ml_dat(tmp_path / "raw")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as out:
        for file in (tmp_path / "raw").iterdir():
            out.write(file, f"ml-1m/{file.name}")
    content = archive.getvalue()
    server.files = {
        "ml-1m.zip": content,
        "ml-1m.zip.md5": f"MD5 (ml-1m.zip) = {hashlib.md5(content).hexdigest()}".encode(),
    }
    address = f"http://127.0.0.1:{server.server_port}/ml-1m.zip"
    monkeypatch.setitem(CATALOG, "ml-1m", replace(CATALOG["ml-1m"], addresses=(address,), checksum=address + ".md5"))
    return content


def run(root):
    return download("ml-1m", root, lambda *_: None)


def test_download_checks_unpacks_and_is_read(toy, server, tmp_path, caplog):
    caplog.set_level("INFO", "raypref")
    place = run(tmp_path / "data")
    assert "research only" in caplog.text
    assert hashlib.sha256(toy).hexdigest() in caplog.text
    assert SOURCES["movielens"](MovieLensSource(path=place)).interactions.num_rows == 120
    asked = len(server.asked)
    run(tmp_path / "data")
    assert [path for path, _ in server.asked[asked:]] == ["/ml-1m.zip.md5"]  # nothing is fetched twice


def test_an_interrupted_download_goes_on(toy, server, tmp_path):
    server.cut = 1000
    with pytest.raises(UserError, match="ended after 1,000") as caught:
        run(tmp_path)
    assert "goes on where it stopped" in caught.value.hint
    server.cut = None
    run(tmp_path)
    assert ("/ml-1m.zip", "bytes=1000-") in server.asked
    assert (tmp_path / "ml-1m.zip").read_bytes() == toy


def test_a_wrong_checksum_removes_the_file(toy, server, tmp_path):
    server.files["ml-1m.zip"] = toy[:-1] + b"?"
    with pytest.raises(UserError, match="its publisher says"):
        run(tmp_path)
    assert not (tmp_path / "ml-1m.zip").exists()


def test_offline_says_what_to_fetch_by_hand(server, tmp_path, monkeypatch):
    address = f"http://127.0.0.1:{server.server_port}/ml-1m.zip"
    server.shutdown()
    server.server_close()
    monkeypatch.setitem(CATALOG, "ml-1m", replace(CATALOG["ml-1m"], addresses=(address,)))
    with pytest.raises(UserError, match="can't be reached") as caught:
        run(tmp_path)
    assert f"fetch {address}, and put it so that {tmp_path / 'ml-1m'} is there" in caught.value.hint


def test_what_no_program_can_fetch_says_so(tmp_path):
    with pytest.raises(UserError, match="can't be fetched by a program") as caught:
        download("lastfm-sdpo", tmp_path, lambda *_: None)
    assert str(tmp_path / "lastfm-sdpo") in caught.value.hint
    with pytest.raises(UserError, match="no data set is called"):
        download("ml-1n", tmp_path, lambda *_: None)


def test_every_set_of_the_catalog_has_a_reader_and_terms():
    for name, data in CATALOG.items():
        assert data.source.kind in SOURCES, name
        assert data.licence
        assert data.paper
        assert data.addresses or data.by_hand
        if data.folder:
            assert str(data.source.path).startswith(data.folder)
    assert catalog.CATALOG is CATALOG
