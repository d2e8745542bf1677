"""Sphinx configuration: ``pip install -e '.[docs]'``, then ``sphinx-build -W docs build/docs``."""

project = "nmc"
author = "the nmc authors"
extensions = ["myst_parser"]
# The headings that links may point to, with the anchors that GitHub gives them too.
myst_heading_anchors = 3
html_theme = "furo"
html_title = "nmc"
