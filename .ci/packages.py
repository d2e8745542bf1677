"""Keep the package list in ``pyproject.toml`` equal to the folders with an ``__init__.py``.

``python .ci/packages.py`` rewrites the list; a test in ``tests/packaging`` fails when it is stale.
"""

import re
from pathlib import Path

ROOTS = {"nmc": "nmc", "nmc.ir": "ir", "nmc.passes": "passes", "nmc.targets": "targets"}
"""Package name to top-level folder, as in ``[tool.setuptools] package-dir``."""

LIST = re.compile(r"^packages = \[.*?^\]$", re.MULTILINE | re.DOTALL)


def find_packages(repo: Path) -> list[str]:
    """Return the names of all packages in the tree.

    Parameters
    ----------
    repo : Path
        The top of the checkout. Links inside the packages are not followed: ``nmc/ir`` is found as ``ir``.

    Returns
    -------
    list of str
        Dotted names, sorted, parents first.
    """
    names = set()
    for package, folder in ROOTS.items():
        for marker in (repo / folder).rglob("__init__.py"):
            inside = marker.parent.relative_to(repo / folder)
            if not _through_link(repo / folder, inside):
                names.add(".".join((package, *inside.parts)))
    return sorted(names)


def _through_link(top: Path, inside: Path) -> bool:
    """Tell whether a step from `top` to ``top / inside`` is a link (some Pythons' rglob follows them)."""
    return any((top / step).is_symlink() for step in (inside, *inside.parents) if step != Path())


def rewrite(text: str, packages: list[str]) -> str:
    """Return the text of ``pyproject.toml`` with its package list replaced.

    Raises
    ------
    ValueError
        If `text` does not hold exactly one list ``packages = [ ... ]`` over several lines.
    """
    lines = "".join(f'    "{name}",\n' for name in packages)
    text, count = LIST.subn(f"packages = [\n{lines}]", text)
    if count != 1:
        raise ValueError(f"expected one package list in pyproject.toml, found {count}")
    return text


def main() -> None:
    """Rewrite the list of the checkout that this file lies in."""
    repo = Path(__file__).resolve().parent.parent
    project = repo / "pyproject.toml"
    project.write_text(rewrite(project.read_text(encoding="utf-8"), find_packages(repo)), encoding="utf-8")


if __name__ == "__main__":
    main()
