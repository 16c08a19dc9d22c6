"""Opens `.brim` artifacts: mapped, checked before use, and runnable without LLVM.

A file is read by a strict reader, every member's digest is verified before the member is used,
every number of a plan is checked against the sizes it refers to, and native code runs only when
this machine made it or the caller vouches for it. Opening a damaged file raises a typed error.
Writing is in `artifact_save.py`; compiling from the graph that an artifact also holds is up to the
caller.
"""

from __future__ import annotations

import hashlib
import mmap
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from brim.errors import BrimError, InputError, ModelError, TrustError, UnsupportedError
from brim.graph import Graph, visible
from brim.runtime import artifact_text as texts
from brim.runtime.compiled import Compiled, Derived, Row
from brim.runtime.container import read_container
from brim.runtime.cpu import read_target, why_not_here
from brim.runtime.derived import GROWTH, SMALL, Weights
from brim.runtime.npy import read_npy
from brim.runtime.plan import HostCall, Plan
from brim.runtime.planfile import KernelShape, read_plan
from brim.runtime.program import Program
from brim.runtime.record import (
    Record,
    as_integer,
    as_list,
    as_real,
    as_text,
    as_type,
    parse_json,
)
from brim.runtime.trust import code_digest, require_trust
from brim.seeds import one_run
from brim.types import Type, as_numbers, type_of

FORMAT = 5


def _with_states(manifest: dict[str, Any]) -> dict[str, Any]:
    """Of format 3: programs remembered nothing before."""
    programs = manifest.get("programs")
    if not isinstance(programs, list):  # damaged, as whoever reads it next will say
        return manifest
    stateless = [{**p, "state": {}} if isinstance(p, dict) else p for p in programs]
    return {**manifest, "programs": stateless}


def _with_functions(manifest: dict[str, Any]) -> dict[str, Any]:
    """Of format 4: there was one function."""
    return {**manifest, "functions": {}}


# Format version -> what makes the next version's manifest of one of that version. A new version of
# the format adds a row here and keeps the old ones, so that files of any age can be opened.
MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {
    1: lambda manifest: manifest,  # plans had no loops
    2: _with_states,
    3: lambda manifest: manifest,  # no member was deflated
    # weights held all that follows from constants; state had two slots, and nothing to commit
    4: _with_functions,
}
DEPTH = 16  # of sub-programs
Trust = bool | str | None


def open_artifact(source: str | os.PathLike[str] | bytes | memoryview) -> Artifact:
    """Opens a file (mapped, not read) or its bytes. Raises ModelError for anything damaged.

    Nothing is executed and nothing is unpacked; digests are verified member by member before use.
    """
    if isinstance(source, (bytes, memoryview)):
        return Artifact(memoryview(source), "artifact")
    path = Path(source)
    try:
        with path.open("rb") as file:
            content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}", str(error)) from None
    return Artifact(content, path.name)


class Artifact:
    """An open artifact. name, metadata, brim (the version that saved it) are as saved.

    inputs: name -> Type, with symbolic dimensions; outputs: name -> Type or None where not known.
    signatures: the same of each function; that of the model itself is "".
    code_digest: SHA-256 of the native code, its plans, weights and targets: what `trust` may pin.
    intact: whoever hands over the content has verified all of it.
    """

    def __init__(self, content: memoryview, where: str, intact: bool = False) -> None:
        self.where, self.size = where, len(content)
        self._members = read_container(content, where)
        first = self._members.get("manifest.json")
        if first is None or not (intact or first.is_intact):
            self._damaged("its manifest is missing or damaged")
        manifest = _migrated(parse_json(first.read(), f"{where}: manifest"))
        self._digests = self._read_digests(manifest)
        self._verified = set(self._members) if intact else {"manifest.json"}
        self.name, self.brim = manifest.text("name"), manifest.text("brim")
        self.metadata = manifest.record("metadata").texts()
        others = manifest.record("functions")
        self.signatures = {"": _signature(manifest)} | {
            name: _signature(others.record(name)) for name, _ in others.items()
        }
        self.inputs, self.outputs = self.signatures[""]
        records = manifest.records("programs")
        self.code_digest = manifest.text("code")
        if self.code_digest != code_digest([r.fields for r in records], self._digests):
            self._damaged("the digest of its code does not fit its code")
        self._seal = manifest.text("seal")
        self.programs = tuple(StoredProgram(self, record) for record in records)
        self._constants = texts.ConstantReader(self.read, GROWTH * self.size, {})

    def __repr__(self) -> str:
        shapes = "; ".join(str(dict(p.shapes)) for p in self.programs)
        return f"<brim.Artifact {self.name}, for {shapes}>"

    def _damaged(self, why: str) -> NoReturn:
        raise ModelError("not an intact .brim file", why, self.where, "save the model again")

    def _read_digests(self, manifest: Record) -> dict[str, str]:
        members = manifest.record("members")
        if {*members.fields, "manifest.json"} != set(self._members):
            self._damaged("its members are not those that the manifest lists")
        digests = {}
        for name, item in members.items():
            size, digest = as_list(item, f"{members.where}.{name}", 2)
            if size != self._members[name].size:
                self._damaged(f"{name} has {self._members[name].size} bytes, not {size}")
            digests[name] = as_text(digest, members.where)
        return digests

    def read(self, name: str) -> memoryview:
        """The bytes of a member, verified. Raises ModelError."""
        member = self._members.get(name)
        if member is None or name == "manifest.json":
            self._damaged(f"there is no member {name[:80]!r}")
        try:
            data = member.read()
        except ValueError as error:
            self._damaged(f"{name} is damaged: {error}")
        if name not in self._verified:
            if hashlib.sha256(data).hexdigest() != self._digests[name]:
                self._damaged(f"the content of {name} does not fit its digest")
            self._verified.add(name)
        return data

    def verify(self) -> None:
        """Reads and checks everything: all digests, plans, graphs, rows, samples."""
        for name in self._digests:
            self.read(name)
        for program in self.programs:
            _ = program.body, program.graph, program.state, program.rows, program.sample
            program.body.verify()

    @property
    def digest(self) -> str:
        """SHA-256 of the manifest, and so of all that it lists."""
        return hashlib.sha256(self._members["manifest.json"].read()).hexdigest()

    def programs_of(self, function: str) -> list[StoredProgram]:
        """The programs of a function, one for each of its shapes."""
        return [program for program in self.programs if program.function == function]

    def find(self, shapes: Mapping[str, Sequence[int]], function: str = "") -> StoredProgram | None:
        """The program of a function for these shapes of the inputs, if it is in the artifact."""
        wanted = {name: tuple(shape) for name, shape in shapes.items()}
        return next((p for p in self.programs_of(function) if p.shapes == wanted), None)

    def why_not(self, program: StoredProgram, trust: Trust = None) -> str:
        """Why the native code of a program may not or cannot run here; '' if it may.

        trust: True to vouch for the code, or its `code_digest` as known from elsewhere. Raises
        TrustError if that is another digest.
        """
        distrust = require_trust(self.code_digest, self._seal, trust)
        return distrust or why_not_here(program.target.triple, program.requires)

    def load(self, program: StoredProgram, trust: Trust = None, threads: int = 1) -> Program:
        """A runnable program. Raises TrustError if its code may not run here."""
        if reason := self.why_not(program, trust):
            raise TrustError(
                "the artifact's native code was not run",
                reason,
                self.where,
                f"pass trust=True if you trust its source, or trust={self.code_digest!r} to accept "
                "exactly this code, or install llvmlite to compile from its graph",
            )
        return program.load(threads)

    def self_test(
        self,
        run: Callable[[dict[str, np.ndarray]], Mapping[str, Any]] | None = None,
        trust: Trust = None,
    ) -> dict[str, float]:
        """Runs every program on its sample: output -> largest difference relative to the largest
        element. run: what to test instead of the native code. Raises BrimError if one is too large.
        """
        found: dict[str, float] = {}
        for program in self.programs:
            sample = program.sample
            if isinstance(sample, str):
                raise InputError(
                    "the artifact holds no sample to test with",
                    sample,
                    self.where,
                    "save the model with samples=[{name: array}] of its inputs",
                )
            execute = run or self.load(program, trust).run
            with one_run(seed=0):
                results = execute(sample.inputs)
            for name, want in sample.outputs.items():
                apart = difference(results[name], want)
                allowed = sample.relative.get(program.body.plan.outputs[name][0].dtype.name, 0.0)
                if not apart <= allowed:
                    raise BrimError(
                        f"the self-test failed: output {name!r} differs by {apart:.1e}",
                        f"{allowed:.0e} is allowed",
                        self.where,
                        "do not use this artifact on this machine; please report it",
                    )
                found[name] = max(apart, found.get(name, 0.0))
        return found


def difference(got: np.ndarray, want: np.ndarray) -> float:
    """Largest difference over the largest element of `want`; infinite where they cannot agree."""
    got, want = as_numbers(np.asarray(got)), as_numbers(np.asarray(want))
    if got.shape != want.shape or not want.size:
        return 0.0 if got.shape == want.shape else float("inf")
    if want.dtype.kind != "f":
        return 0.0 if np.array_equal(got, want) else float("inf")
    with np.errstate(all="ignore"):
        same = (got == want) | (np.isnan(got) & np.isnan(want))
        apart = np.where(same, 0, np.abs(got.astype(np.float64) - want.astype(np.float64)))
        largest = np.max(np.abs(want), where=np.isfinite(want), initial=0.0)
        worst = float(np.max(apart))
        return worst / max(float(largest), 1e-30) if worst == worst else float("inf")


@dataclass(frozen=True, eq=False)
class StoredSample:
    """What `check/` holds, and the state's first content; relative: dtype -> how far an output may
    be off."""

    inputs: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    relative: dict[str, float]


@dataclass(frozen=True, eq=False)
class Body:
    """One plan with its code and weights. why: the member with its rows. subs: id(sub-graph of a
    host step) -> its body.
    """

    plan: Plan
    kernels: tuple[KernelShape, ...]
    weights: Weights
    weights_member: str
    objects: tuple[bytes, ...]
    why: str
    subs: dict[int, Body] = field(default_factory=dict)

    def verify(self) -> None:
        """Checks what is read only when it is needed. Raises ModelError."""
        _ = self.weights.parts
        for sub in self.subs.values():
            sub.verify()


class StoredProgram:
    """One program of an artifact, for fixed shapes; its parts are read when they are asked for."""

    def __init__(self, artifact: Artifact, record: Record) -> None:
        self._artifact, self._record = artifact, record
        self.shapes = {
            name: tuple(as_integer(n, record.where) for n in as_list(dims, record.where))
            for name, dims in record.record("shapes").items()
        }
        self.function = as_text(record.fields.get("function", ""), record.where)
        self.target, self.requires = read_target(record.record("target"))
        self.seconds = record.real("seconds")

    @cached_property
    def body(self) -> Body:
        """Plan, weights and code, all numbers checked."""
        found = _read_body(self._artifact, self._record.text("plan"), 0)
        plan, state = found.plan, self._record.record("state").fields
        if self.shapes != {n: t.dims for n, (t, _) in visible(plan.inputs, state).items()}:
            self._artifact._damaged("a program is listed under other shapes than its own")
        return found

    @property
    def plan(self) -> Plan:
        """What is called in which order, and where everything lies."""
        return self.body.plan

    @property
    def weights(self) -> np.ndarray:
        """All constants, u8[bytes], as the kernels read them."""
        return self.body.weights.block

    @property
    def weight_bytes(self) -> int:
        """Bytes of the constants in memory."""
        return self.body.weights.size

    @cached_property
    def state(self) -> Mapping[str, np.ndarray]:
        """What is remembered from run to run, and its first content."""
        found = self._artifact._constants.read(self._record.record("state"))
        for name, array in found.items():
            for ports in (self.plan.inputs, self.plan.outputs):
                if name not in ports or ports[name][0] != type_of(array):
                    self._artifact._damaged(f"the state {name!r} does not fit its program")
        return found

    @cached_property
    def graph(self) -> Graph:
        """The optimised graph from which the program was compiled."""
        artifact, record = self._artifact, self._record
        name = record.text("constants")
        table = parse_json(artifact.read(name), f"{artifact.where}: {name}")
        data = artifact._constants.read(table)
        name = record.text("graph")
        graph = texts.parse(artifact.read(name), data, f"{artifact.where}: {name}")
        if {n: v.type for n, v in graph.inputs.items()} != {
            n: t for n, (t, _) in self.plan.inputs.items()
        } or list(graph.outputs) != list(self.plan.outputs):
            artifact._damaged("a program's graph and plan have other inputs or outputs")
        if graph.state.keys() != self.state.keys():
            artifact._damaged("a program's graph remembers other things than it")
        return graph

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The decisions: one row for each kernel call."""
        return _read_rows(self._artifact, self.body.why)

    @cached_property
    def inner_rows(self) -> tuple[Row, ...]:
        """Those of all sub-graphs, whose steps run on the host."""
        inner = list(self.body.subs.values())
        for body in inner:
            inner.extend(body.subs.values())
        return tuple(row for body in inner for row in _read_rows(self._artifact, body.why))

    @cached_property
    def sample(self) -> StoredSample | str:
        """The sample to test with, or why there is none."""
        check = self._record.record("check")
        if "missing" in check:
            return check.text("missing")
        relative = {n: as_real(v, check.where) for n, v in check.record("relative").items()}
        plan, state = self.plan, self.state
        inputs = self._arrays(check, "inputs", plan.inputs)
        outputs = self._arrays(check, "outputs", plan.outputs)
        if visible(inputs, state).keys() != visible(plan.inputs, state).keys() or not (
            visible(plan.outputs, state).keys() <= outputs.keys() <= plan.outputs.keys()
        ):
            self._artifact._damaged("its sample has other inputs or outputs than its program")
        return StoredSample({**state, **inputs}, outputs, relative)

    def _arrays(
        self, check: Record, key: str, ports: Mapping[str, tuple[Type, Any]]
    ) -> dict[str, np.ndarray]:
        found = {}
        for item in check.list(key):
            name, member = (as_text(part, check.where) for part in as_list(item, check.where, 2))
            where = f"{self._artifact.where}: {member}"
            array = read_npy(self._artifact.read(member), where)
            dtype = ports[name][0].dtype if name in ports else None
            stored = dtype is not None and dtype.kind == "n" and dtype.carrier.numpy == array.dtype
            found[name] = array.view(dtype.numpy) if stored else array  # type: ignore[union-attr]
        return found

    def load(self, threads: int = 1) -> Program:
        """A runnable program, whoever made its code: `Artifact.load` judges that."""
        name = self._record.get("pool")
        pool = None if name is None else as_text(name, self._record.where)
        if threads > 1 and pool is None:
            raise UnsupportedError(f"there are no threads on {self.target.triple}")
        return _load(self.body, threads, lambda: bytes(self._artifact.read(str(pool))))

    def compiled(self) -> Compiled:
        """Everything as the compiler gave it, to be saved again."""
        return _compiled(self.body, self.graph, self)


# ------------------------------------------------------------------ reading parts


def _signature(record: Record) -> tuple[dict[str, Type], dict[str, Type | None]]:
    """Inputs and outputs of a function."""
    inputs, outputs, where = record.record("inputs"), record.record("outputs"), record.where
    return {n: as_type(t, where, static=False) for n, t in inputs.items()}, {
        n: None if t is None else as_type(t, where, static=False) for n, t in outputs.items()
    }


def _migrated(manifest: Record) -> Record:
    """The manifest in the present version of the format."""
    version = manifest.integer("format", 0, 1 << 30)
    if version > FORMAT:
        raise UnsupportedError(
            f"the artifact has format {version}, this brim reads up to {FORMAT}",
            "it was saved by a newer version of brim",
            manifest.where,
            "upgrade brim, or convert the model's source with this version",
        )
    fields_ = manifest.fields
    while version < FORMAT:
        if version not in MIGRATIONS:
            raise UnsupportedError(
                f"artifacts of format {version} cannot be read", where=manifest.where
            )
        fields_ = MIGRATIONS[version](fields_)
        version += 1
    return Record(fields_, manifest.where)


def _read_rows(artifact: Artifact, name: str) -> tuple[Row, ...]:
    where = f"{artifact.where}: {name}"
    record = parse_json(artifact.read(name), where)
    kernels = [as_text(k, where) for k in record.list("kernels")]
    rows = record.list("rows")
    # files from before rows had sources: all that they say is what a kernel is named after
    given = (
        record.list("sources", len(rows))
        if "sources" in record
        else [as_list(row, where, 7)[:1] for row in rows]
    )
    return tuple(_row(item, kernels, named, where) for item, named in zip(rows, given))


def _row(item: Any, kernels: list[str], sources: Any, where: str) -> Row:
    place, ops, number, schedule, seconds, flops, is_move = as_list(item, where, 7)
    number = as_integer(number, where, 0, len(kernels) - 1)
    return Row(
        as_text(place, where),
        tuple(as_text(op, where) for op in as_list(ops, where)),
        kernels[number],
        as_text(schedule, where),
        as_real(seconds, where),
        as_integer(flops, where),
        is_move is True,
        number,
        tuple(as_text(source, where) for source in as_list(sources, where)),
    )


def _read_body(artifact: Artifact, name: str, depth: int) -> Body:
    if depth > DEPTH:
        artifact._damaged(f"sub-programs nest deeper than {DEPTH}")
    record = parse_json(artifact.read(name), f"{artifact.where}: {name}")
    weights_member = record.text("weights")
    weights = _read_weights(artifact, record, weights_member)
    host = record.get("host")
    values = []
    if host is not None:
        data = artifact._constants.read(record.record("constants"))
        where = f"{artifact.where}: {host}"
        values = texts.host_values(texts.parse(artifact.read(str(host)), data, where), where)
    plan, kernels = read_plan(record, weights.size, values)
    subs = {}
    for item in record.list("bodies"):
        number, attribute, member = as_list(item, record.where, 3)
        number = as_integer(number, record.where, 0, len(values) - 1)
        graph = values[number].attrs.get(as_text(attribute, record.where))
        folder = name.removesuffix("plan.json")
        inside = as_text(member, record.where).startswith(f"{folder}sub")
        if not isinstance(graph, Graph) or not inside:
            artifact._damaged(f"{name} names a sub-program that is none")
        subs[id(graph)] = _check_sub(artifact, graph, _read_body(artifact, member, depth + 1))
    objects = _objects(artifact, record, plan, kernels)
    return Body(plan, kernels, weights, weights_member, objects, record.text("why"), subs)


def _check_sub(artifact: Artifact, graph: Graph, body: Body) -> Body:
    """A sub-program must take and give what its graph does, in the same order."""
    plan = body.plan
    same = [(n, v.type) for n, v in graph.inputs.items()] == [
        (n, t) for n, (t, _) in plan.inputs.items()
    ] and [(n, v.type) for n, v in graph.outputs.items()] == [
        (n, t) for n, (t, _) in plan.outputs.items()
    ]
    return body if same else artifact._damaged("a sub-program does not fit its graph")


def _objects(
    artifact: Artifact, record: Record, plan: Plan, kernels: tuple[KernelShape, ...]
) -> tuple[bytes, ...]:
    sizes = [as_integer(n, record.where) for n in record.list("object_bytes")]
    native = any(not isinstance(step, HostCall) for step in plan.steps)
    if len(sizes) != (1 + len(kernels) if native else 0):
        artifact._damaged(f"{len(sizes)} objects for {len(kernels)} kernels")
    if not native:
        return ()
    data = artifact.read(record.text("objects"))
    if sum(sizes) != len(data):
        artifact._damaged("the objects do not fill their member")
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    return tuple(bytes(data[end - size : end]) for size, end in zip(sizes, ends))


def _read_weights(artifact: Artifact, record: Record, member: str) -> Weights:
    stored = np.frombuffer(artifact.read(member), np.uint8)
    size, derived = record.integer("weight_bytes"), record.fields.get("derived")
    if derived is None and size != stored.size:
        artifact._damaged(f"{record.where} expects other weights than there are")
    if size > max(GROWTH * artifact.size, SMALL):
        artifact._damaged(f"{record.where} expects more weights than may follow from the file")

    def parts() -> tuple[Derived, ...]:
        return () if derived is None else _read_parts(artifact, record.record("derived"))

    return Weights(stored, size, parts, record.where)


def _read_parts(artifact: Artifact, record: Record) -> tuple[Derived, ...]:
    data = artifact._constants.read(record.record("constants"))
    name = record.text("graph")
    graph = texts.parse(artifact.read(name), data, f"{artifact.where}: {name}")
    parts = []
    for item in record.list("parts"):
        output, offset, packing = as_list(item, record.where, 3)
        value = graph.outputs.get(as_text(output, record.where))
        if value is None or graph.inputs:
            artifact._damaged(f"{name} does not tell what follows from constants")
        offset = as_integer(offset, record.where)
        parts.append(Derived(value, offset, texts.read_packing(packing, record.where)))
    return tuple(parts)


def _load(body: Body, threads: int, pool: Callable[[], bytes]) -> Program:
    subprograms = {key: _load(sub, threads, pool) for key, sub in body.subs.items()}
    return Program(body.plan, body.weights.block, body.objects, threads, pool, subprograms)


def _compiled(body: Body, graph: Graph, program: StoredProgram) -> Compiled:
    subs = {}
    for step in body.plan.steps:
        for attr in step.value.attrs.values() if isinstance(step, HostCall) else ():
            if isinstance(attr, Graph) and id(attr) in body.subs:
                subs[id(attr)] = _compiled(body.subs[id(attr)], attr, program)
    artifact = program._artifact
    weights = body.weights
    found = artifact._constants.stored(body.weights_member)
    return Compiled(
        graph,
        body.plan,
        body.kernels,
        weights.block,
        body.objects,
        _read_rows(artifact, body.why),
        program.target,
        program.seconds,
        subs,
        tuple(replace(item, offset=weights.where(item.offset)) for item in found),
        weights.parts,
    )
