"""HTML as the tests read it: its tags, attributes and text; names that try to be more than text."""

from __future__ import annotations

from html.parser import HTMLParser

NASTY = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</title></style></svg></pre><iframe srcdoc=x>",
    "]]><!--",
    "&lt;b&gt;&#60;",
    "a\x00b\x1b[31m\u202ered\ud800\r\n",
    "javascript:alert(1)",
    "url(//example.org/x)",
)


class Page(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.values: list[tuple[str, str | None]] = []
        self.text: list[str] = []
        self.comments: list[str] = []
        self.source = page
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attributes)))
        self.values += attributes

    def handle_endtag(self, tag: str) -> None:
        self.tags.append((f"/{tag}", ()))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def left_open(self) -> list[str]:
        """The tags that are not closed by their own."""
        alone = {"meta", "rect", "path", "br", "input"}
        opened: list[str] = []
        for tag, _ in self.tags:
            if not tag.startswith("/"):
                opened += [tag] * (tag not in alone)
            elif tag[1:] not in alone and (not opened or opened.pop() != tag[1:]):
                return [*opened, tag]
        return opened

    def requests(self) -> list[str]:
        """Whatever in a page could fetch something, lead somewhere or run without the policy."""
        outside = {"link", "img", "iframe", "object", "embed", "form", "base", "a"}
        lead = {"src", "href", "srcset", "action", "srcdoc"}
        names = {name for _, names in self.tags for name in names}
        found = sorted({tag for tag, _ in self.tags} & outside)
        found += sorted(n for n in names if n in lead or n.startswith("on"))
        found += [text for text in ("url(", "@import") if text in self.source]
        return found + ["no policy"] * ("default-src 'none'" not in self.source)

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)
