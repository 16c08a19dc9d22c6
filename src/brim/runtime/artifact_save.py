"""Writes compiled programs as one `.brim` artifact: members, manifest, digests, seal.

What goes in is decided here and documented in `docs/artifact.md`; `artifact.py` reads it. Compiling
and running are not here: the sample results that go into `check/` are handed in.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from brim.errors import UnsupportedError
from brim.files import written
from brim.graph import Graph, const, visible
from brim.ops.storage import STEPS
from brim.origins import LEAST, identity
from brim.runtime.artifact import FORMAT
from brim.runtime.artifact_text import (
    EXTRA,
    ConstantWriter,
    Contents,
    host_graph,
    write_packing,
)
from brim.runtime.compiled import Compiled, Derived, Stored
from brim.runtime.container import container_parts, write_container
from brim.runtime.cpu import write_target
from brim.runtime.derived import derived_graph, may_be_left_out, without
from brim.runtime.npy import write_npy
from brim.runtime.plan import HostCall
from brim.runtime.planfile import write_plan
from brim.runtime.trust import code_digest, seal
from brim.targets.target import Target
from brim.text import print_graph
from brim.types import Type

RELATIVE = {  # how far outputs may be from the sample's
    "f16": 2e-3, "f32": 1e-4, "f64": 1e-4,
    **{dtype.name: step for dtype, step in STEPS.items()},
}  # fmt: skip

NONE: Mapping[str, Any] = MappingProxyType({})
MAPPED = ("weights.bin", EXTRA)  # read where they lie in the file; all else is small when deflated


@dataclass(frozen=True)
class Card:
    """What a model is called and takes; outputs without a known type have None."""

    name: str
    inputs: Mapping[str, Type]
    outputs: Mapping[str, Type | None]
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """Inputs of a program and the outputs that belong to them; or why there are none."""

    inputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    outputs: Mapping[str, np.ndarray] = field(default_factory=dict)
    missing: str = ""


@dataclass(frozen=True)
class Function:
    """What can be called: compiled for one or more shapes. samples: one for each program."""

    card: Card
    programs: Sequence[Compiled]
    samples: Sequence[Sample] = ()


def save(
    model: Function, path: str | os.PathLike[str], functions: Mapping[str, Function] = NONE
) -> None:
    """Writes an artifact; the file appears whole or not at all. functions: what else it holds, by
    name.

    Of weights that follow from constants it holds these only (see `derived.py`). Raises
    UnsupportedError for what cannot be saved and InputError where the file cannot be written.
    """
    members = artifact_members(model, functions, small=True)
    with written(Path(path)) as temporary, temporary.open("xb") as file:
        write_container(file, members, deflated=lambda name: not name.endswith(MAPPED))


def artifact_parts(model: Function) -> list[bytes | memoryview]:
    """An artifact, piece by piece; all weights are in it, to be mapped."""
    return container_parts(artifact_members(model))


def artifact_members(
    model: Function, functions: Mapping[str, Function] = NONE, small: bool = False
) -> list[tuple[str, bytes | memoryview]]:
    """Name and content of every member, the manifest first.

    small: weights that follow from constants are left out, and equal constants stored once.
    """
    all_ = {"": model, **functions}
    if not all(function.programs for function in all_.values()):
        raise UnsupportedError(
            "nothing is compiled yet, so there is nothing to save",
            hint="call the model, or model.compile(shapes), first",
        )
    writer = _Writer(small)
    programs = [
        (name, compiled, sample)
        for name, function in all_.items()
        for compiled, sample in zip_longest(function.programs, function.samples)
    ]
    for number, (_, compiled, _) in enumerate(programs):
        writer.place(f"program{number}", compiled)
    writer.constants = ConstantWriter.over(writer.stored, writer.key)
    records = [
        {"function": name, **writer.program(f"program{number}", compiled, sample)}
        for number, (name, compiled, sample) in enumerate(programs)
    ]
    if writer.constants.extra_bytes:
        writer.add(EXTRA, writer.constants.extra())
    digests = {
        name: writer.digests.get(name) or hashlib.sha256(data).hexdigest()
        for name, data in writer.members.items()
    }
    members = {name: [len(data), digests[name]] for name, data in writer.members.items()}
    code = code_digest(records, digests)
    manifest = {
        "format": FORMAT,
        "brim": _version(),
        "name": model.card.name,
        **_signature(model.card),
        "functions": {name: _signature(function.card) for name, function in functions.items()},
        "metadata": dict(model.card.metadata),
        "programs": records,
        "members": members,
        "code": code,
        "seal": seal(code),
    }
    return [("manifest.json", _json(manifest)), *writer.members.items()]


def _signature(card: Card) -> dict[str, Any]:
    return {
        "inputs": {name: str(type) for name, type in card.inputs.items()},
        "outputs": {name: type and str(type) for name, type in card.outputs.items()},
    }


def _json(found: Any) -> bytes:
    try:
        text = json.dumps(found, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UnsupportedError("the model's description cannot be saved", str(error)) from None
    return text.encode()


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("brim")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"


class _Writer:
    """Members so far; weights come first, since texts refer to what lies in them."""

    def __init__(self, small: bool) -> None:
        self._small = small
        self.key = Contents().key if small else identity
        self.members: dict[str, bytes | memoryview] = {}
        self.stored: list[tuple[str, tuple[Stored, ...]]] = []
        self.constants = ConstantWriter({}, self.key)
        self.digests: dict[str, str] = {}  # SHA-256 of the members that hold weights
        self._weights: dict[int, tuple[str, tuple[Derived, ...]]] = {}  # by id(Compiled)

    def add(self, name: str, data: bytes | memoryview) -> str:
        self.members[name] = data
        return name

    def place(self, folder: str, compiled: Compiled) -> None:
        """The weights of a program and its sub-programs; equal ones are stored once."""
        lean = compiled
        data, stored = self._kept(lean)
        member = self._member(data)
        if not member and self._small and self.stored:
            lean = self._without_repeated(compiled)
            data, stored = self._kept(lean)
            member = self._member(data)
        if not member:
            member = self.add(f"{folder}/weights.bin", data)
            self.digests[member] = hashlib.sha256(data).hexdigest()
        self._weights[id(compiled)] = member, lean.derived
        self.stored.append((member, stored))
        for number, (_, _, sub) in enumerate(_subprograms(compiled)):
            self.place(f"{folder}/sub{number}", sub)

    def _kept(self, compiled: Compiled) -> tuple[memoryview, tuple[Stored, ...]]:
        """What is stored of the weights, and where the constants lie in it."""
        found, stored = compiled.weights, compiled.stored
        if self._small and may_be_left_out(compiled):
            found, stored = without(compiled)
        return np.ascontiguousarray(found).data.cast("B"), stored

    def _member(self, data: memoryview) -> str:
        digest = hashlib.sha256(data).hexdigest()
        return next((name for name, other in self.digests.items() if other == digest), "")

    def _without_repeated(self, compiled: Compiled) -> Compiled:
        """Large constants that other weights hold follow from these."""
        there = {self.key(item.data) for _, items in self.stored for item in items}
        own: list[Stored] = []
        repeated: list[Stored] = []
        for item in compiled.stored:
            known = item.data.nbytes >= LEAST and self.key(item.data) in there
            (repeated if known else own).append(item)
        more = (Derived(const(item.data), item.offset, item.packing) for item in repeated)
        derived = sorted((*compiled.derived, *more), key=lambda part: part.offset)
        return replace(compiled, stored=tuple(own), derived=tuple(derived))

    def program(self, folder: str, compiled: Compiled, sample: Sample | None) -> dict[str, Any]:
        text, data = print_graph(compiled.graph)
        target, inputs = compiled.target, visible(compiled.plan.inputs, compiled.state)
        return {
            "shapes": {n: list(t.dims) for n, (t, _) in inputs.items()},
            "target": write_target(target),
            "plan": self.body(folder, compiled),
            "pool": self.pool(target),
            "graph": self.add(f"{folder}/graph.txt", text.encode()),
            "constants": self.add(f"{folder}/constants.json", _json(self.constants.table(data))),
            "state": self.constants.table(compiled.state),
            "seconds": compiled.seconds,
            "check": self.check(f"{folder}/check", sample or Sample(missing="none was given")),
        }

    def body(self, folder: str, compiled: Compiled) -> str:
        """The plan and the code of a program or sub-program."""
        hosts = [s.value for s in compiled.plan.steps if isinstance(s, HostCall)]
        text, data = print_graph(host_graph(hosts))
        where = f"{folder}/code/{compiled.target.architecture}"
        objects = b"".join(compiled.objects)
        weights, derived = self._weights[id(compiled)]
        record = {
            **write_plan(compiled.plan, compiled.kernels, hosts),
            "weights": weights,
            "weight_bytes": compiled.weight_bytes,
            "derived": self.derived(folder, derived),
            "objects": self.add(f"{where}/objects.bin", objects) if objects else None,
            "object_bytes": [len(o) for o in compiled.objects],
            "host": self.add(f"{folder}/host.txt", text.encode()) if hosts else None,
            "constants": self.constants.table(data),
            "why": self.add(f"{folder}/why.json", _json(_why(compiled))),
            "bodies": [
                [host, name, self.body(f"{folder}/sub{number}", sub)]
                for number, (host, name, sub) in enumerate(_subprograms(compiled))
            ],
        }
        return self.add(f"{folder}/plan.json", _json(record))

    def derived(self, folder: str, parts: Sequence[Derived]) -> dict[str, Any] | None:
        """Which parts of the weights follow from constants, and how."""
        if not parts:
            return None
        graph, names = derived_graph(parts)
        text, data = print_graph(graph)
        return {
            "graph": self.add(f"{folder}/derived.txt", text.encode()),
            "constants": self.constants.table(data),
            "parts": [
                [name, part.offset, write_packing(part.packing)] for name, part in zip(names, parts)
            ],
        }

    def pool(self, target: Target) -> str | None:
        """The thread pool's object, once for each triple; None where there are no threads."""
        from brim.runtime.pool_source import pool_object

        if target.architecture not in ("x86_64", "aarch64"):
            return None
        name = f"code/{target.triple}/pool.o"
        return name if name in self.members else self.add(name, pool_object(target.triple))

    def check(self, folder: str, sample: Sample) -> dict[str, Any]:
        if sample.missing:
            return {"missing": sample.missing}

        def files(kind: str, arrays: Mapping[str, np.ndarray]) -> list[list[Any]]:
            return [
                [name, self.add(f"{folder}/{kind}{i}.npy", write_npy(np.asarray(array)))]
                for i, (name, array) in enumerate(arrays.items())
            ]

        return {
            "inputs": files("input", sample.inputs),
            "outputs": files("output", sample.outputs),
            "relative": RELATIVE,
        }


def _subprograms(compiled: Compiled) -> list[tuple[int, str, Compiled]]:
    """(number of the host step, attribute, sub-program) of a program's `cond`s and `loop`s."""
    hosts = [s.value for s in compiled.plan.steps if isinstance(s, HostCall)]
    return [
        (number, name, compiled.subgraphs[id(attr)])
        for number, value in enumerate(hosts)
        for name, attr in value.attrs.items()
        if isinstance(attr, Graph) and id(attr) in compiled.subgraphs
    ]


def _why(compiled: Compiled) -> dict[str, Any]:
    """The decisions: the kernels' texts once each, then a row for every call."""
    texts = {row.object: row.kernel for row in compiled.rows}
    return {
        "kernels": [texts[number] for number in range(len(texts))],
        "rows": [
            [r.where, list(r.ops), r.object, r.schedule, r.predicted_seconds, r.flops, r.is_move]
            for r in compiled.rows
        ],
        "sources": [list(r.sources) for r in compiled.rows],
    }
