"""Settings: one declaration each, read from the environment, refused when they make no sense."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import brim.settings
from brim.errors import BrimError, InputError, ModelError
from brim.settings import SETTINGS, get

SOURCE = Path(brim.settings.__file__).parent


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_each_has_a_default_and_a_doc(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    setting = SETTINGS[name]
    monkeypatch.delenv(setting.env, raising=False)
    assert get(name) == setting.default
    assert setting.doc.endswith(".")
    assert setting.env == f"BRIM_{name.upper()}"


def test_the_environment_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIM_THREADS", "3")
    monkeypatch.setenv("BRIM_CHECK", "yes")
    assert get("threads") == 3
    assert get("check") is True
    monkeypatch.setenv("BRIM_THREADS", "")
    assert get("threads") == SETTINGS["threads"].default


@pytest.mark.parametrize(
    ("name", "text"), [("threads", "-1"), ("threads", "many"), ("check", "maybe")]
)
def test_nonsense_is_refused(name: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SETTINGS[name].env, text)
    with pytest.raises(InputError, match=SETTINGS[name].env):
        get(name)


def test_the_environment_is_read_in_one_place() -> None:
    """No other file reads a BRIM_ variable, so the table is complete."""
    read = re.compile(r"""(environ|getenv)[^\n]*["']BRIM_""")
    offenders = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        if read.search(path.read_text()) and path.name != "settings.py"
    ]
    assert offenders == []


def test_errors_say_what_why_where_and_what_to_do() -> None:
    error = ModelError("it broke", "a reason", "a place", "a hint")
    assert str(error) == "it broke\n  because: a reason\n  at: a place\n  try: a hint"
    assert error.as_dict() == {
        "error": "ModelError",
        "what": "it broke",
        "why": "a reason",
        "where": "a place",
        "hint": "a hint",
    }
    assert str(BrimError("short")) == "short"
