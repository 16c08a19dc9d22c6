"""TFLite's tables: filled once, by constants, and looked up while the model runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from brim.errors import ModelError, UnsupportedError
from brim.graph import Graph, evaluate
from tests.pure.test_tflite_control import imported, sub

TABLE = ("HASHTABLE", "", "h", {"table_id": 7, "key_dtype": 4, "value_dtype": 5})
ONCE = ("CALL_ONCE", "", "", {"init_subgraph_index": 1})
WORDS = np.array(["one", "two", "no"], object)


def filled(keys: Any, values: Any, *others: tuple[Any, ...]) -> Any:
    tensors = {"h": None, "k": np.asarray(keys), "v": np.asarray(values)}
    return sub("once", tensors, "", "", TABLE, ("HASHTABLE_IMPORT", "h k v", ""), *others)


def finding(default: Any, once: Any) -> Graph:
    tensors = {"h": None, "x": "i64[3]", "d": np.asarray(default), "y": "str[3]", "n": "i64[1]"}
    steps = (ONCE, TABLE, ("HASHTABLE_FIND", "h x d", "y"), ("HASHTABLE_SIZE", "h", "n"))
    return imported(sub("main", tensors, "x", "y n", *steps), once)  # type: ignore[arg-type]


def test_keys_are_found_or_have_the_default() -> None:
    graph = finding(WORDS[2:], filled([1, 2], WORDS[:2]))
    found = evaluate(graph, {"x": np.array([2, 5, 1])})
    assert found["y"].tolist() == ["two", "no", "one"] and found["n"].tolist() == [2]


def test_who_fills_a_table_first_fills_it() -> None:
    again = ("HASHTABLE_IMPORT", "h v k", "")
    once = filled([1, 2, 1], [10, 20, 30], again)
    tensors = {"h": None, "x": "i64[3]", "d": np.array([0]), "y": "i64[3]"}
    steps = (ONCE, TABLE, ("HASHTABLE_FIND", "h x d", "y"))
    graph = imported(sub("main", tensors, "x", "y", *steps), once)  # type: ignore[arg-type]
    found = evaluate(graph, {"x": np.array([1, 2, 10])})
    assert found["y"].tolist() == [10, 20, 0]


def test_an_empty_table_is_refused() -> None:
    tensors = {"h": None, "x": "i64[3]", "d": WORDS[2:], "y": "str[3]"}
    main = sub("main", tensors, "x", "y", TABLE, ("HASHTABLE_FIND", "h x d", "y"))  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="table 7 is used before it is filled"):
        imported(main)


def test_a_table_that_the_run_would_fill_is_refused() -> None:
    tensors = {"h": None, "x": "i64[3]", "y": "i64[3]"}
    steps = (TABLE, ("HASHTABLE_IMPORT", "h x x", ""), ("HASHTABLE_FIND", "h x x", "y"))
    main = sub("main", tensors, "x", "y", *steps)  # type: ignore[arg-type]
    with pytest.raises((UnsupportedError, ModelError), match="filled"):
        imported(main)
