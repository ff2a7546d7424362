"""Content is hashed once, and again when it changes."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from raypref.data.fingerprint import fingerprint


def test_a_file_counts_by_its_name_and_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert fingerprint(tmp_path / "a") == hashlib.sha256(b"a\0abc").hexdigest()[:16]
    (tmp_path / "b").write_bytes(b"d")
    assert fingerprint(tmp_path) == hashlib.sha256(b"a\0abcb\0d").hexdigest()[:16]


def test_a_file_is_read_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, read = tmp_path / "a", []
    file.write_bytes(b"abc")
    plain = Path.open

    def noted(path: Path, *mode: str, **more: str) -> object:
        read.append(path)
        return plain(path, *mode, **more)

    monkeypatch.setattr(Path, "open", noted)
    first = fingerprint(file)
    assert fingerprint(file) == first
    assert read == [file]
    monkeypatch.undo()
    file.write_bytes(b"abd")
    os.utime(file, ns=(0, 1))  # of the same size: its time tells
    assert fingerprint(file) != first
