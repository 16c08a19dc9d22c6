"""From kernels to machine code: LLVM parses the text and emits one ELF object.

No optimisation passes run: the text is optimised while it is built (see `brim.targets.builder`).
Measured on 36 kernels, instcombine and simplifycfg made nothing faster, and softmax and max pooling
a third slower. llvmlite is used for nothing else and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from brim.errors import BrimError
from brim.kernels.ir import Kernel, Schedule
from brim.targets.llvm import emit
from brim.targets.target import Target

# LLVM's options of the process: name, value here, value elsewhere. See `_quick`.
_LEFT_OUT = (("disable-lsr", "true", "false"), ("x86-machine-combiner", "false", "true"))


@cache
def _machine(target: Target) -> tuple[Any, str]:
    """LLVM's target machine and data layout."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    found = binding.Target.from_triple(target.triple).create_target_machine(
        cpu=target.cpu,
        features=target.features,
        opt=1,  # measured: the same speed as 2, in two thirds of its time
        reloc="static" if target.architecture == "wasm32" else "pic",
        codemodel="small",
        abiname=target.abi,
    )
    return found, str(found.target_data)


def _module(text: str, target: Target) -> Any:
    from llvmlite import binding

    layout = _machine(target)[1]
    try:
        module = binding.parse_assembly(text)
        module.data_layout = layout  # without it wasm32 is silently miscompiled
        module.verify()
    except RuntimeError as error:
        raise BrimError(
            "generated code is not valid LLVM IR", why=str(error)[:2000], hint="please report this"
        ) from error
    return module


@contextmanager
def _quick(target: Target) -> Iterator[None]:
    """Two of LLVM's passes left out on x86.

    Loop strength reduction: addresses are already as x86's addressing modes want them; on
    convolutions the pass took 70 % of the whole compilation and gained nothing (measured on 36
    kernels, AVX2 and AVX-512). The machine combiner adds the results of integer products to each
    other first, and so needs more registers than a tile leaves: a third slower. They are options of
    the process, so they are put back for others who use LLVM here.
    """
    from llvmlite import binding

    if target.architecture != "x86_64":
        yield
        return
    for option in _LEFT_OUT:
        binding.set_option("brim", f"-{option[0]}={option[1]}")
    try:
        yield
    finally:
        for option in _LEFT_OUT:
            binding.set_option("brim", f"-{option[0]}={option[2]}")


def compile_text(text: str, target: Target) -> bytes:
    """LLVM text to an ELF object. Raises BrimError if LLVM refuses the text."""
    module = _module(text, target)
    with _quick(target):
        return _machine(target)[0].emit_object(module)


def assembly(text: str, target: Target) -> str:
    """LLVM text to the target's assembly language, for people to read."""
    module = _module(text, target)
    with _quick(target):
        return _machine(target)[0].emit_assembly(module)


def compile_kernel(kernel: Kernel, schedule: Schedule, target: Target) -> bytes:
    """One kernel as a self-contained ELF object that defines the function `kernel.name`."""
    return compile_text(emit(kernel, schedule, target), target)
