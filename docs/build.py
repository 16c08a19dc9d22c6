"""Writes what the docs take from the code: ops.md, onnx.md, tflite.md, tables of other pages.

    python docs/build.py            brings both up to date
    python docs/build.py --check    exits with 1 if that would change something

onnx.md and tflite.md follow the schemas of one release of the `onnx` and the `tflite` package;
under another they are left alone.
Everything else in docs/ is plain Markdown, readable as it lies there; its examples are run by
tests/host/test_docs.py, and docs/site/build.py makes HTML of it. (onnx-cases.md:
`tests/extra/onnx_nodes.py` writes it.)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from pkgutil import iter_modules
from typing import get_type_hints

import brim.ops
from brim.compress.recipe import STEPS, allowed, toml_value
from brim.graph import Op
from brim.ops import OPS, VARIANTS
from brim.ops.elementwise import flat
from brim.settings import SETTINGS
from brim.tools.onnx_operators import Operator, onnx_operators, short_types
from brim.tools.operators import operator as own
from brim.tools.tflite_operators import tflite_operators

DOCS = Path(__file__).parent
SETTINGS_HEAD = "| variable | meaning | default |\n|---|---|---|\n"
STEPS_HEAD = (
    "| step | what it does | its keys with their defaults, and what they take |\n|---|---|---|\n"
)
OPS_HEAD = """# The operators

Every operator that brim has, {count} of them, written by `docs/build.py` from the table `OPS`. A
*composite* is a Python function over other operators, and its body is its meaning. Those of kind
*host* and *control* run in numpy, between compiled steps; all other kinds are primitives, which is
what lowering knows. [How to add one](howto/add-an-op.md).

Gradient: *own* (written beside the operator), *body* (that of what it consists of), *zero* (it is
constant wherever it has a slope), *graphs* (those within it are differentiated), or none: its
results are no floats, or only the host knows what it computes (`foreign` has one where it only
chooses elements, as `TopK` does). Where a function has a corner the
slope is what torch takes: 0 for `relu` and `absolute` at 0; all of it to `x` where a number is
limited to a constant bound that it equals; halves to two equal numbers of `maximum`; equal shares
to equal largest elements of `reduce`, all to the first of them in `max_pool`. Conversions to
storage types and shorter floats hand cotangents on as if nothing were rounded.
"""
STANDARD = "1.23"  # the release of the onnx package whose operators onnx.md lists
ONNX_HEAD = """# ONNX operators

What brim converts, {count} operators, against the standard as the `onnx` package {standard} has it;
written by `docs/build.py`, and the same as `brim ops --format onnx` prints. [Which of the official
test cases pass](onnx-cases.md). [How to add one](howto/add-an-onnx-operator.md).

*Operator sets*: those in which an operator changed and which brim converts, each up to the next
number. *Element types*: those that the standard gives its first input, in brim's words (`f16-f64`
is f16, f32 and f64; `f8` four kinds of float8). *Runs*: compiled to machine code, or as a host step
(numpy, between compiled steps). *Compiled, or a host step*: the operator needs the contents of an
input, such as a shape or axes, which may be constant, follow from shapes alone, or be known at run
time only; or a part of it is never compiled: drawing numbers, texts, sequences of unknown length.
Any operator runs on the host when a shape in front of it depends on data.
"""
SCHEMA = "2.18"  # the release of the tflite package whose operators tflite.md lists
TFLITE_HEAD = """# TFLite operators

What brim converts, {count} operators, against the schema as the `tflite` package {schema} has it;
written by `docs/build.py`, and the same as `brim ops --format tflite` prints. [How to add
one](howto/add-a-tflite-operator.md).

Element types are those of LiteRT's kernels, and results equal LiteRT's: floats to 1e-5 of the
largest number, integers exactly, quantized numbers to one quantum. *Quantized*: how an operator
computes where its numbers are quantized: *in integers*, as LiteRT does; *as they are*, moved; *in
floats*, between dequantizing and quantizing. *Runs*: compiled to machine code, or as a host step
(numpy, between compiled steps). *Compiled, or a host step*: the operator needs the contents of an
input, such as a shape, which may be constant, follow from shapes alone, or be known at run time
only; or a part of it is never compiled. Any operator runs on the host when a shape in front of it
depends on data.
"""
_GRAPHS = dict.fromkeys(("cond", "loop", "item"), "graphs")  # what passes.autodiff knows itself
DOMAINS = {
    "": "ai.onnx, the default domain",
    "ai.onnx.ml": "ai.onnx.ml: classical machine learning",
    "com.microsoft": "com.microsoft: what onnxruntime's optimiser and quantizer write",
}


def onnx_page() -> str:
    """A table of ONNX operators for each domain, and those that are missing."""
    operators = onnx_operators()
    there = [operator for operator in operators if operator.runs]
    parts = [ONNX_HEAD.format(count=len(there), standard=STANDARD)]
    for domain in dict.fromkeys(operator.domain for operator in there):
        parts.append(f"\n## {DOMAINS.get(domain, domain)}\n")
        parts.append("\n| operator | operator sets | element types | runs |\n|---|---|---|---|\n")
        parts += [_onnx_row(operator) for operator in there if operator.domain == domain]
    parts.append("\n## Not supported\n\n")
    missing = [operator for operator in operators if not operator.runs]
    for reason in dict.fromkeys(operator.missing for operator in missing):
        names = [f"`{operator.full_name}`" for operator in missing if operator.missing == reason]
        parts.append(f"- {', '.join(names)}\n  ({reason})\n")
    return "".join(parts)


def _onnx_row(operator: Operator) -> str:
    sets, types = ", ".join(map(str, operator.sets)), ", ".join(short_types(operator.types))
    return f"| `{operator.name}` | {sets} | {types} | {operator.runs} |\n"


def tflite_page() -> str:
    """A table of TFLite's builtin operators, one of custom ones, and those that are missing."""
    operators = tflite_operators()
    there = [operator for operator in operators if operator.runs]
    parts = [TFLITE_HEAD.format(count=len(there), schema=SCHEMA)]
    for title, custom in (("Builtin operators", False), ("Custom operators", True)):
        parts.append(f"\n## {title}\n\n| operator | quantized | runs |\n|---|---|---|\n")
        parts += [
            f"| `{operator.name}` | {operator.quantized} | {operator.runs} |\n"
            for operator in there
            if operator.custom == custom
        ]
    missing = [operator for operator in operators if not operator.runs]
    parts.append("\n## Not supported\n\n")
    for reason in dict.fromkeys(operator.missing for operator in missing):
        names = [f"`{operator.name}`" for operator in missing if operator.missing == reason]
        parts.append(f"- {', '.join(names)}\n  ({reason})\n")
    return "".join(parts)


def _is_installed(package: str, release: str) -> bool:
    """Whether the release of a package that a page is about is installed."""
    try:
        return version(package).startswith(f"{release}.")
    except PackageNotFoundError:
        return False


def settings_table() -> str:
    """A row for every setting."""
    rows = [f"| `{s.env}` | {s.doc} | {s.default!r} |\n" for s in SETTINGS.values()]
    return SETTINGS_HEAD + "".join(rows)


def steps_table() -> str:
    """A row for every kind of step in a recipe of compression."""
    rows = []
    for kind, step in STEPS.items():
        hints = get_type_hints(step, include_extras=True)
        keys = []
        for field in fields(step):
            default = "" if field.default is None else f" = {toml_value(field.default)}"
            keys.append(f"`{field.name}{default}`: {_cell(allowed(hints[field.name]))}")
        doc = _cell(_sentence(step.__doc__ or ""))
        rows.append(f"| `{kind}` | {doc} | {'<br>'.join(keys)} |\n")
    return STEPS_HEAD + "".join(rows)


def with_table(page: str, head: str, table: str) -> str:
    """The page with the table that begins with `head` replaced by the current one."""
    before, _, after = page.partition(head)
    rows = after.split("\n")
    rest = next(i for i, line in enumerate(rows) if not line.startswith("|"))
    return before + table + "\n".join(rows[rest:])


def ops_page() -> str:
    """A table of operators for each file of `brim.ops`."""
    parts = [OPS_HEAD.format(count=len(OPS))]
    for name, doc, declared in _files():
        parts.append(f"\n## {name}\n\n{_sentence(doc)}\n")
        parts.append("\n| operator | kind | what it computes | gradient |\n|---|---|---|---|\n")
        parts += map(_row, declared)
    return "".join(parts)


def _files() -> Iterator[tuple[str, str, list[Op]]]:
    """(file name, its docstring, its operators) of every file that has some."""
    for module in iter_modules(brim.ops.__path__):
        source = import_module(f"brim.ops.{module.name}")
        declared = [
            OPS[name]
            for name, function in vars(source).items()
            if name in OPS and getattr(function, "__module__", "") == source.__name__
        ]
        if declared:
            yield f"{module.name}.py", source.__doc__ or "", declared


def _row(op: Op) -> str:
    signature = own(op.name).signature
    gradient = "own" if op.grad else "body" if op.body else ""
    gradient = "zero" if op.grad is flat else _GRAPHS.get(op.name, gradient)
    others = ", ".join(f"`{variant.name}`" for _, variant in VARIANTS.get(op.name, []))
    doc = _sentence(op.doc) + (f" Variants: {others}." if others else "")
    return f"| `{signature}` | {op.kind} | {_cell(doc)} | {gradient} |\n"


def _sentence(doc: str) -> str:
    """The first paragraph, in one line."""
    return " ".join(doc.strip().split("\n\n")[0].split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def pages() -> dict[Path, str]:
    """What the generated files should hold."""
    found = {DOCS / "ops.md": ops_page()}
    for name, head, table in (
        ("install.md", SETTINGS_HEAD, settings_table()),
        ("compression.md", STEPS_HEAD, steps_table()),
    ):
        found[DOCS / name] = with_table((DOCS / name).read_text(encoding="utf-8"), head, table)
    if _is_installed("onnx", STANDARD):
        found[DOCS / "onnx.md"] = onnx_page()
    if _is_installed("tflite", SCHEMA):
        found[DOCS / "tflite.md"] = tflite_page()
    return found


def main(arguments: list[str]) -> int:
    stale = {
        path: text
        for path, text in pages().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    }
    for path, text in stale.items():
        print(f"{path.name} {'is out of date' if arguments else 'written'}")
        if not arguments:
            draft = path.with_suffix(".tmp")
            draft.write_text(text, encoding="utf-8")
            os.replace(draft, path)
    return 1 if stale and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
