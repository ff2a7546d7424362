"""A watchdog over a worker: a process that makes no headway ends itself, so that its work is taken up again."""

from __future__ import annotations

import faulthandler
import sys


class Heartbeat:
    """Call it after each piece of work; a process that does not for `seconds` ends, its stacks on stderr.

    The clock is a thread of C code: it also ends a process that hangs in a collective, a driver or a file system. One
    that is stopped altogether can't end itself; of a group's worker Ray Train notices it, of a lone one nobody does.
    """

    def __init__(self, seconds: float | None = None) -> None:
        """`seconds`: None watches nothing."""
        self.seconds = seconds

    def __call__(self) -> None:
        if self.seconds is not None:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=sys.__stderr__ or sys.stderr)

    def stop(self) -> None:
        """Work of unknown length follows, or none."""
        if self.seconds is not None:
            faulthandler.cancel_dump_traceback_later()
