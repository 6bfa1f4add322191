"""Tests of `read_blocks`: which blocks it finds and which mistakes it rejects."""

import pytest

from readme.blocks import Block, read_blocks

MARKDOWN = """
```sh
make serve
```
<!-- test: hello -->
```python
print("hello 1")
```
It prints
<!-- output: hello -->

```text
hello ...
```
"""


def test_only_marked_blocks_are_read() -> None:
    assert read_blocks(MARKDOWN) == [
        Block("hello", "python", 'print("hello 1")\n', "hello ...\n")
    ]


def test_output_is_compared() -> None:
    block = read_blocks(MARKDOWN)[0]
    assert block.prints("hello 1\n")
    assert not block.prints("good bye\n")


@pytest.mark.parametrize(
    "mark", ["<!-- test: lost -->\ntext", "<!-- output: lost -->\n```text\nx\n```\n"]
)
def test_a_mark_that_would_do_nothing_is_an_error(mark: str) -> None:
    with pytest.raises(ValueError, match="without"):
        read_blocks(MARKDOWN + mark)
