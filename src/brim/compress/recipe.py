"""What compression is to do: a recipe is a stack of steps, in Python or as a TOML file.

A step is a frozen dataclass whose fields are the keys of a `[[step]]` table. Only what is to be
done is here: the function that does it is in the step's own file of this room.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from fnmatch import fnmatchcase
from os import PathLike
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from brim.errors import InputError
from brim.where import split_name

MAX_BYTES = 1 << 20  # a longer file is no recipe


@dataclass(frozen=True)
class Between:
    """The numbers that a field takes, both ends excluded."""

    low: float
    high: float


Share = Annotated[float, Between(0, 1)]
Patterns = tuple[str, ...]  # of layers' names, with * and ?


def _check(step: Any) -> None:
    """Raises InputError for a field that does not hold what its annotation says."""
    for name, wanted in get_type_hints(type(step), include_extras=True).items():
        value = getattr(step, name)
        if not _fits(value, wanted):
            raise InputError(f"{name} = {value!r} is not {allowed(wanted)}")


@dataclass(frozen=True)
class Int8:
    """Weights and activations are integers of 8 bits, and products are computed in integers.

    observer: how the range of an activation follows from what calibration shows of it. per_channel:
    weights have a scale for each output channel. equalise: channels are scaled between layers,
    so that those that share a scale are alike (arXiv:1906.04721, section 4.1); with scales per
    channel, where that is measured to help. correct_bias: the mean error of a layer goes into its
    bias (section 4.2). effort: "high" learns which way to round (arXiv:2004.10568). keep:
    layers that stay in float.
    """

    observer: Literal["mse", "min_max", "moving_average", "percentile", "entropy"] = "mse"
    per_channel: bool = True
    equalise: bool = True
    correct_bias: bool = True
    effort: Literal["normal", "high"] = "normal"
    keep: Patterns = ()

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Weights:
    """Weights are stored as small integers, activations stay in float.

    bits: of a weight. group: weights in a row that share a scale. symmetric: no zero point. method:
    how they are rounded: each to its nearest, half-quadratic (HQQ), or with the error of one made
    up for by the next (GPTQ, arXiv:2210.17323). layers: the names of those that it is done to.
    """

    bits: Literal[4, 8] = 4
    group: Literal[32, 64, 128] = 64
    symmetric: bool = True
    method: Literal["nearest", "hqq", "gptq"] = "nearest"
    layers: Patterns = ("*",)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Storage:
    """Weights are stored in 16 bits, and computed with in f32."""

    dtype: Literal["f16", "bf16"] = "f16"

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class Prune:
    """The weights that matter least become zeros, or their channels go.

    method: by magnitude, or by what the outputs would move without them (arXiv:1906.10771).
    pattern: single weights, blocks of neighbouring outputs, or channels, which makes tensors
    smaller. sparsity: the share that goes, of each layer or of all together. layers: the names of
    those that it is done to.
    """

    method: Literal["magnitude", "movement"] = "magnitude"
    pattern: Literal["unstructured", "1x4", "1x8", "channels"] = "unstructured"
    sparsity: Share = 0.5
    scope: Literal["global", "layer"] = "global"
    layers: Patterns = ("*",)

    def __post_init__(self) -> None:
        _check(self)


@dataclass(frozen=True)
class LowRank:
    """A large matrix becomes the product of two thin ones, by its singular values.

    energy: the share of the sum of their squares that is kept. rank: how many are kept, whatever
    their energy. layers: the names of those that it is done to.
    """

    energy: Share = 0.99
    rank: Annotated[int, Between(0, math.inf)] | None = None
    layers: Patterns = ("*",)

    def __post_init__(self) -> None:
        _check(self)


Step = Int8 | Weights | Storage | Prune | LowRank
STEPS: dict[str, type[Step]] = {
    "int8": Int8,
    "weights": Weights,
    "storage": Storage,
    "prune": Prune,
    "low_rank": LowRank,
}
KINDS = {step: kind for kind, step in STEPS.items()}


@dataclass(frozen=True)
class Recipe:
    """Steps, done one after another. Raises InputError where there is none."""

    steps: tuple[Step, ...] = field(default_factory=lambda: (Int8(),))

    def __post_init__(self) -> None:
        if not self.steps or not all(isinstance(step, Step) for step in self.steps):
            raise InputError(
                f"a recipe is a tuple of one step or more, not {self.steps!r}",
                hint=f"steps are {', '.join(step.__name__ for step in KINDS)}",
            )

    def to_toml(self) -> str:
        """The recipe as a file; fields that have their default are left out."""
        return "\n".join(map(_table, self.steps))


def selects(patterns: Sequence[str], layer: str) -> bool:
    """Whether a layer is one of the patterns, or fits one (* any text, ? any letter).

    layer: its node's name, or where it is from, such as "net.onnx: conv1 (Conv)": patterns are for
    the name then.
    """
    name, _ = split_name(layer)
    return any(name == pattern or fnmatchcase(name, pattern) for pattern in patterns)


def read_recipe(path: str | PathLike[str]) -> Recipe:
    """The recipe in a TOML file. Raises InputError, which names the file, the step and the key."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"cannot read the recipe {path}", why=str(error)) from None
    if len(content) > MAX_BYTES:
        raise InputError(f"{path} is no recipe", why=f"it is larger than {MAX_BYTES} bytes")
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no recipe", why=f"it is not UTF-8: {error}") from None
    return parse_recipe(text, str(path))


def parse_recipe(text: str, file: str = "the recipe") -> Recipe:
    """The recipe in TOML text, which errors call `file`."""
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not TOML", why=str(error)) from None
    tables = document.pop("step", [])
    if document:
        raise InputError(
            f"{file} has an unknown key {next(iter(document))!r}", hint="a recipe has [[step]] only"
        )
    if not (isinstance(tables, list) and tables and all(isinstance(t, dict) for t in tables)):
        raise InputError(
            f"{file} has no steps", hint='a step is\n[[step]]\nkind = "int8"\n(and its options)'
        )
    return Recipe(tuple(_step(t, f"{file}, step {i}") for i, t in enumerate(tables, 1)))


def _step(table: dict[str, Any], where: str) -> Step:
    given = dict(table)
    kind = given.pop("kind", None)
    if kind is None:
        raise InputError("a step has no kind", where=where, hint=f"kind = {_listed(STEPS)}")
    if not isinstance(kind, str) or kind not in STEPS:
        raise InputError(f"no step is of kind {kind!r}", where=where, hint=_nearest(kind, STEPS))
    step = STEPS[kind]
    known = [each.name for each in fields(step)]
    for key in given:
        if key not in known:
            raise InputError(f"{kind} has no key {key!r}", where=where, hint=_nearest(key, known))
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        make: Callable[..., Step] = step
        return make(**values)
    except InputError as error:
        raise InputError(error.what, where=f"{where}, {kind}") from None


def step_text(step: Step) -> str:
    """A step in one line: its kind, and what differs from the default."""
    return " ".join([KINDS[type(step)], *_changes(step, "=")])


def _table(step: Step) -> str:
    lines = ["[[step]]", f"kind = {toml_value(KINDS[type(step)])}", *_changes(step, " = ")]
    return "\n".join(lines) + "\n"


def _changes(step: Step, equals: str) -> list[str]:
    values = [(each, getattr(step, each.name)) for each in fields(step)]
    return [f"{f.name}{equals}{toml_value(value)}" for f, value in values if value != f.default]


def toml_value(value: Any) -> str:
    """A field's value as a TOML file has it."""
    match value:
        case bool():
            return str(value).lower()
        case tuple():
            return f"[{', '.join(map(toml_value, value))}]"
        case str():
            # a basic string: printable as it is, apart from its own two special characters
            plain = value.replace("\\", "\\\\").replace('"', '\\"')
            return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08X}" for c in plain) + '"'
        case _:
            return repr(value)


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is NoneType:
        return value is None
    if wanted == Patterns:
        return isinstance(value, tuple) and all(isinstance(each, str) for each in value)
    match get_origin(wanted):
        case origin if origin is Literal:
            return any(type(value) is type(each) and value == each for each in get_args(wanted))
        case origin if origin is Annotated:
            kind, limits = get_args(wanted)
            number = int if kind is int else int | float
            whole = isinstance(value, number) and not isinstance(value, bool)
            return whole and limits.low < value < limits.high
        case None:
            return type(value) is wanted
        case _:  # a union
            return any(_fits(value, each) for each in get_args(wanted))


def allowed(wanted: Any) -> str:
    """The values that a field with this annotation takes, as a TOML file has them."""
    if wanted is bool:
        return "true or false"
    if wanted == Patterns:
        return 'a list of names, such as ["head*"]'
    match get_origin(wanted):
        case origin if origin is Literal:
            return _listed(get_args(wanted))
        case origin if origin is Annotated:
            kind, limits = get_args(wanted)
            number = "a whole number" if kind is int else "a number"
            end = f"between {limits.low} and {limits.high}"
            return f"{number} {end if limits.high < math.inf else f'above {limits.low}'}"
        case _:
            return " or ".join(allowed(each) for each in get_args(wanted) if each is not NoneType)


def _listed(values: Any) -> str:
    *most, last = map(toml_value, values)
    return f"{', '.join(most)} or {last}"


def _nearest(name: Any, known: Any) -> str:
    near = get_close_matches(str(name), known, n=1)
    return f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
