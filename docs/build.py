"""The documentation as pages to read without a forge, and every link of it checked; nothing is fetched.

    python docs/build.py [OUT] [--external]         (make docs: into build/docs)

A link must lead to a file of the repository, spelt as it is, and to a heading that its page has. Addresses elsewhere
are checked by form only; `--external` asks each of them once and counts what does not answer as broken.
"""

from __future__ import annotations

import argparse
import html
import re
import shutil
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tamis.reports.look import page_css

ROOT = Path(__file__).resolve().parents[1]
SOURCES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**/*.md", "benchmarks/**/*.md")
# What is left standing as text where a link has no reference, or an address that no page may lead to.
UNRESOLVED = re.compile(r"\[[^\]\[]+\](?:\[[^\]\[]*\]|\([^)]*\))")
PROSE = "main{max-width:860px}li,p{line-height:1.6}pre{overflow-x:auto}img{max-width:100%}a{color:var(--candidate)}"


class Link(NamedTuple):
    """A link or picture of a page; `line` of its paragraph, from 1."""

    page: Path
    line: int
    target: str


class Page(NamedTuple):
    """A page that was read: its elements, its headings' anchors, what it links to, what it means to link to."""

    path: Path
    tokens: list[Token]
    anchors: set[str]
    links: list[Link]
    unresolved: list[Link]


def main(arguments: list[str] | None = None) -> int:
    """Build and check; 1 where a link is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "docs")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository")
    parser.add_argument("--external", action="store_true", help="ask addresses elsewhere whether they are there")
    asked = parser.parse_args(arguments)
    root = asked.root.resolve()
    pages = {p: read(p) for pattern in SOURCES for p in sorted(root.glob(pattern))}
    broken = list(problems(pages, root))
    if asked.external:
        broken += unanswered(pages)
    for page in pages.values():
        write(page, root, asked.out)
    for text in broken:
        sys.stderr.write(f"{text}\n")
    links = sum(len(p.links) for p in pages.values())
    first = asked.out / "docs" / "README.html"
    sys.stdout.write(f"{len(pages)} pages, {links} links, {len(broken)} broken; {first}\n")
    return 1 if broken else 0


def read(path: Path) -> Page:
    """A page of Markdown, its headings given the anchors that forges give them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8"))
    anchors: set[str] = set()
    links: list[Link] = []
    unresolved: list[Link] = []
    for at, token in enumerate(tokens):
        line = token.map[0] + 1 if token.map else 0
        if token.type == "heading_open":
            token.attrSet("id", _anchor(_said(tokens[at + 1]), anchors))
            anchors.add(str(token.attrGet("id")))
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if target is not None:
                links.append(Link(path, line, str(target)))
            if child.type == "text":
                unresolved += [Link(path, line, m[0]) for m in UNRESOLVED.finditer(child.content)]
    return Page(path, tokens, anchors, links, unresolved)


def _said(heading: Token) -> str:
    return "".join(c.content for c in heading.children or () if c.type in ("text", "code_inline"))


def _anchor(title: str, taken: set[str]) -> str:
    """As GitHub makes them: lower case, no punctuation, blanks as dashes, a number where one is taken."""
    plain = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    numbers = (f"{plain}-{n}" for n in range(1, len(taken) + 2))
    return plain if plain not in taken else next(a for a in numbers if a not in taken)


# ------------------------------------------------------------------------------------------------------ checking


def problems(pages: dict[Path, Page], root: Path) -> Iterator[str]:
    """One sentence for each link that leads nowhere."""
    for page in pages.values():
        for link in page.unresolved:
            yield _told(link, root, "is no link")
        for link in page.links:
            if why := _broken(link, pages, root):
                yield _told(link, root, why)


def _told(link: Link, root: Path, why: str) -> str:
    return f"{link.page.relative_to(root)}:{link.line}: {link.target}: {why}"


def _broken(link: Link, pages: dict[Path, Page], root: Path) -> str | None:
    parts = urlsplit(link.target)
    if parts.scheme or parts.netloc:
        return None if parts.scheme in ("https", "http") and "." in parts.netloc else "no address of the web"
    file = (link.page.parent / unquote(parts.path)).resolve() if parts.path else link.page
    if not file.is_relative_to(root):
        return "lies outside the repository"
    if not _spelt(file, root):
        return "there is no such file"
    if parts.fragment and parts.fragment not in (pages[file].anchors if file in pages else ()):
        return "the page has no such heading"
    return None


def _spelt(file: Path, root: Path) -> bool:
    """Whether a file is there under this very name; a disk that takes capitals for small ones would say yes."""
    if file == root:
        return True
    return file.exists() and file.name in {p.name for p in file.parent.iterdir()} and _spelt(file.parent, root)


def unanswered(pages: dict[Path, Page]) -> list[str]:
    """Addresses elsewhere that do not answer, each asked once."""
    found = []
    for target in sorted({link.target for p in pages.values() for link in p.links if link.target.startswith("http")}):
        request = urllib.request.Request(target, method="HEAD", headers={"User-Agent": "tamis-docs"})
        try:
            urllib.request.urlopen(request, timeout=20).close()
        except (urllib.error.URLError, OSError, ValueError) as error:
            found.append(f"{target}: {error}")
    return found


# ------------------------------------------------------------------------------------------------------- writing


def write(page: Page, root: Path, out: Path) -> None:
    """A page as HTML, its links to other pages turned to theirs; pictures and files it names are copied beside it."""
    for token in page.tokens:
        for child in token.children or ():
            if (href := child.attrGet("href")) is not None and not urlsplit(str(href)).scheme:
                child.attrSet("href", re.sub(r"\.md(?=#|$)", ".html", str(href)))
    for link in page.links:
        parts = urlsplit(link.target)
        file = (page.path.parent / unquote(parts.path)).resolve()
        if not parts.scheme and parts.path and file.suffix != ".md" and file.is_file() and file.is_relative_to(root):
            _copied(file, out / file.relative_to(root))
    markdown = MarkdownIt("commonmark").enable("table")
    body = markdown.renderer.render(page.tokens, markdown.options, {})
    title = next((_said(page.tokens[i + 1]) for i, t in enumerate(page.tokens) if t.type == "heading_open"), "Tamis")
    to = out / page.path.relative_to(root).with_suffix(".html")
    to.parent.mkdir(parents=True, exist_ok=True)
    to.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title>"
        f"<style>{page_css()}{PROSE}</style></head><body><main>{body}</main></body></html>\n",
        encoding="utf-8",
    )


def _copied(file: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(file, to)


if __name__ == "__main__":
    sys.exit(main())
