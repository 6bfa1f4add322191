"""Finds the code blocks of a Markdown file that are marked to be run."""

import re
from dataclasses import dataclass

_FENCED = re.compile(
    r"<!-- (test|output): ([\w-]+) -->\n+```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A marked code block.

    `output` is what it must print, if the file says so; "..." in it matches any text.
    """

    name: str
    language: str
    code: str
    output: str | None = None

    def prints(self, text: str) -> bool:
        """Returns whether `text` matches the expected output."""
        if self.output is None:
            return True
        pattern = r".*?".join(
            re.escape(part) for part in self.output.strip().split("...")
        )
        return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def read_blocks(markdown: str) -> list[Block]:
    """Returns the code blocks that follow `<!-- test: name -->`.

    The block that follows `<!-- output: name -->` becomes the expected output of the
    test of the same name. Raises ValueError for an output without a test, and for a
    mark without a block.
    """
    found = _FENCED.findall(markdown)
    outputs = {name: code for kind, name, _, code in found if kind == "output"}
    blocks = [
        Block(name, lang, code, outputs.pop(name, None))
        for kind, name, lang, code in found
        if kind == "test"
    ]
    if outputs or len(found) != len(re.findall(r"<!-- (?:test|output):", markdown)):
        raise ValueError(
            "an output without its test, or a mark without its block: "
            f"{sorted(outputs)}"
        )
    return blocks
