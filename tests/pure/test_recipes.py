"""Recipes: every one comes back from its own TOML; what is wrong in a file is named."""

from __future__ import annotations

import math
import tomllib
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from brim.compress.recipe import (
    MAX_BYTES,
    STEPS,
    Int8,
    LowRank,
    Patterns,
    Prune,
    Recipe,
    Step,
    Storage,
    Weights,
    parse_recipe,
    read_recipe,
    selects,
)
from brim.errors import InputError


def values(wanted: Any) -> st.SearchStrategy:
    """All that an annotation of a field allows."""
    if wanted is bool:
        return st.booleans()
    if wanted is NoneType:
        return st.none()
    if wanted == Patterns:
        return st.lists(st.text(), max_size=3).map(tuple)
    arguments = get_args(wanted)
    if get_origin(wanted) is Literal:
        return st.sampled_from(arguments)
    if get_origin(wanted) is Annotated:
        kind, limits = arguments
        if kind is int:
            return st.integers(limits.low + 1, 10**6)
        return st.floats(limits.low, limits.high, exclude_min=True, exclude_max=True)
    return st.one_of(*map(values, arguments))


def steps(kind: str) -> st.SearchStrategy[Step]:
    step = STEPS[kind]
    hints = get_type_hints(step, include_extras=True)
    return st.builds(step, **{each.name: values(hints[each.name]) for each in fields(step)})


RECIPES = st.builds(
    Recipe, st.lists(st.one_of(*map(steps, STEPS)), min_size=1, max_size=4).map(tuple)
)


@given(RECIPES)
@example(Recipe((Int8(keep=('a"b\\c\n\x7f\u2028\U0001f600',)),)))
def test_a_recipe_comes_back_from_its_file(recipe: Recipe) -> None:
    assert parse_recipe(recipe.to_toml()) == recipe


@given(RECIPES)
def test_only_what_differs_from_the_default_is_written(recipe: Recipe) -> None:
    for table, step in zip(tomllib.loads(recipe.to_toml())["step"], recipe.steps, strict=True):
        differing = {f.name for f in fields(step) if getattr(step, f.name) != f.default}
        assert table.keys() - {"kind"} == differing


def test_a_file_reads_as_it_is_written(tmp_path: Path) -> None:
    recipe = Recipe((Prune(sparsity=0.25), Int8(observer="percentile", keep=("head*", "x"))))
    text = (
        '[[step]]\nkind = "prune"\nsparsity = 0.25\n'
        "\n"
        '[[step]]\nkind = "int8"\nobserver = "percentile"\nkeep = ["head*", "x"]\n'
    )
    assert recipe.to_toml() == text
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    assert read_recipe(path) == recipe


def step(lines: str) -> str:
    return f"[[step]]\n{lines}\n"


WRONG = {
    "": ("has no steps", "", "[[step]]"),
    "step = 3": ("has no steps", "", "[[step]]"),
    "step = [3]": ("has no steps", "", "[[step]]"),
    "[[steps]]": ("unknown key 'steps'", "", "[[step]]"),
    "[[step": ("not TOML", "", ""),
    "x = " + "[" * 100_000: ("not TOML", "", ""),
    step(""): ("no kind", "step 1", '"low_rank"'),
    step('kind = "int9"'): ("of kind 'int9'", "step 1", "did you mean int8?"),
    step("kind = [8]"): ("of kind [8]", "step 1", "int8, weights"),
    step('kind = "int8"') + step('kind = "int8"\nobserve = 1'): (
        "int8 has no key 'observe'", "step 2", "did you mean observer?",
    ),
    step('kind = "int8"\nobserver = "best"'): ("observer = 'best' is not \"mse\"", "step 1", ""),
    step('kind = "int8"\nequalise = 1'): ("equalise = 1 is not true or false", "step 1", ""),
    step('kind = "int8"\nkeep = "head"'): ("keep = 'head' is not a list", "step 1", ""),
    step('kind = "int8"\nkeep = [1]'): ("keep = (1,) is not a list", "step 1", ""),
    step('kind = "weights"\nbits = 5'): ("bits = 5 is not 4 or 8", "step 1", ""),
    step('kind = "weights"\nbits = 4.0'): ("bits = 4.0 is not 4 or 8", "step 1", ""),
    step('kind = "prune"\nsparsity = 1'): ("sparsity = 1 is not a number between", "step 1", ""),
    step('kind = "prune"\nsparsity = nan'): ("sparsity = nan is not", "step 1", ""),
    step('kind = "prune"\nsparsity = true'): ("sparsity = True is not", "step 1", ""),
    step('kind = "low_rank"\nrank = 0'): ("rank = 0 is not a whole number above 0", "step 1", ""),
    step('kind = "low_rank"\nrank = 1.5'): ("rank = 1.5 is not a whole number", "step 1", ""),
}  # fmt: skip


@pytest.mark.parametrize("text", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named(text: str, tmp_path: Path) -> None:
    what, where, hint = WRONG[text]
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_recipe(path)
    assert what in caught.value.what
    assert where in caught.value.where
    assert hint in caught.value.hint
    assert str(path) in caught.value.what + caught.value.where


@given(st.text())
def test_any_text_is_a_recipe_or_an_input_error(text: str) -> None:
    with suppress(InputError):
        assert parse_recipe(text).steps


@pytest.mark.parametrize("content", [b"\xff", b"#" * (MAX_BYTES + 1)])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is no recipe"):
        read_recipe(path)


def test_python_is_held_to_the_same() -> None:
    for wrong in (
        lambda: Int8(observer="best"),  # type: ignore[arg-type]
        lambda: Int8(keep=["head"]),  # type: ignore[arg-type]
        lambda: Weights(bits=True),  # type: ignore[arg-type]
        lambda: Storage("f8"),  # type: ignore[arg-type]
        lambda: LowRank(rank=-1),
        lambda: LowRank(energy=math.inf),
        lambda: Recipe(()),
        lambda: Recipe(("int8",)),  # type: ignore[arg-type]
    ):
        with pytest.raises(InputError):
            wrong()


def test_a_layer_is_chosen_by_the_name_of_its_node() -> None:
    assert selects(("head*",), "net.onnx: head/fc (Gemm)")
    assert not selects(("net*", "*Gemm*"), "net.onnx: head/fc (Gemm)")


def test_layers_are_chosen_by_pattern() -> None:
    assert selects(("*",), "anything")
    assert selects(("a", "head*"), "head.3")
    assert selects(("blocks[0].fc",), "blocks[0].fc")  # a name is a name, whatever is in it
    assert not selects(("Head*",), "head.3")
    assert not selects((), "head")


def test_a_recipe_that_is_not_there_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the recipe"):
        read_recipe(str(tmp_path / "none.toml"))
