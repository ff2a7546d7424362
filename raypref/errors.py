"""The one exception that a user may cause: it says what is wrong, where, and how to mend it."""

from __future__ import annotations


class UserError(Exception):
    """A mistake in input or surroundings that raypref can name.

    The command line prints it on one screen, without a traceback, and exits with code 2.

    Args:
        what: What is wrong, in one sentence.
        where: The file, line or config key it was found in.
        hint: What the user can do about it.
    """

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        self.what, self.where, self.hint = what, where, hint
        super().__init__(what, where, hint)

    def __str__(self) -> str:
        lines = [self.what]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.hint:
            lines.append(f"  hint:  {self.hint}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:  # keyword-only arguments survive the trip between Ray processes
        return _rebuild, (self.what, self.where, self.hint)


def _rebuild(what: str, where: str, hint: str) -> UserError:
    return UserError(what, where=where, hint=hint)
