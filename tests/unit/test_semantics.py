"""Every section that a comment cites is in docs/semantics.md, nothing else is, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

_CITATION = re.compile(r"semantics (\d+(?:\.\d+)?(?:(?:, | and )\d+(?:\.\d+)?)*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


def cited() -> set[str]:
    found: set[str] = set()
    for path in (ROOT / "stackd").rglob("*.py"):
        for numbers in _CITATION.findall(path.read_text("utf-8")):
            found.update(_NUMBER.findall(numbers))
    return found


def headings(name: str) -> list[str]:
    return re.findall(r"^##+ (.+)$", (DOCS / name).read_text("utf-8"), re.MULTILINE)


def test_the_sections_are_those_that_the_code_cites() -> None:
    written = {heading.split()[0] for heading in headings("semantics.md")}
    groups = {number for number in written if any(other.startswith(f"{number}.") for other in written)}
    assert cited() <= written
    assert written - groups <= cited()


def test_what_differs_is_explained_where_the_sections_say() -> None:
    links = re.findall(r"\]\(([a-z-]+\.md)#([a-z-]+)\)", (DOCS / "semantics.md").read_text("utf-8"))
    assert links
    for name, anchor in links:
        assert anchor in {heading.lower().replace(" ", "-") for heading in headings(name)}, f"{name}#{anchor}"
