"""Tables, progress and JSON."""

import io
import json
import time

import numpy as np
import pytest

from nmc.cli.console import clean, to_json
from nmc.cli.progress import Progress
from nmc.cli.tables import pairs, table


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_table_aligns_numbers_right_and_wraps_text() -> None:
    text = table(("name", "n", "what"), [("a", 1234, "x " * 30), ("bb", None, "y")], width=40)
    lines = text.splitlines()
    assert lines[0] == "name      n  what"
    assert lines[1].startswith("a     1,234  x x")
    assert max(map(len, lines)) <= 40 and len(lines) > 4
    assert lines[-1] == "bb           y"


def test_table_without_rows_is_its_heading() -> None:
    assert table(("a", "b"), []) == "a  b"


def test_control_characters_are_escaped() -> None:
    assert clean("a\x1b[2J\x00\x9b\nb\tä") == "a\\x1b[2J\\x00\\x9b\nb\tä"
    assert pairs([("k", "v\r")], indent=0) == "k  v\\x0d"


def test_json_holds_numpy_and_no_nan() -> None:
    facts = {"a": np.float32(1.5), "b": np.arange(2), "c": float("nan"), "d": (np.int64(3), {"e": np.inf})}
    assert json.loads(to_json("run", facts)) == {
        "schema": "nmc.run/1", "a": 1.5, "b": [0, 1], "c": None, "d": [3, {"e": None}],
    }  # fmt: skip


def test_progress_is_a_line_every_tenth_where_nobody_watches() -> None:
    stream = io.StringIO()
    progress = Progress("running", stream=stream)
    for done in range(1, 101):
        progress(done, 100)
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[0] == "running: 10 of 100 (10 %)" and lines[-1] == "running: 100 of 100 (100 %)"


def test_progress_is_a_bar_with_the_time_left_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 30.0, 60.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    stream = Terminal()
    with Progress("running", stream=stream) as progress:
        progress(1, 4)
        progress(2, 4)
    shown = stream.getvalue().split("\r")
    assert "running [======                  ]  25 % 1/4, 1:30 left" in shown
    assert "running [============            ]  50 % 2/4, 1:00 left" in shown
    assert shown[-2].strip() == "" and shown[-1] == "", "the bar is wiped at the end"


def test_progress_shows_stages_on_a_terminal_only() -> None:
    stream = Terminal()
    Progress("compiling", stream=stream).stage("place")
    assert "compiling: place" in stream.getvalue()
    plain = io.StringIO()
    Progress("compiling", stream=plain).stage("place")
    assert plain.getvalue() == ""


def test_quiet_progress_shows_nothing() -> None:
    stream = Terminal()
    with Progress("running", quiet=True, stream=stream) as progress:
        progress(1, 1)
        progress.stage("x")
    assert stream.getvalue() == ""
