"""Builds the site from docs/ and checks it: run by scripts/docs.

The pages are plain Markdown that also reads well in the repository. What only a site needs is added to a copy of them:
the tables of contents, and CONTRIBUTING.md, SECURITY.md and CHANGELOG.md as pages.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from scripts import docs_pictures
from scripts.docs_commands import command_reference

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {"CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "CHANGELOG.md": "changelog.md"}
NAVIGATION = {
    "Tutorial": ("tutorial", "first-capture"),
    "How to": (
        "how-to",
        "install recording cron systemd kubernetes proxies planning tuning monitoring hooks upgrade uninstall "
        "report reading other-tools books engine verify compact replay library",
    ),
    "Reference": ("reference", "commands exit-status configs feeds catalogue format tables rings"),
    "Explanation": ("explanation", "stages processes connections durability performance monitor architecture"),
    "Decisions": ("decisions", "README"),
    "More": (".", "troubleshooting glossary not-for contributing security changelog"),
}
"""Heading to the folder of the pages below it, and those that come first."""
_FENCED = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")


def contents(source: Path, heading: str) -> str:
    """A table of contents that only the navigation shows."""
    folder, first = NAVIGATION[heading]
    names = {path.stem for path in (source / folder).glob("*.md")} - {"index"}
    order = [*first.split(), *sorted(names)]
    pages = [f"{folder}/{name}" for name in sorted(names, key=order.index)]
    return "\n".join(["", "```{toctree}", ":hidden:", f":caption: {heading}", "", *pages, "```", ""])


def stage(source: Path) -> None:
    """Copy the pages to where Sphinx reads them, with what only the site has."""
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source, ignore=shutil.ignore_patterns("__pycache__"))
    for page in [*(ROOT / "docs").rglob("*.md"), *(ROOT / name for name in FROM_ROOT)]:
        parts = _FENCED.split(page.read_text())
        parts[::2] = [_LINK.sub(partial(_in_site, page, source), part) for part in parts[::2]]
        (source / _place(page)).write_text("".join(parts))
    with (source / "reference" / "commands.md").open("a") as reference:
        reference.write("\n" + command_reference())
    with (source / "index.md").open("a") as index:
        index.writelines(contents(source, heading) for heading in NAVIGATION)


def _place(page: Path) -> str:
    """Where a page of the repository is in the site."""
    name = str(page.relative_to(ROOT))
    if name in ("README.md", "docs"):
        return "index.md"
    return FROM_ROOT.get(name) or name.removeprefix("docs/")


def _in_site(page: Path, source: Path, found: re.Match[str]) -> str:
    """A link of a page of the repository, as the site has it: files that are no pages come with it, for download."""
    link = found[1]
    if urlsplit(link).scheme:
        return link
    target = Path(os.path.normpath(page.parent / link))
    if target.is_dir():
        target = next(target / name for name in ("README.md", "index.md") if (target / name).exists())
    place = _place(target)
    if not (target.is_relative_to(ROOT / "docs") or target.suffix == ".md"):
        place = f"files/{place}"
        (source / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(target, source / place)
    return os.path.relpath(place, Path(_place(page)).parent)


class _Page(HTMLParser):
    """What a page has: the ids in it, its links, and what a browser requests to show it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.requests: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload", "preconnect"):
            self.requests.append(given["href"])
        if "src" in given:
            self.requests.append(given["src"])


def faults(site: Path) -> Iterator[str]:
    """Links and anchors of a site that lead nowhere, and whatever its pages request from elsewhere."""
    pages = {path.resolve(): _Page(path.read_text()) for path in sorted(site.rglob("*.html"))}
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        for link in [*page.links, *page.requests]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.requests and parts.scheme != "data":
                    yield f"{name}: requests {link}"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{name}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{name}: {link}: no such anchor"
    for style in site.rglob("*.css"):
        for url in re.findall(r"url\(\s*['\"]?(?!data:)(\w+:[^)'\"]+)|@import\s+['\"](\w+:[^'\"]+)", style.read_text()):
            yield f"{style.relative_to(site)}: requests {''.join(url)}"


def main() -> int:
    """Build the site; 1 if it has a fault."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder of the site")
    parser.add_argument("--pictures", action="store_true", help="make the pictures of the pages anew, in docs/images")
    given = parser.parse_args()
    site: Path = given.out
    if given.pictures:
        docs_pictures.make(ROOT / "docs" / "images")
    source = ROOT / "build" / "docs"
    stage(source)
    shutil.rmtree(site, ignore_errors=True)
    command = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--nitpicky", "--quiet", "--jobs", "auto"]
    doctrees = ["--doctree-dir", str(source.with_name("doctrees"))]
    built = subprocess.run([*command, *doctrees, str(source), str(site)], check=False).returncode
    if built:
        return built
    found = list(faults(site))
    for fault in found:
        print(fault, file=sys.stderr)
    if not found:
        count = len(list(site.rglob("*.html")))
        print(f"{site / 'index.html'}: {count} pages, no broken link, no request to elsewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
