"""The object loader: what LLVM emits runs, and nothing that is damaged or foreign crashes it."""

from __future__ import annotations

import ctypes
import platform
import random
import struct
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from brim.errors import BrimError, ModelError, UnsupportedError
from brim.runtime import elf, loader
from brim.runtime.loader import load_object, load_objects

llvm = pytest.importorskip("llvmlite.binding")

HOST = f"{platform.machine()}-unknown-linux-gnu"
TRIPLES = {elf.X86_64: "x86_64-unknown-linux-gnu", elf.AARCH64: "aarch64-unknown-linux-gnu"}
LONG = ctypes.c_int64

# Constants, a table of function pointers, data and zeros, a jump table, a call outside.
SOURCE = """
@table = private constant [5 x i64] [i64 3, i64 1, i64 4, i64 1, i64 5]
@functions = internal constant [2 x ptr] [ptr @square, ptr @negate]
@state = global i64 7
@zeros = internal global [100 x i64] zeroinitializer, align 64
declare i64 @outside(i64)
define i64 @square(i64 %x) {
  %r = mul i64 %x, %x
  ret i64 %r
}
define internal i64 @negate(i64 %x) {
  %r = sub i64 0, %x
  ret i64 %r
}
define i64 @mixed(i64 %i, i64 %k) {
  %p = getelementptr [5 x i64], ptr @table, i64 0, i64 %i
  %v = load i64, ptr %p
  %q = getelementptr [2 x ptr], ptr @functions, i64 0, i64 %k
  %f = load ptr, ptr %q
  %r = call i64 %f(i64 %v)
  %s = load i64, ptr @state
  %t = add i64 %r, %s
  %z = getelementptr [100 x i64], ptr @zeros, i64 0, i64 %i
  %old = load i64, ptr %z
  %new = add i64 %old, %t
  store i64 %new, ptr %z
  ret i64 %new
}
define i64 @call_outside(i64 %x) {
  %r = call i64 @outside(i64 %x)
  ret i64 %r
}
define double @switch(i32 %x) {
  switch i32 %x, label %d [ i32 0, label %a
                            i32 1, label %b
                            i32 2, label %c
                            i32 3, label %e
                            i32 4, label %f ]
a: ret double 1.5
b: ret double 2.5
c: ret double 4.5
e: ret double 9.25
f: ret double 10.25
d: ret double -3.0
}
define float @many_constants(float %x) {
  %a = fmul float %x, 0x3FF19999A0000000
  %b = fadd float %a, 0x4012666660000000
  ret float %b
}
"""


def compiled(source: str, triple: str = HOST) -> bytes:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    target = llvm.Target.from_triple(triple)
    machine = target.create_target_machine(opt=2, reloc="pic", codemodel="small")
    module = llvm.parse_assembly(source)
    module.triple = triple
    module.data_layout = str(machine.target_data)
    return bytes(machine.emit_object(module))


@pytest.fixture(scope="module")
def blob() -> bytes:
    return compiled(SOURCE)


@ctypes.CFUNCTYPE(LONG, LONG)
def outside(x: int) -> int:
    return x + 1000


EXTERNALS = {"outside": ctypes.cast(outside, ctypes.c_void_p).value or 0}


def test_what_llvm_emits_runs(blob: bytes) -> None:
    loaded = load_object(blob, externals=EXTERNALS)
    assert set(loaded.symbols) >= {"square", "mixed", "call_outside", "switch", "state"}
    assert "negate" not in loaded.symbols
    mixed = loaded.function("mixed", LONG, LONG, LONG)
    assert [mixed(i, k) for i in range(5) for k in range(2)] == [
        16,
        20,
        8,
        14,
        23,
        26,
        8,
        14,
        32,
        34,
    ]
    switch = loaded.function("switch", ctypes.c_double, ctypes.c_int)
    assert [switch(i) for i in range(-1, 6)] == [-3.0, 1.5, 2.5, 4.5, 9.25, 10.25, -3.0]
    constants = loaded.function("many_constants", ctypes.c_float, ctypes.c_float)
    assert constants(2.0) == pytest.approx(2.0 * 1.1 + 4.6, rel=1e-6)
    assert loaded.function("call_outside", LONG, LONG)(5) == 1005
    with pytest.raises(BrimError, match="no symbol 'negate'"):
        loaded.function("negate", LONG, LONG)


def test_functions_keep_their_memory(blob: bytes) -> None:
    functions = [
        load_object(blob, externals=EXTERNALS).function("square", LONG, LONG) for _ in range(20)
    ]
    assert [f(i) for i, f in enumerate(functions)] == [i * i for i in range(20)]


def test_calls_reach_any_address(blob: bytes) -> None:
    """Code of ours two addresses away: a mapping that a 32-bit displacement cannot reach."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(ctypes.c_int,) * 3, LONG]
    far = library.mmap(0x10_0000_0000, 4096, 3, 0x22, -1, 0)  # a hint of 64 GiB
    code = {
        "x86_64": b"\x48\x8d\x87\xe8\x03\x00\x00\xc3",  # lea rax, [rdi + 1000]; ret
        "aarch64": bytes.fromhex("00a00f91c0035fd6"),  # add x0, x0, #1000; ret
    }[platform.machine()]
    ctypes.memmove(far, code, len(code))
    library.mprotect(ctypes.c_void_p(far), ctypes.c_size_t(4096), 5)
    loaded = load_object(blob, externals={"outside": far})
    assert abs(loaded.address - far) > 1 << 31
    assert loaded.function("call_outside", LONG, LONG)(5) == 1005


def test_many_objects_share_one_mapping_but_no_names(blob: bytes) -> None:
    loaded = load_objects([blob] * 50, externals=EXTERNALS)
    assert len({o.symbols["mixed"] for o in loaded}) == 50
    addresses = [o.address for o in loaded]
    assert max(addresses) - min(addresses) < 1 << 20
    for turn in (1, 2):  # each has its own data
        assert {o.function("mixed", LONG, LONG, LONG)(0, 0) for o in loaded} == {16 * turn}
    other = compiled(
        "declare void @square()\ndefine void @f() {\n call void @square()\n ret void\n}"
    )
    with pytest.raises(ModelError, match="undefined symbols: square"):
        load_objects([blob, other], externals=EXTERNALS)


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_nothing_is_writable_and_executable(blob: bytes) -> None:
    loaded = load_object(blob, externals=EXTERNALS)
    rights: dict[str, str] = {}
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, access = line.split()[:2]
        begin, end = (int(x, 16) for x in span.split("-"))
        rights |= {n: access[:3] for n, a in loaded.symbols.items() if begin <= a < end}
    assert rights["square"] == "r-x"
    assert rights["state"] == "rw-"


def test_no_objects_are_fine() -> None:
    assert load_objects([]) == ()


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("declare void @puts()\ndefine void @f() {\n call void @puts()\n ret void\n}", "puts"),
        ("@t = thread_local global i32 1", "thread-local"),
        (
            "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] "
            "[{ i32, ptr, ptr } { i32 65535, ptr @f, ptr null }]\n"
            "define void @f() {\n ret void\n}",
            "would not be run",
        ),
    ],
    ids=["undefined", "thread-local", "constructor"],
)
def test_what_cannot_work_is_refused(source: str, what: str) -> None:
    with pytest.raises(ModelError, match=what):
        load_object(compiled(source))


def test_other_files_are_refused(blob: bytes) -> None:
    foreign = compiled(SOURCE, TRIPLES[elf.X86_64 + elf.AARCH64 - loader.host_machine()])
    with pytest.raises(UnsupportedError, match="another machine"):
        load_object(foreign)
    with pytest.raises(ModelError, match="not a relocatable object"):
        load_object(Path(sys.executable).resolve().read_bytes())
    for junk in (b"", b"\x7fELF", bytes(64), b"MZ" * 100):
        with pytest.raises(ModelError):
            load_object(junk)
    with pytest.raises(UnsupportedError, match="unsupported relocation 250"):
        load_object(_with_relocation(blob, kind=250), externals=EXTERNALS)
    with pytest.raises(ModelError, match="outside its section"):
        load_object(_with_relocation(blob, offset=1 << 40), externals=EXTERNALS)
    with pytest.raises(ModelError, match="does not fit"):
        load_object(_with_relocation(blob, addend=1 << 50), externals=EXTERNALS)


def _with_relocation(
    blob: bytes, offset: int | None = None, kind: int | None = None, addend: int | None = None
) -> bytes:
    """The object with one field of the first pc-relative relocation of its code changed."""
    (start,) = struct.unpack_from("<Q", blob, 40)
    (count,) = struct.unpack_from("<H", blob, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", blob, start + 64 * i) for i in range(count)]
    table = next(s for s in sections if s[1] == 4 and sections[s[7]][2] & 4)
    old = struct.unpack_from("<QQq", blob, table[4])
    info = old[1] if kind is None else old[1] >> 32 << 32 | kind
    damaged = bytearray(blob)
    new = (old[0] if offset is None else offset, info, old[2] if addend is None else addend)
    struct.pack_into("<QQq", damaged, table[4], *new)
    return bytes(damaged)


FUZZ = """
    import random, sys
    from brim.errors import BrimError
    from brim.runtime.loader import load_object
    blob = open(sys.argv[1], "rb").read()
    draw = random.Random(int(sys.argv[2]))
    tables = [i for begin, end in eval(sys.argv[3]) for i in range(begin, end)]
    loaded = refused = 0
    for turn in range(int(sys.argv[4])):
        damaged = bytearray(blob)
        if turn % 4 == 0:
            del damaged[draw.randrange(len(blob)):]
        else:
            for _ in range(draw.randrange(1, 4)):
                i = draw.choice(tables)
                match draw.randrange(3):
                    case 0: damaged[i] ^= 1 << draw.randrange(8)
                    case 1: damaged[i] = draw.choice((0, 1, 0x7F, 0x80, 0xFF))
                    case 2: damaged[i : i + 8] = draw.choice((b"\\xff" * 8, bytes(8)))
        try:
            load_object(bytes(damaged), externals={"outside": 1 << 30})
            loaded += 1
        except BrimError:
            refused += 1
    print(loaded, refused)
"""


def test_damaged_objects_never_crash(blob: bytes, tmp_path: Path) -> None:
    path = tmp_path / "object.o"
    path.write_bytes(blob)
    (start,) = struct.unpack_from("<Q", blob, 40)
    (count,) = struct.unpack_from("<H", blob, 60)
    sections = [struct.unpack_from("<IIQQQQIIQQ", blob, start + 64 * i) for i in range(count)]
    spans = [(0, 64), (start, start + 64 * count)]
    spans += [(s[4], s[4] + s[5]) for s in sections if s[1] in (2, 3, 4)]  # symbols, names, RELA
    seed = random.Random(1).randrange(1 << 30)
    arguments = [str(path), str(seed), repr(spans), "6000"]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FUZZ), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    loaded, refused = map(int, done.stdout.split())
    assert loaded > 100
    assert refused > 1000


# --- the other machine's relocations, checked by decoding what they patched ---


def _placed(blob: bytes, machine: int, base: int) -> tuple[bytearray, dict[str, int]]:
    parsed = elf.parse(blob, machine, "object")
    layout = loader._lay_out([parsed], 4096)
    memory = bytearray(layout.size)
    tables = loader._Tables(memoryview(memory), base, layout, machine)
    return memory, loader._link(parsed, 0, tables, {"outside": 0x7_1234_5678})


def test_aarch64_addresses_are_patched_rightly() -> None:
    source = """
@value = global i64 7
declare i64 @outside(i64)
define ptr @address() {
  ret ptr @value
}
define i64 @load() {
  %v = load i64, ptr @hidden
  ret i64 %v
}
define i64 @call(i64 %x) {
  %r = call i64 @outside(i64 %x)
  %s = add i64 %r, 1
  ret i64 %s
}
@hidden = internal global i64 9
"""
    base = 0x4_0000_0000
    memory, symbols = _placed(compiled(source, TRIPLES[elf.AARCH64]), elf.AARCH64, base)

    def word(address: int) -> int:
        return struct.unpack_from("<I", memory, address - base)[0]

    def page(address: int) -> int:  # what an ADRP at this address computes
        assert word(address) & 0x9F000000 == 0x90000000
        pages = (word(address) >> 29 & 3) | (word(address) >> 5 & 0x7FFFF) << 2
        return (address & ~0xFFF) + ((pages ^ 1 << 20) - (1 << 20) << 12)

    def load(address: int) -> int:  # what the LDR of 64 bits after an ADRP reads
        assert word(address + 4) & 0xFFC00000 == 0xF9400000
        where = page(address) + (word(address + 4) >> 10 & 0xFFF) * 8
        return struct.unpack_from("<Q", memory, where - base)[0]

    assert load(symbols["address"]) == symbols["value"]  # through the pointer table
    assert load(symbols["load"]) == 9
    calls = [a for a in range(symbols["call"], symbols["call"] + 32, 4) if word(a) >> 26 == 0x25]
    assert len(calls) == 1
    distance = (word(calls[0]) & 0x3FFFFFF ^ 1 << 25) - (1 << 25) << 2
    stub = calls[0] + distance
    assert (word(stub), word(stub + 4)) == (0x58000050, 0xD61F0200)  # ldr x16, #8; br x16
    assert struct.unpack_from("<Q", memory, stub + 8 - base)[0] == 0x7_1234_5678


def test_instruction_caches_are_told_on_arm(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(loader, "_clear_cache", lambda begin, end: told.append((begin, end)))
    layout = loader._lay_out([], 4096)
    loader._protect(0, layout, elf.X86_64)
    assert told == []
    loader._protect(0, layout, elf.AARCH64)
    assert len(told) == 1
