"""What runs here: the engines `exact` and `native` need packages that may be missing."""

from __future__ import annotations

import pytest

from nmc.targets.spinnaker2.engines.native import compiler


@pytest.fixture(scope="session")
def engines() -> tuple[str, ...]:
    """All three engines; the test is skipped without Unicorn or a C compiler."""
    pytest.importorskip("unicorn")
    if compiler() is None:
        pytest.skip("no C compiler")
    return ("functional", "native", "exact")
