"""Arguments and options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Project = Annotated[str, typer.Argument(metavar="PROJECT")]
Filter = Annotated[
    list[str] | None,
    typer.Argument(metavar="[FILTER]", help="Which projects; see mlops help filters"),
]
Holder = Annotated[
    str, typer.Option(metavar="NAME", help="Shown to others; default: a new name")
]
Wait = Annotated[
    float, typer.Option(metavar="SECONDS", help="Wait so long for another holder")
]
