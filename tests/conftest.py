"""What every test shares: the deterministic hypothesis profile and where things are."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Same examples on every run and machine, and no wall clock: a failure here is a failure everywhere.
settings.register_profile("ci", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("ci")

# One worker of the test run a core: threads of BLAS on top of that wait for one another. Numpy is not imported yet.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo() -> Path:
    """The top of the checkout."""
    return REPO


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of facts beside the checkout; the test is skipped where there is none."""
    folder = Path(os.environ.get("NMC_SHARED", REPO.parent / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no folder {folder} (set NMC_SHARED)")
    return folder


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--update-golden`` rewrites the expected texts of tests/golden instead of comparing."""
    parser.addoption("--update-golden", action="store_true", help="write the expected texts anew")


@pytest.fixture(autouse=True, scope="session")
def every_mapping_is_checked() -> Iterator[None]:
    """Whatever a test compiles: each mapping that the compiler makes passes an independent checker."""
    from mapping_checker import complaints
    from nmc.passes.map.place import Place
    from nmc.targets.loihi.allocate import Allocate
    from nmc.targets.spinnaker2.placing import QuadPlace

    def checked(run: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(self: Any, module: Any) -> Any:
            made = run(self, module)
            problems = complaints(made)
            assert not problems, problems
            return made

        return wrapped

    with pytest.MonkeyPatch.context() as patch:
        for kind in (Place, QuadPlace, Allocate):
            patch.setattr(kind, "run", checked(kind.run))
        yield
