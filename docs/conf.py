"""Sphinx's configuration of the site; scripts/docs_site.py makes the pages that it reads of those in this folder."""

from __future__ import annotations

from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx

project = "wsrec"
author = "The wsrec authors"
extensions = ["myst_parser"]
# anchors of headings as hosts of repositories write them
myst_heading_anchors = 4
exclude_patterns = ["files"]
# a block without a language is a drawing or what a command prints
highlight_language = "none"
# Furo brings its own styles and scripts, and takes the reader's fonts: no page requests anything from elsewhere
html_theme = "furo"
html_title = "wsrec"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
smartquotes = False
pygments_style = "friendly"
pygments_dark_style = "native"


def setup(app: Sphinx) -> None:
    """Crontabs are coloured as shell commands."""
    app.add_lexer("crontab", BashLexer)
