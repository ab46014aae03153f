"""YAML without its traps: no duplicate keys, no objects, `1e-3` is a number, and `on`, `1:30` and dates are text."""

from __future__ import annotations

import re
from typing import Any

import yaml

_CORE = "tag:yaml.org,2002:"
_BOOL, _INT, _FLOAT, _STR, _MAP, _SEQ = (_CORE + name for name in ("bool", "int", "float", "str", "map", "seq"))
_TAGS = (None, _CORE + "null", _BOOL, _INT, _FLOAT, _STR, _SEQ, _MAP)
_REPLACED = (_BOOL, _INT, _FLOAT, _CORE + "timestamp", _CORE + "value")
_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")
_BOOL_TEXT = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
_INT_TEXT = re.compile(r"^[-+]?(?:0|[1-9][0-9]*(?:_[0-9]+)*)$")
_FLOAT_TEXT = re.compile(
    r"""^(?:[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?
        |[-+]?[0-9]+[eE][-+]?[0-9]+
        |[-+]?\.(?:inf|Inf|INF)
        |\.(?:nan|NaN|NAN))$""",
    re.VERBOSE,
)


def load_yaml(text: str, *, source: str) -> Any:
    """Parse one YAML document as YAML 1.2 reads plain scalars.

    PyYAML follows YAML 1.1, in which `1e-3` is text, `on` and `no` are booleans, `1:30` is 90, `010` is 8 and
    `2024-01-01` is a date. Here only decimal numbers, true, false and null are not text.

    Args:
        text: The document.
        source: Where it comes from, for error messages.

    Raises:
        ValueError: A syntax error, a duplicate key, a tag or a recursive alias; the message gives line and column.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)  # a SafeLoader subclass
    except yaml.MarkedYAMLError as error:
        raise ValueError(f"{source}{_position(error.problem_mark)}: {_problem(error)}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{source}: cannot be read as YAML: {error}") from error


def yaml_scalar(text: str) -> Any:
    """Parse the value of a `--set key=value`: "1e-3" is a float, "[0, 1]" a list, "null" None, "abc" text.

    Raises:
        ValueError: It is no YAML.
    """
    return load_yaml(text, source=f"value {text!r}")


def dump_yaml(value: Any) -> str:
    """Return the text that `load_yaml` reads back as an equal value. Keys keep their order."""
    return yaml.dump(value, Dumper=_StrictDumper, sort_keys=False, allow_unicode=True, width=100)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, without its silent choices: a key given twice, a word read as something else than text."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Refuse a key that is given twice or is no text."""
        # Checked before `<<` is merged: a key that overrides a merged one is no duplicate.
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="keys must be text", problem_mark=key.start_mark)
            if key.value in lines:
                problem = f"duplicate key `{key.value}`, first given on line {lines[key.value]}; keep one of them"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            lines[key.value] = key.start_mark.line + 1
        return node

    def construct_whole(self, node: Any) -> Any:
        """Construct a container at once: PyYAML then notices an alias inside of what it names."""
        if isinstance(node, yaml.MappingNode):
            return self.construct_mapping(node, deep=True)
        return self.construct_sequence(node, deep=True)


class _StrictDumper(yaml.SafeDumper):
    """PyYAML's safe dumper, whose output the strict loader reads back as an equal value."""

    # Keeps YAML 1.1's own patterns beside ours: what either version reads as something else than text is quoted.
    def ignore_aliases(self, data: Any) -> bool:
        """Write a value that occurs twice in full, without an anchor."""
        return True

    def represent_text(self, text: str) -> yaml.ScalarNode:
        """Quote doubly what PyYAML would write bare and then read as a line break."""
        style = '"' if _LINE_BREAKS.search(text) else None
        return self.represent_scalar(_STR, text, style=style)


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in entries if tag not in _REPLACED]
    for first, entries in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
# No sets, dates, binaries or objects: what a recipe holds has to fit into JSON.
_StrictLoader.yaml_constructors = {tag: yaml.SafeLoader.yaml_constructors[tag] for tag in _TAGS}
_StrictLoader.add_constructor(_MAP, _StrictLoader.construct_whole)
_StrictLoader.add_constructor(_SEQ, _StrictLoader.construct_whole)
_StrictDumper.add_representer(str, _StrictDumper.represent_text)
_StrictLoader.add_implicit_resolver(_BOOL, _BOOL_TEXT, list("tTfF"))
for _resolver in (_StrictLoader, _StrictDumper):
    _resolver.add_implicit_resolver(_INT, _INT_TEXT, list("-+0123456789"))
    _resolver.add_implicit_resolver(_FLOAT, _FLOAT_TEXT, list("-+.0123456789"))


def _position(mark: Any) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = error.problem or "not YAML"
    if "'\\t'" in problem:
        problem += " (indent with spaces)"
    return f"{error.context}: {problem}" if error.context else problem
