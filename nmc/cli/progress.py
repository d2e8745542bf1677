"""How far a long job is: a bar with the time left on a terminal, a line every tenth elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_BAR = 24


class Progress:
    """Shows the progress of one job on standard error; a context manager, so that the bar is cleared.

    Parameters
    ----------
    label : str
        What is being done.
    quiet : bool
        Show nothing.
    stream : text stream or None
        Where to; standard error when None.
    """

    def __init__(self, label: str, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._label, self._quiet = label, quiet
        self._stream = sys.stderr if stream is None else stream
        self._terminal = not quiet and self._stream.isatty()
        self._began = time.monotonic()
        self._tenth, self._width = 0, 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._overwrite("")

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` pieces are finished."""
        if self._quiet or total <= 0:
            return
        if self._terminal:
            self._overwrite(
                f"{self._label} {self._bar(done, total)} {done:,}/{total:,}{self._left(done, total)}"
            )
        elif (tenth := 10 * done // total) > self._tenth:
            self._tenth = tenth
            print(f"{self._label}: {done:,} of {total:,} ({10 * tenth} %)", file=self._stream)

    def phase(self, name: str, done: int, total: int) -> None:
        """Show a job of several parts, each with a progress (or none: `total` 0) of its own."""
        if name != self._label:
            self._label, self._began, self._tenth = name, time.monotonic(), 0
        if total:
            self(done, total)
        else:
            self._overwrite(f"{name} ...")

    def stage(self, name: str) -> None:
        """Show which of several steps runs; on a terminal only."""
        self._overwrite(f"{self._label}: {name}")

    def _bar(self, done: int, total: int) -> str:
        full = _BAR * done // total
        return f"[{'=' * full}{' ' * (_BAR - full)}] {100 * done // total:3} %"

    def _left(self, done: int, total: int) -> str:
        elapsed = time.monotonic() - self._began
        if not done or done >= total:
            return ""
        minutes, seconds = divmod(round(elapsed / done * (total - done)), 60)
        return f", {minutes}:{seconds:02} left"

    def _overwrite(self, text: str) -> None:
        """Replace the line that was shown last."""
        if self._terminal and (text or self._width):
            blank = " " * max(0, self._width - len(text))
            self._stream.write(f"\r{text}{blank}" + ("" if text else "\r"))
            self._stream.flush()
            self._width = len(text)
