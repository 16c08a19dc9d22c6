"""The text form of graphs: `print_graph` and `parse_graph`, which undo each other.

    graph resnet
    input %0: f32[1,224,224,3] "x"
    const %1: f32[7,7,3,64] @w0
    const %2: i64[2] [1, 2]
    %3: f32[1,112,112,64] = conv(%0, %1) stride=(2, 2) groups=1  # net.onnx:Conv_12
    output %3 "y"
    state "h" [0.0, 0.0]

A name of `state` is an input and an output: what a run gives the next one is given, the first one
the constant that stands here. Constants of up to 16 elements stand in the text, larger ones in a
mapping beside it. Attributes are integers, floats, "text", True, False, None, dtypes, tuples, and
graphs in braces. What follows `#` is where the value came from. Parsing infers every type again and
compares it with the one that is written; it is safe on hostile text: any fault is a ModelError that
shows the lines around it. How constants are stored in files is not here.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from brim.errors import BrimError, ModelError
from brim.graph import Graph, Value, const, placeholder
from brim.ops import OPS
from brim.ops.registry import infer_type
from brim.types import DTYPES, STR, DType, Type, as_numbers, dtype_of, find_dtype, parse_type

INLINE = 16  # elements of a constant that stands in the text
DEPTH = 32  # nested graphs and tuples; real models have three or four
MAX_ELEMENTS = 1 << 31  # of one value, as in the front ends: larger ones are damage

# ------------------------------------------------------------------ printing


def print_graph(graph: Graph) -> tuple[str, dict[str, np.ndarray]]:
    """(text, the constants that it refers to as @name). Raises ModelError for odd attributes."""
    data: dict[str, np.ndarray] = {}
    return "\n".join(_lines(graph, data, "", 0)) + "\n", data


def print_equations(graph: Graph) -> tuple[list[str], dict[int, int]]:
    """The lines of `print_graph`, and id(value) -> its line: for messages."""
    lines_of: dict[int, int] = {}
    return _lines(graph, {}, "", 0, lines_of), lines_of


def _lines(
    graph: Graph,
    data: dict[str, np.ndarray],
    indent: str,
    depth: int,
    lines_of: dict[int, int] | None = None,
) -> list[str]:
    if depth > DEPTH:
        raise ModelError(f"graphs are nested deeper than {DEPTH}")
    names: dict[int, str] = {}
    lines = [f"{indent}graph {graph.name if _NAME.fullmatch(graph.name) else _quote(graph.name)}"]
    labels = {id(value): name for name, value in graph.inputs.items()}
    for value in graph.values():
        name = names[id(value)] = f"%{len(names)}"
        if lines_of is not None:
            lines_of[id(value)] = len(lines)
        if value.op is not None:
            args = ", ".join(names[id(arg)] for arg in value.args)
            attrs = "".join(
                f" {key}={_attribute(attr, data, indent, depth)}"
                for key, attr in value.attrs.items()
            )
            line = f"{name}: {_type(value.type)} = {value.op.name}({args}){attrs}"
        elif value.data is not None:
            line = f"const {name}: {value.type} {_constant(value.data, data)}"
        else:
            line = f"input {name}: {value.type} {_quote(labels.get(id(value), ''))}"
        lines.append(indent + line + _comment(value.where))
    lines += [f"{indent}output {names[id(v)]} {_quote(k)}" for k, v in graph.outputs.items()]
    first = graph.state.items()
    lines += [f"{indent}state {_quote(k)} {_constant(array, data)}" for k, array in first]
    return lines


def _type(found: Any) -> str:
    return f"({', '.join(map(str, found))})" if isinstance(found, tuple) else str(found)


def _comment(where: str) -> str:
    if not where:
        return ""
    simple = where.isprintable() and where == where.strip() and where[0] != '"'
    return f"  # {where if simple else _quote(where)}"


def _quote(text: str) -> str:
    return json.dumps(text)


def _attribute(attr: Any, data: dict[str, np.ndarray], indent: str, depth: int) -> str:
    match attr:
        case bool() | np.bool_() | None:
            return str(attr)
        case int() | np.integer():
            return str(int(attr))
        case float() | np.floating():
            return repr(float(attr))
        case str():
            return _quote(attr)
        case DType():
            return attr.name
        case tuple() | list():
            if depth > DEPTH:
                raise ModelError(f"tuples are nested deeper than {DEPTH}")
            parts = [_attribute(part, data, indent, depth + 1) for part in attr]
            return f"({', '.join(parts)}{',' if len(parts) == 1 else ''})"
        case Graph():
            inner = "\n".join(_lines(attr, data, indent + "  ", depth + 1))
            return f"{{\n{inner}\n{indent}}}"
    raise ModelError(f"an attribute of type {type(attr).__name__} has no text form")


def _constant(array: np.ndarray, data: dict[str, np.ndarray]) -> str:
    inline = array.dtype.kind in "OUST" or array.size <= INLINE
    numbers = as_numbers(array)
    if inline and numbers.dtype.kind == "f" and np.isnan(numbers).any():
        plain = np.where(np.isnan(numbers), np.array(np.nan, numbers.dtype), numbers)
        inline = plain.astype(array.dtype).tobytes() == array.tobytes()  # no spelling for others
    if inline:
        return f"[{', '.join(map(_element, numbers.ravel()))}]"
    name = f"w{len(data)}"
    data[name] = array
    return f"@{name}"


def _element(x: Any) -> str:
    match x:
        case str():
            return _quote(x)
        case bool() | np.bool_():
            return str(bool(x))
        case np.integer():
            return str(int(x))
        case np.floating():
            short = str(x)  # the shortest text of this width; a double may round it differently
            return short if x.dtype.type(float(short)) == x or np.isnan(x) else repr(float(x))
    raise ModelError(f"a constant holds a {type(x).__name__}", hint="text constants hold str only")


# ------------------------------------------------------------------ parsing

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_TOKEN = re.compile(
    r"""(?P<space>[ \t\r]+)|(?P<comment>\#[^\n]*)|(?P<line>\n)|(?P<value>%[0-9]+)
    |(?P<type>[a-z][a-z0-9.]*\[[^\]\n]*\])|(?P<data>@[A-Za-z0-9_.]+)
    |(?P<number>-?(?:[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|inf|nan)(?![A-Za-z0-9_.]))
    |(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<string>"(?:[^"\\\n]|\\.)*")|(?P<mark>[:=(){}\[\],])""",
    re.VERBOSE,
)
_WORDS: dict[str, Any] = {"True": True, "False": False, "None": None, **DTYPES}


@dataclass
class _Parser:
    """A cursor over the tokens (kind, text, line number) of a text."""

    text: str
    data: Mapping[str, np.ndarray]
    tokens: list[tuple[str, str, int]] = field(default_factory=list)
    position: int = 0
    types: dict[str, Type] = field(default_factory=dict)

    def fail(self, what: str, why: str = "", hint: str = "", line: int | None = None) -> NoReturn:
        line = self.tokens[self.position][2] if line is None else line
        raise ModelError(what, why, excerpt(self.text.split("\n"), line - 1), hint) from None

    def peek(self) -> str:
        """The text of the next token."""
        return self.tokens[self.position][1]

    def take(self, kind: str) -> str:
        """The next token, which must be of `kind`."""
        found, text, _ = self.tokens[self.position]
        if found != kind:
            self.fail(f"{kind} expected, but {_shown(text)} found")
        self.position += 1
        return text

    def skip(self, mark: str) -> bool:
        """Consumes the next token if it is `mark`."""
        found = self.tokens[self.position][1] == mark
        self.position += found
        return found

    def expect(self, mark: str) -> None:
        if not self.skip(mark):
            self.fail(f"{mark!r} expected, but {_shown(self.peek())} found")


def parse_graph(text: str, data: Mapping[str, np.ndarray]) -> Graph:
    """The graph that `print_graph` printed. Raises ModelError, with the line, for anything else."""
    parser = _Parser(text, data)
    _tokenize(parser)
    _skip_lines(parser)
    graph = _graph(parser, 0)
    _skip_lines(parser)
    if parser.position < len(parser.tokens) - 1:
        parser.fail(f"the text should end here, but {_shown(parser.peek())} follows")
    return graph


def excerpt(lines: list[str], index: int) -> str:
    """The ten lines around lines[index], numbered from 1, the line itself marked."""
    first = max(min(index - 5, len(lines) - 10), 0)
    rows = [f"line {index + 1}"]
    for number, line in enumerate(lines[first : first + 10], first):
        mark = ">" if number == index else " "
        rows.append(f"  {mark} {number + 1:4} | {line[:160]}")
    return "\n".join(rows)


def _shown(text: str) -> str:
    return {"": "the end", "\n": "the end of the line"}.get(text, repr(text[:60]))


def _tokenize(parser: _Parser) -> None:
    text, tokens, line, end = parser.text, parser.tokens, 1, 0
    for found in _TOKEN.finditer(text):
        if found.start() != end:
            break
        end = found.end()
        kind = found.lastgroup or ""
        if kind != "space":
            tokens.append((kind, found[0], line))
        line += kind == "line"
    if end != len(text):
        tokens.append(("end", "", line))
        parser.position = len(tokens) - 1
        parser.fail(f"unexpected character {text[end]!r}")
    tokens.append(("end", "", line))


def _skip_lines(parser: _Parser) -> None:
    while parser.tokens[parser.position][0] in ("line", "comment"):
        parser.position += 1


def _end_of_line(parser: _Parser) -> str:
    """The comment at the end of a statement, which is where the value came from."""
    where = ""
    if parser.tokens[parser.position][0] == "comment":
        where = parser.take("comment")[1:].strip()
        if where.startswith('"'):
            where = _string(parser, where)
    if parser.tokens[parser.position][0] != "end":
        parser.take("line")
    _skip_lines(parser)
    return where


def _string(parser: _Parser, quoted: str) -> str:
    try:
        found = json.loads(quoted)
    except ValueError as error:
        parser.fail("a text is not quoted as in JSON", str(error))
    return found if isinstance(found, str) else parser.fail("a text was expected")


def _graph(parser: _Parser, depth: int) -> Graph:
    if depth > DEPTH:
        parser.fail(f"graphs are nested deeper than {DEPTH}")
    if parser.peek() != "graph":
        parser.fail(f"a graph starts with the word graph, not {_shown(parser.peek())}")
    parser.position += 1
    quoted = parser.tokens[parser.position][0] == "string"
    name = _string(parser, parser.take("string")) if quoted else parser.take("name")
    _end_of_line(parser)
    values: dict[str, Value] = {}
    inputs: dict[str, Value] = {}
    outputs: dict[str, Value] = {}
    state: dict[str, np.ndarray] = {}
    while True:
        word = parser.peek()
        if word.startswith("%"):
            _equation(parser, values, depth)
            continue
        if word not in ("input", "const", "output", "state"):
            return Graph(inputs, outputs, name, state)
        parser.position += 1
        match word:
            case "input":
                _input(parser, values, inputs)
            case "const":
                _const(parser, values)
            case "output":
                value = _use(parser, values)
                _name_it(parser, outputs, value)
                _end_of_line(parser)
            case "state":
                _state(parser, inputs, outputs, state)


def _define(parser: _Parser, values: dict[str, Value]) -> tuple[str, Any]:
    """`%3: type` -> ("%3", type), for a name that is new."""
    name = parser.take("value")
    if name in values:
        parser.position -= 1
        parser.fail(f"{name} is defined twice")
    parser.expect(":")
    if not parser.skip("("):
        return name, _one_type(parser)
    types = []
    while not parser.skip(")"):
        types.append(_one_type(parser))
        if not parser.skip(","):
            parser.expect(")")
            break
    return name, tuple(types)


def _one_type(parser: _Parser) -> Type:
    text = parser.take("type")
    if text not in parser.types:
        try:
            found = parse_type(text)
        except (BrimError, ValueError) as error:
            parser.position -= 1
            parser.fail(error.what if isinstance(error, BrimError) else str(error))
        if found.is_static and found.size > MAX_ELEMENTS:
            parser.position -= 1
            parser.fail(f"{text[:60]} has more than {MAX_ELEMENTS} elements")
        parser.types[text] = found
    return parser.types[text]


def _use(parser: _Parser, values: dict[str, Value]) -> Value:
    name = parser.take("value")
    if name not in values:
        parser.position -= 1
        parser.fail(f"{name} is not defined", "a value is defined above its first use")
    return values[name]


def _name_it(parser: _Parser, named: dict[str, Value], value: Value) -> None:
    name = _string(parser, parser.take("string"))
    if name in named:
        parser.position -= 1
        parser.fail(f"the name {_shown(name)} is used twice")
    named[name] = value


def _input(parser: _Parser, values: dict[str, Value], inputs: dict[str, Value]) -> None:
    start = parser.position
    name, found = _define(parser, values)
    if isinstance(found, tuple):
        parser.position = start
        parser.fail("an input has one type")
    label = parser.position
    parser.take("string")
    value = values[name] = placeholder(found, _end_of_line(parser))
    parser.position, after = label, parser.position
    _name_it(parser, inputs, value)
    parser.position = after


def _const(parser: _Parser, values: dict[str, Value]) -> None:
    start = parser.position
    name, found = _define(parser, values)
    if isinstance(found, tuple) or not found.is_static or found.dtype.kind == "o":
        parser.position = start
        parser.fail("a constant has one static type and is no container")
    array = _constant_of(parser, found)
    where = _end_of_line(parser)
    values[name] = const(array, where)


def _constant_of(parser: _Parser, found: Type) -> np.ndarray:
    """A constant of a static type, in brackets or by its name."""
    if parser.peek() == "[":
        return _elements(parser, found)
    key = parser.take("data")[1:]
    given = np.asarray(parser.data[key]) if key in parser.data else None
    narrow, carrier = found.dtype.kind == "n", found.dtype.carrier.numpy
    if given is not None and narrow and given.dtype == carrier:  # as files hold it
        given = given.view(found.dtype.numpy)
    if given is None or given.shape != found.dims or dtype_of(given) != found.dtype:
        parser.position -= 1
        there = "none" if given is None else f"{given.dtype} of shape {given.shape}"
        parser.fail(f"@{key[:60]} should be {found}", f"there is {there} of that name")
    return given


def _state(
    parser: _Parser,
    inputs: Mapping[str, Value],
    outputs: Mapping[str, Value],
    state: dict[str, np.ndarray],
) -> None:
    name = _string(parser, parser.take("string"))
    given, left = inputs.get(name), outputs.get(name)
    if name in state or given is None or left is None or given.type != left.type:
        parser.position -= 1
        parser.fail(f"the state {_shown(name)} is not one input and output of one type")
    if not given.type.is_static or given.type.dtype.is_object:
        parser.position -= 1
        parser.fail(f"the state {_shown(name)} is {given.type}, and no array of numbers")
    state[name] = const(_constant_of(parser, given.type)).data  # type: ignore[assignment]
    _end_of_line(parser)


def _elements(parser: _Parser, found: Type) -> np.ndarray:
    start = parser.position
    parser.expect("[")
    items: list[Any] = []
    while not parser.skip("]"):
        items.append(_scalar(parser))
        if not parser.skip(","):
            parser.expect("]")
            break
    real = not found.dtype.is_whole
    kinds: Any = {"s": str, "b": bool}.get(found.dtype.kind, (int, float) if real else int)
    fits = all(
        isinstance(x, kinds) and isinstance(x, bool) == (found.dtype.kind == "b") for x in items
    )
    if len(items) != found.size or not fits:
        parser.position = start
        parser.fail(f"these {len(items)} elements do not make a {found}")
    try:
        with np.errstate(over="ignore"):
            array = _array(items, found.dtype)
        if found.dtype.is_whole and as_numbers(array).tolist() != items:
            raise ValueError("it has too few bits")
    except (OverflowError, ValueError) as error:
        parser.position = start
        parser.fail(f"an element does not fit {found.dtype}", str(error))
    return array.reshape(found.dims)


def _array(items: list[Any], dtype: DType) -> np.ndarray:
    if dtype.kind == "n" and not dtype.is_whole:  # as printed: by way of f32
        return np.array(items, np.float32).astype(dtype.numpy)
    return np.array(items, object if dtype == STR else dtype.numpy)


def _scalar(parser: _Parser) -> Any:
    """A number, a text, True, False, None or a dtype."""
    kind, text, _ = parser.tokens[parser.position]
    parser.position += 1
    if kind == "number":
        try:
            return int(text) if text.lstrip("-").isdigit() else float(text)
        except ValueError as error:
            parser.position -= 1
            return parser.fail(f"{text[:40]}... is not a number", str(error))
    if kind == "string":
        return _string(parser, text)
    if kind == "name" and text in _WORDS:
        return _WORDS[text]
    if kind == "name" and text.startswith(("seq.", "opt.", "map.")):
        try:
            return find_dtype(text)
        except ModelError as error:
            parser.position -= 1
            return parser.fail(error.what)
    parser.position -= 1
    return parser.fail(f"number, text, True, False, None or dtype expected, not {_shown(text)}")


def _attribute_value(parser: _Parser, depth: int) -> Any:
    if depth > DEPTH:
        parser.fail(f"tuples are nested deeper than {DEPTH}")
    if parser.skip("("):
        parts = []
        while not parser.skip(")"):
            parts.append(_attribute_value(parser, depth + 1))
            if not parser.skip(","):
                parser.expect(")")
                break
        return tuple(parts)
    if parser.skip("{"):
        _skip_lines(parser)
        graph = _graph(parser, depth + 1)
        parser.expect("}")
        return graph
    return _scalar(parser)


def _equation(parser: _Parser, values: dict[str, Value], depth: int) -> None:
    line = parser.tokens[parser.position][2]
    name, written = _define(parser, values)
    parser.expect("=")
    op_name = parser.take("name")
    if op_name not in OPS:
        near = difflib.get_close_matches(op_name, OPS, 3)
        parser.fail(f"there is no operator {op_name[:60]!r}", hint=", ".join(near), line=line)
    args = []
    parser.expect("(")
    while not parser.skip(")"):
        args.append(_use(parser, values))
        if not parser.skip(","):
            parser.expect(")")
            break
    attrs: dict[str, Any] = {}
    while parser.tokens[parser.position][0] == "name":
        key = parser.take("name")
        parser.expect("=")
        if key in attrs:
            parser.fail(f"the attribute {key[:60]!r} is given twice")
        attrs[key] = _attribute_value(parser, depth)
    try:
        found = infer_type(OPS[op_name], tuple(arg.type for arg in args), attrs)
    except BrimError as error:
        parser.fail(error.what, error.why, error.hint, line)
    if found != written:
        parser.fail(f"the type is {_type(found)}, but {_type(written)} is written", line=line)
    values[name] = Value(OPS[op_name], tuple(args), attrs, found, None, _end_of_line(parser))  # type: ignore[arg-type]
