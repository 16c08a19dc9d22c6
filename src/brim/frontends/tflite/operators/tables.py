"""Tables from keys to values. They are filled once, by constants; looking up is a host step."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import brim.ops.primitive as p
from brim.errors import ModelError, UnsupportedError
from brim.frontends.tflite.host import host_step
from brim.frontends.tflite.table import Call, Resource, operator
from brim.graph import Value, const
from brim.types import I32, I64, STR, U8, DType

Pairs = tuple[np.ndarray, np.ndarray]  # keys, and a value for each


def _pairs(call: Call) -> Pairs:
    tables, name = call.scope.tables, call.handle(0)
    if name not in tables:
        raise ModelError(f"{name} is used before it is filled")
    return tables[name]


@operator("HASHTABLE")
def hashtable(call: Call) -> Resource:
    call.ignore("key_dtype", "value_dtype")
    return Resource(f"table {call.int('table_id')}")


@operator("HASHTABLE_IMPORT", moves=True, dynamic=True)
def hashtable_import(call: Call) -> list[Value]:
    """A table is filled once; whoever comes later changes nothing."""
    keys, values = call[1].data, call[2].data
    if keys is None or values is None:
        raise UnsupportedError("a table that is filled while the model runs")
    if keys.shape != values.shape or keys.ndim != 1:
        raise ModelError(f"{keys.shape} keys of {values.shape} values")
    call.scope.tables.setdefault(call.handle(0), (keys, values))
    return []


@operator("HASHTABLE_SIZE", moves=True)
def hashtable_size(call: Call) -> Value:
    return const(np.array([_pairs(call)[0].size], np.int64))


@operator("HASHTABLE_FIND", moves=True, dynamic=True)
def hashtable_find(call: Call) -> Value:
    """The values of keys, or a default. Host steps are given: keys, the default, the table."""
    if call.scope is None:
        return _found(call)
    pairs = tuple(const(array) for array in _pairs(call))
    tensors = (*call.tensors[1:], None, None)
    whole = replace(call, inputs=(call[1], call[2], *pairs), tensors=tensors)
    return _found(whole) if call[1].is_const else host_step(whole)[0]


def _found(call: Call) -> Value:
    wanted, default, keys, values = call.arrays()
    table = dict(zip(keys[::-1].tolist(), values[::-1].tolist()))  # the first of equal keys counts
    found = [table.get(key, default.reshape(-1)[0]) for key in wanted.reshape(-1).tolist()]
    return const(np.array(found, values.dtype).reshape(wanted.shape))


@operator("HASHTABLE_LOOKUP", moves=True)
def hashtable_lookup(call: Call) -> list[Value]:
    """Rows of values by numbers [K], of which each has a key [N]; zeros where none is, and u8[K]:
    whether there was one."""
    wanted, keys, values = call[0], call[1], call[2]
    (count,), (size,) = wanted.shape, keys.shape
    if not size or values.shape[:1] != (size,):
        raise ModelError(f"{keys.type} are no keys of {values.type}")
    hits = p.eq(p.reshape(wanted, shape=(count, 1)), p.reshape(keys, shape=(1, size)))
    places = p.mul(p.cast(hits, to=I64), const(np.arange(size, dtype=np.int64)))
    place = p.reshape(p.reduce(places, op="max", axes=(1,)), shape=(count,))
    hit = p.reshape(p.reduce(p.cast(hits, to=I32), op="max", axes=(1,)), shape=(count,))
    rows = p.gather(values, place, axis=0)
    inside = p.reshape(p.gt(hit, 0), shape=(count, *(1,) * (len(values.shape) - 1)))
    return [p.select(inside, rows, _nothing(values.dtype)), p.cast(hit, to=U8)]


def _nothing(dtype: DType) -> Value:
    return const(np.array("", object) if dtype == STR else np.zeros((), dtype.numpy))
