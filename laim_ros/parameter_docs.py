"""The parameter tables as text: `config/coinference.yaml` and the tables of the README.

`python -m laim_ros.parameter_docs` (or `make params`) writes both again; a test keeps them equal to the tables.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import wrap

from laim_ros.bringup import ARGUMENTS
from laim_ros.parameters import TABLES, Parameter, ParameterValue
from laim_ros.paths import share_directory

CONFIG = Path("config/coinference.yaml")
README = Path("README.md")
_YAML_COLUMNS = 110

_YAML_HEAD = """\
# Every parameter of every node, at its default. Written by `make params` from laim_ros/parameters.py: change it there.
#
# Copy this file, keep the lines that you change, and give it to the launch file:
#   ros2 launch laim_ros coinference.launch.py params_file:=PATH
#
# /**/robot is the node `robot` in any namespace; /r1/robot would be that of one robot. (live) marks what
# `ros2 param set` changes while the node runs; the rest is read when the node is configured.
"""


def config_yaml() -> str:
    """The commented parameter file with every parameter at its default."""
    return _YAML_HEAD + "".join(f"\n{_yaml_node(node, table)}" for node, table in TABLES.items())


def parameter_table(node: str) -> str:
    """The README's table of one node's parameters, in Markdown."""
    rows = [
        (
            f"`{parameter.name}`",
            f"`{_yaml(parameter.default)}`",
            parameter.bounds(),
            _mark(parameter),
            parameter.description,
        )
        for parameter in TABLES[node]
    ]
    return _markdown(("parameter", "default", "takes", "live", ""), rows)


def argument_table() -> str:
    """The README's table of the launch arguments, in Markdown."""
    rows = [
        (f"`{argument.name}`", f"`{argument.default}`" if argument.default else "", argument.help())
        for argument in ARGUMENTS
    ]
    return _markdown(("argument", "default", ""), rows)


def readme(text: str) -> str:
    """`text` with what stands between each pair of markers `<!-- begin NAME -->`, `<!-- end NAME -->` written anew.

    Raises:
        ValueError: a pair of markers is missing.
    """
    for name, content in _sections():
        begin, end = f"<!-- begin {name} -->\n", f"<!-- end {name} -->"
        before, found_begin, rest = text.partition(begin)
        _, found_end, after = rest.partition(end)
        if not (found_begin and found_end):
            raise ValueError(f"the README lacks the lines {begin.strip()} and {end}")
        text = f"{before}{begin}{content}{end}{after}"
    return text


def main() -> int:
    """Writes the files of the source tree again."""
    root = share_directory()
    (root / CONFIG).write_text(config_yaml(), encoding="utf-8")
    (root / README).write_text(readme((root / README).read_text(encoding="utf-8")), encoding="utf-8")
    return 0


def _sections() -> Iterator[tuple[str, str]]:
    yield "arguments", argument_table()
    for node in TABLES:
        yield f"parameters {node}", parameter_table(node)


def _yaml_node(node: str, table: Sequence[Parameter]) -> str:
    lines = [f"/**/{node}:", "  ros__parameters:"]
    for parameter in table:
        words = [
            parameter.description,
            parameter.bounds() and f"[{parameter.bounds()}]",
            "(live)" if parameter.live else "",
        ]
        lines += [f"    # {line}" for line in wrap(" ".join(filter(None, words)), _YAML_COLUMNS)]
        lines.append(f"    {parameter.name}: {_yaml(parameter.default)}")
    return "\n".join(lines) + "\n"


def _yaml(value: ParameterValue) -> str:
    """A parameter value in YAML. JSON is YAML, keeps 1.0 apart from 1, and quotes every string."""
    return json.dumps(value, ensure_ascii=False)


def _mark(parameter: Parameter) -> str:
    return "yes" if parameter.live else ""


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


if __name__ == "__main__":
    raise SystemExit(main())
