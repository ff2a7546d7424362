"""`python` and `raypref` for a shell: small programs that have what they are given forked (see forked.py)."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

from tests.support.forked import begin, run_python, start_process

CLIENT = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    told = json.dumps([{before} + sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
    socket.send_fds(server, [len(told).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(told)
    code = int.from_bytes(server.recv(4), "big", signed=True)
sys.exit(code if code >= 0 else 128 - code)
"""
PROGRAMS: dict[str, list[str]] = {"python": [], "raypref": ["-m", "raypref.cli"]}


@contextlib.contextmanager
def forked_programs() -> Iterator[Path]:
    """A folder with the programs, for the front of PATH."""
    folder = Path(tempfile.mkdtemp(prefix="rp", dir="/tmp"))  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "socket"))
        server.listen()
        for name, before in PROGRAMS.items():
            program = folder / name
            program.write_text(CLIENT.format(python=sys.executable, address=str(folder / "socket"), before=before))
            program.chmod(0o755)
        begin()
        threading.Thread(target=_serve, args=(server,), daemon=True).start()
        try:
            yield folder
        finally:
            server.shutdown(socket.SHUT_RDWR)  # so that nobody waits for the next any more
            shutil.rmtree(folder)


def _serve(server: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it was shut down
        while True:
            client, _ = server.accept()
            threading.Thread(target=_answer, args=(client,), daemon=True).start()


def _answer(client: socket.socket) -> None:
    with client:
        size, descriptors, _, _ = socket.recv_fds(client, 4, 3)
        left, told = int.from_bytes(size, "big"), b""
        while len(told) < left:
            told += client.recv(left - len(told))
        command, cwd, env = json.loads(told)
        process = start_process(_work, (command, env, cwd, [DupFd(descriptor) for descriptor in descriptors]))
        for descriptor in descriptors:
            os.close(descriptor)  # else a pipe would have one more writer
        process.join()
        client.sendall((process.exitcode or 0).to_bytes(4, "big", signed=True))


def _work(command: list[str], env: dict[str, str], cwd: str, descriptors: list[Any]) -> None:
    run_python(command, env, cwd, {number: one.detach() for number, one in enumerate(descriptors)})
