"""What the package says on its way: the one place that configures logging, for the command line.

Modules log; a command's answer is printed. As a library, and in Ray's processes, nothing is configured: warnings reach
stderr by Python's own rule, and the rest is for whoever asks for it.
"""

from __future__ import annotations

import logging
import sys

INTERRUPTED = "interrupted: finished stages, trials and checkpoints are kept; the same command goes on from there"


class Lines(logging.Handler):
    """Messages as plain lines: what goes on to stdout, warnings to stderr; to the streams of that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr if record.levelno >= logging.WARNING else sys.stdout, flush=True)


def show_messages() -> None:
    """Show the package's messages from INFO on; a second call changes nothing."""
    logger = logging.getLogger("raypref")
    logger.setLevel(logging.INFO)
    if not any(isinstance(handler, Lines) for handler in logger.handlers):
        logger.addHandler(Lines())
