"""HTML as a tree that tests ask for what stands in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = frozenset({"meta", "img", "br", "link", "input"})


@dataclass
class Node:
    """An element with what is in it."""

    tag: str
    attributes: dict[str, str]
    inside: list[Node | str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """All text in it, with single spaces."""
        return " ".join(" ".join(each if isinstance(each, str) else each.text for each in self.inside).split())

    def all(self, tag: str, name: str = "") -> list[Node]:
        """The elements of a tag in it, at any depth; `name` is a class that they have."""
        found = []
        for each in self.inside:
            if isinstance(each, Node):
                if each.tag == tag and name in ["", *each.attributes.get("class", "").split()]:
                    found.append(each)
                found += each.all(tag, name)
        return found

    def one(self, tag: str, name: str = "") -> Node:
        """The only such element."""
        (found,) = self.all(tag, name)
        return found


class _Builder(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.root = Node("root", {})
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.open[-1].inside.append(node)
        if tag not in VOID:
            self.open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].inside.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1].tag == tag, f"</{tag}> closes <{self.open[-1].tag}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.open[-1].inside.append(data)


def parsed(text: str) -> Node:
    """The tree of a page or of a part of one; fails where an element is not closed."""
    builder = _Builder()
    builder.feed(text)
    builder.close()
    assert len(builder.open) == 1, f"<{builder.open[-1].tag}> is not closed"
    return builder.root


def below(page: Node, heading: str) -> list[Node]:
    """The elements of a page's main part between a heading and the next one."""
    main = [each for each in page.one("main").inside if isinstance(each, Node)]
    start = next(at for at, each in enumerate(main) if each.tag == "h2" and each.text == heading)
    end = next((at for at in range(start + 1, len(main)) if main[at].tag == "h2"), len(main))
    return main[start + 1 : end]


def within(parts: list[Node], tag: str, name: str = "") -> list[Node]:
    """The elements of a tag among some or in them."""
    return Node("", {}, list(parts)).all(tag, name)


def cells(table: Node) -> list[list[str]]:
    """The text of a table's rows, its head first."""
    return [[each.text for each in row.inside if isinstance(each, Node)] for row in table.all("tr")]
