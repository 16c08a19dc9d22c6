"""`brim doctor`: what this machine and this installation are like, and what is wrong with them."""

from __future__ import annotations

from dataclasses import asdict

import typer

from brim.cli.console import Json, output, show_json, show_table
from brim.figures import size


def doctor(as_json: Json = False) -> None:
    """Say what is wrong with this machine or installation.

    It looks at the machine, the packages, the settings and the cache. A small model is compiled
    and run, and compared with what it should compute. Nothing is changed. The exit code is 1 if
    there are problems; what could only be better is told, and counts as 0. --json is what a bug
    report should have with it.

    \b
    Examples:
        brim doctor
        brim doctor --json > machine.json
    """
    from brim.tools.doctor import diagnose, missing

    found = diagnose()
    if as_json:
        show_json(asdict(found))
    else:
        show_table(("", "this machine"), list(found.facts.items()))
        rows = [
            (each.package.name, each.version or "-", each.package.extra, each.package.purpose)
            for each in found.packages
        ]
        show_table(("package", "version", "extra", "for"), rows)
        sizes = [(part, str(files), size(count)) for part, (files, count) in found.cache.items()]
        show_table(("cache", "files", "size"), sizes, right=("files", "size"))
        for finding in found.findings:
            label = "problem" if finding.is_problem else "note"
            output().print(f"{label}: {finding.what}\n  try: {finding.hint}", soft_wrap=True)
        if gone := missing(found):
            what = "; ".join(f"{extra} ({', '.join(uses)})" for extra, uses in gone.items())
            command = f"pip install 'brim[{','.join(gone)}]'"
            output().print(f"not installed: {what}\n  try: {command}", soft_wrap=True)
        output().print("no problems" if found.is_well else "there are problems")
    if not found.is_well:
        raise typer.Exit(1)
