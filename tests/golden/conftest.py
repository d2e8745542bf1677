"""Commands of the cases name files from the top of the checkout, as a person would there."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def at_the_top(repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each case at the top of the checkout."""
    monkeypatch.chdir(repo)
