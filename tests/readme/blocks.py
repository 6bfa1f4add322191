"""The code blocks of a Markdown file that are marked to be run."""

import re
from dataclasses import dataclass

_FENCED = re.compile(
    r"<!-- (test|output): ([\w-]+) -->\n+```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE
)


@dataclass(frozen=True)
class Block:
    """A block, and what it prints if the file says so; "..." there stands for anything."""

    name: str
    language: str
    code: str
    output: str | None = None

    def prints(self, text: str) -> bool:
        """Whether `text` is what it should print."""
        if self.output is None:
            return True
        pattern = r".*?".join(
            re.escape(part) for part in self.output.strip().split("...")
        )
        return re.fullmatch(pattern, text.strip(), re.DOTALL) is not None


def read_blocks(markdown: str) -> list[Block]:
    """Returns the blocks behind `<!-- test: name -->`, with those behind `<!-- output:
    name -->` as their output.
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
            f"an output without its test, or a mark without its block: {sorted(outputs)}"
        )
    return blocks
