"""What is said while something takes long: one line that changes in a terminal, plain lines anywhere else."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.status import Status

from raypref.stages.stage import Stage
from raypref.storage.headway import duration, headway
from raypref.storage.store import Store

QUIET_S = 8.0  # of silence, at most, in a log
LOOK_S = 1.0  # how often a terminal's line is renewed
LOOK_REMOTE_S = 5.0
logger = logging.getLogger(__name__)


class Narrator:
    """Prints lines, and in between says what is being done: nobody has to guess whether anything happens."""

    def __init__(self, console: Console, quiet_s: float = QUIET_S) -> None:
        self.console, self.quiet_s = console, quiet_s
        self.said = time.monotonic()
        self.lock = threading.RLock()

    def __call__(self, line: str) -> None:
        """Print a line."""
        with self.lock:
            self.console.print(line, highlight=False, soft_wrap=True, markup=False)
            self.said = time.monotonic()

    @contextlib.contextmanager
    def during(self, what: Callable[[], str], look_s: float = LOOK_S) -> Iterator[None]:
        """Say what `what` gives, within the block: in a terminal at once and anew each second, else after silence."""
        ended = threading.Event()
        live = self.console.is_terminal and self.console.is_interactive
        speaking = threading.Thread(target=self._speak, args=(what, ended, live, look_s), daemon=True)
        speaking.start()
        try:
            yield
        finally:
            ended.set()
            speaking.join()

    def _speak(self, what: Callable[[], str], ended: threading.Event, live: bool, look_s: float) -> None:
        status = Status("", console=self.console) if live else None
        with status or contextlib.nullcontext():
            while not ended.wait(min(look_s, self.quiet_s / 4)):
                silent = time.monotonic() - self.said > self.quiet_s
                if status is None and not silent:
                    continue
                try:
                    line = what()
                except Exception as error:  # what is made goes on, whether or not it can be told of
                    logger.debug("nothing can be said of it: %r", error)
                    line = "at work"
                if status is not None:
                    status.update(line)
                else:
                    self(line)

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Say that something of unknown length goes on, and for how long it has."""
        since = time.monotonic()
        with self.during(lambda: f"{what}, {duration(time.monotonic() - since)}"):
            yield

    @contextlib.contextmanager
    def making(self, stage: Stage, store: Store) -> Iterator[None]:
        """Say how far a stage has come."""
        since = time.monotonic()

        def what() -> str:
            told = headway(store, stage.address)
            return f"{stage.kind:<9} {told or f'at work, {duration(time.monotonic() - since)}'}"

        with self.during(what, LOOK_S if store.bucket is None else LOOK_REMOTE_S):
            yield
