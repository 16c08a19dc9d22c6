"""The thread pool's native code as LLVM IR text, its control block, and how it becomes an object.

Three functions come out: `parallel_for`, which generated models call; `worker`, in which each of
the pool's threads stays; and `spin`, which measures the pause instruction. They share nothing but
the control block and need no libc: the operating system is reached through pointers stored in it.
Starting and stopping threads is not here but in `threads.py`.

The protocol. One 64-bit word, the *ticket*, says all about the current job:

    remaining chunks (12 bits) | free seats (8 bits) | generation (44 bits)

A job is published by writing its five fields and then a ticket of a new generation. Whoever works
claims one chunk at a time: read the ticket (remaining > 0), read the fields, then compare-and-swap
the ticket to one chunk fewer. The fields are written only while no chunk remains, and writing them
is followed by a new generation, so a swap that succeeds proves that the fields belong to this job,
however long the thread slept between the steps: a late worker's swap fails, and it never calls a
stale function. A worker's first claim of a job also takes a seat; seats are how `limit` is kept.
The generation repeats after 2**44 jobs: a thread would have to be stopped between two adjacent
instructions for 30 days of back-to-back jobs, and wake at exactly equal counts, to be fooled.

Nobody waits for a worker that has claimed nothing. The caller works too, then waits until the
chunks that others claimed are counted in `done`; a worker counts only chunks it claimed, so its
count always arrives before the job ends and never reaches the next one.

Sleeping. A worker that finds no work spins for a while, enters itself in `sleepers` and sleeps on
the ticket's low 32 bits (the generation's), which every new job changes. The publisher stores the
ticket first and reads `sleepers` second, the worker writes `sleepers` first and lets the kernel
compare the ticket second (all sequentially consistent), so no wake-up is lost. The caller sleeps
on `done` in the same way, with `waiting`.
"""

from __future__ import annotations

import hashlib

from brim.errors import CompileError, UnsupportedError

# Byte offsets in the control block. Words written by different threads are 128 bytes apart, since
# CPUs fetch cache lines in pairs. `threads.py` fills in those from WORKERS on.
TICKET, DONE, WAITING, SLEEPERS, BUSY = 0, 128, 132, 256, 384
TASK, CONTEXT, COUNT, CHUNK, CHUNKS = 512, 520, 528, 536, 544
WORKERS, STOP, SPIN, SYSCALL, FUTEX, NAP, NAP_MICROSECONDS = 640, 648, 656, 664, 672, 680, 688
CONTROL_BYTES = 768

MOST_THREADS = 256  # 255 seats and the caller
MOST_CHUNKS = 4095

SYMBOLS = ("parallel_for", "worker", "spin")

# A pause of some nanoseconds that leaves the core's other thread alone. On Arm `yield` is a no-op
# on most cores, so `isb`, which drains the pipeline, is used instead.
_PAUSES = {
    "x86_64": ("declare void @llvm.x86.sse2.pause()", "call void @llvm.x86.sse2.pause()"),
    "aarch64": (
        "declare void @llvm.aarch64.isb(i32)",
        "call void @llvm.aarch64.isb(i32 15)",
    ),
}

_SOURCE = """
@DECLARE@

; Sleep until woken or until %word no longer holds %expected. May return early.
define internal void @sleep(ptr %pool, ptr %word, i32 %expected) #0 {
  %syscall.at = getelementptr i8, ptr %pool, i64 @SYSCALL@
  %syscall = load ptr, ptr %syscall.at
  %futexes = icmp ne ptr %syscall, null
  br i1 %futexes, label %wait, label %nap
wait:                                   ; FUTEX_WAIT_PRIVATE, no timeout
  %number.at = getelementptr i8, ptr %pool, i64 @FUTEX@
  %number = load i64, ptr %number.at
  %value = zext i32 %expected to i64
  %r = call i64 (i64, ...) %syscall(i64 %number, ptr %word, i64 128, i64 %value,
                                    ptr null, ptr null, i64 0)
  ret void
nap:                                    ; no futex here: sleep for a moment, then look again
  %nap.at = getelementptr i8, ptr %pool, i64 @NAP@
  %nap.function = load ptr, ptr %nap.at
  %time.at = getelementptr i8, ptr %pool, i64 @NAP_MICROSECONDS@
  %time = load i32, ptr %time.at
  %s = call i32 %nap.function(i32 %time)
  ret void
}

; Wake up to %count threads that sleep on %word.
define internal void @wake(ptr %pool, ptr %word, i64 %count) #0 {
  %syscall.at = getelementptr i8, ptr %pool, i64 @SYSCALL@
  %syscall = load ptr, ptr %syscall.at
  %futexes = icmp ne ptr %syscall, null
  br i1 %futexes, label %call, label %out
call:                                   ; FUTEX_WAKE_PRIVATE
  %number.at = getelementptr i8, ptr %pool, i64 @FUTEX@
  %number = load i64, ptr %number.at
  %r = call i64 (i64, ...) %syscall(i64 %number, ptr %word, i64 129, i64 %count,
                                    ptr null, ptr null, i64 0)
  br label %out
out:
  ret void
}

define internal void @run(ptr %task, ptr %context, i64 %begin, i64 %end) #0 {
  %any = icmp slt i64 %begin, %end
  br i1 %any, label %loop, label %out
loop:
  %i = phi i64 [ %begin, %0 ], [ %next, %loop ]
  call void %task(ptr %context, i64 %i)
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %end
  br i1 %more, label %loop, label %out
out:
  ret void
}

; Claim and run chunks until none remains, beginning from what was seen of the ticket. %price is
; what the first claim takes off it: a chunk, or a chunk and a seat. Returns how many chunks ran.
; All are of one job: after the first, the job cannot end, nor another begin, before we report.
define internal i64 @drain(ptr %pool, i64 %first, i64 %price) #0 {
  %task.at = getelementptr i8, ptr %pool, i64 @TASK@
  %context.at = getelementptr i8, ptr %pool, i64 @CONTEXT@
  %count.at = getelementptr i8, ptr %pool, i64 @COUNT@
  %chunk.at = getelementptr i8, ptr %pool, i64 @CHUNK@
  %chunks.at = getelementptr i8, ptr %pool, i64 @CHUNKS@
  br label %look
look:
  %seen = phi i64 [ %first, %0 ], [ %lost, %claim ], [ %now, %work ]
  %cost = phi i64 [ %price, %0 ], [ %cost, %claim ], [ @ONE_CHUNK@, %work ]
  %ran = phi i64 [ 0, %0 ], [ %ran, %claim ], [ %ran.next, %work ]
  %remaining = lshr i64 %seen, 52
  %left = icmp ne i64 %remaining, 0
  %seats = and i64 %seen, @SEAT_MASK@
  %seats.wanted = and i64 %cost, @SEAT_MASK@
  %seated = icmp uge i64 %seats, %seats.wanted
  %ok = and i1 %left, %seated
  br i1 %ok, label %claim, label %out
claim:                                  ; read first, then prove by the swap that it was this job's
  %task = load atomic ptr, ptr %task.at acquire, align 8
  %context = load atomic ptr, ptr %context.at acquire, align 8
  %count = load atomic i64, ptr %count.at acquire, align 8
  %chunk = load atomic i64, ptr %chunk.at acquire, align 8
  %chunks = load atomic i64, ptr %chunks.at acquire, align 8
  %wanted = sub i64 %seen, %cost
  %swap = cmpxchg ptr %pool, i64 %seen, i64 %wanted seq_cst acquire, align 8
  %lost = extractvalue { i64, i1 } %swap, 0
  %won = extractvalue { i64, i1 } %swap, 1
  br i1 %won, label %work, label %look
work:
  %number = sub i64 %chunks, %remaining
  %begin = mul i64 %number, %chunk
  %full = add i64 %begin, %chunk
  %short = icmp slt i64 %count, %full
  %end = select i1 %short, i64 %count, i64 %full
  call void @run(ptr %task, ptr %context, i64 %begin, i64 %end)
  %ran.next = add i64 %ran, 1
  %now = load atomic i64, ptr %pool acquire, align 8
  br label %look
out:
  ret i64 %ran
}

define void @spin(i64 %times) #0 {
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %next, %loop ]
  @PAUSE@
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %times
  br i1 %more, label %loop, label %out
out:
  ret void
}

define void @worker(ptr %pool) #0 {
  %stop.at = getelementptr i8, ptr %pool, i64 @STOP@
  %spin.at = getelementptr i8, ptr %pool, i64 @SPIN@
  %done.at = getelementptr i8, ptr %pool, i64 @DONE@
  %waiting.at = getelementptr i8, ptr %pool, i64 @WAITING@
  %sleepers.at = getelementptr i8, ptr %pool, i64 @SLEEPERS@
  %spin = load i64, ptr %spin.at
  br label %look
look:
  %patience = phi i64 [ %spin, %0 ], [ %patience.next, %idle.more ], [ 0, %sleep ],
                      [ %patience, %work ], [ %afresh, %report ], [ %afresh, %report.wake ]
  %ticket = load atomic i64, ptr %pool acquire, align 8
  %remaining = lshr i64 %ticket, 52
  %left = icmp ne i64 %remaining, 0
  %seats = and i64 %ticket, @SEAT_MASK@
  %free = icmp ne i64 %seats, 0
  %go = and i1 %left, %free
  br i1 %go, label %work, label %idle
work:
  %ran = call i64 @drain(ptr %pool, i64 %ticket, i64 @CHUNK_AND_SEAT@)
  %any = icmp ne i64 %ran, 0
  br i1 %any, label %report, label %look
report:                                 ; the caller may return as soon as this is counted
  %ran.32 = trunc i64 %ran to i32
  %before = atomicrmw add ptr %done.at, i32 %ran.32 seq_cst
  %afresh = load i64, ptr %spin.at
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %waits = icmp ne i32 %waiting, 0
  br i1 %waits, label %report.wake, label %look
report.wake:
  call void @wake(ptr %pool, ptr %done.at, i64 1)
  br label %look
idle:
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %stopping = icmp ne i32 %stop, 0
  br i1 %stopping, label %out, label %idle.on
idle.on:
  %patient = icmp sgt i64 %patience, 0
  br i1 %patient, label %idle.more, label %sleep
idle.more:
  @PAUSE@
  %patience.next = sub i64 %patience, 1
  br label %look
sleep:
  %generation = trunc i64 %ticket to i32
  %asleep = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  call void @sleep(ptr %pool, ptr %pool, i32 %generation)
  %awake = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  br label %look
out:
  ret void
}

define void @parallel_for(ptr %pool, ptr %task, ptr %context, i64 %count, i64 %limit) #0 {
  %none = icmp eq ptr %pool, null
  %single = icmp slt i64 %count, 2
  %alone = icmp slt i64 %limit, 2
  %serial.1 = or i1 %none, %single
  %serial.2 = or i1 %serial.1, %alone
  br i1 %serial.2, label %serial, label %staffed
staffed:
  %workers.at = getelementptr i8, ptr %pool, i64 @WORKERS@
  %workers = load atomic i64, ptr %workers.at monotonic, align 8
  %empty = icmp eq i64 %workers, 0
  br i1 %empty, label %serial, label %lock
lock:                                   ; one job at a time; a second caller does its own work
  %busy.at = getelementptr i8, ptr %pool, i64 @BUSY@
  %taken = cmpxchg ptr %busy.at, i32 0, i32 1 acquire monotonic
  %got = extractvalue { i32, i1 } %taken, 1
  br i1 %got, label %divide, label %serial
serial:
  call void @run(ptr %task, ptr %context, i64 0, i64 %count)
  ret void

divide:                                 ; at most MOST_CHUNKS chunks of equally many tasks
  %many = icmp ugt i64 %count, @MOST_CHUNKS@
  br i1 %many, label %coarse, label %publish
coarse:
  %rounded = add i64 %count, @MOST_CHUNKS_LESS_1@
  %coarse.chunk = udiv i64 %rounded, @MOST_CHUNKS@
  %coarse.up = add i64 %count, %coarse.chunk
  %coarse.up.1 = sub i64 %coarse.up, 1
  %coarse.chunks = udiv i64 %coarse.up.1, %coarse.chunk
  br label %publish
publish:
  %chunk = phi i64 [ 1, %divide ], [ %coarse.chunk, %coarse ]
  %chunks = phi i64 [ %count, %divide ], [ %coarse.chunks, %coarse ]
  %helpers = sub i64 %limit, 1
  %others = sub i64 %chunks, 1
  %seats.1 = call i64 @llvm.umin.i64(i64 %helpers, i64 %others)
  %seats.2 = call i64 @llvm.umin.i64(i64 %seats.1, i64 %workers)
  %seats = call i64 @llvm.umin.i64(i64 %seats.2, i64 255)
  %task.at = getelementptr i8, ptr %pool, i64 @TASK@
  %context.at = getelementptr i8, ptr %pool, i64 @CONTEXT@
  %count.at = getelementptr i8, ptr %pool, i64 @COUNT@
  %chunk.at = getelementptr i8, ptr %pool, i64 @CHUNK@
  %chunks.at = getelementptr i8, ptr %pool, i64 @CHUNKS@
  %done.at = getelementptr i8, ptr %pool, i64 @DONE@
  %waiting.at = getelementptr i8, ptr %pool, i64 @WAITING@
  %sleepers.at = getelementptr i8, ptr %pool, i64 @SLEEPERS@
  store atomic ptr %task, ptr %task.at release, align 8
  store atomic ptr %context, ptr %context.at release, align 8
  store atomic i64 %count, ptr %count.at release, align 8
  store atomic i64 %chunk, ptr %chunk.at release, align 8
  store atomic i64 %chunks, ptr %chunks.at release, align 8
  store atomic i32 0, ptr %done.at release, align 4
  %old = load atomic i64, ptr %pool monotonic, align 8
  %old.1 = add i64 %old, 1
  %generation = and i64 %old.1, @GENERATION_MASK@
  %seats.bits = shl i64 %seats, 44
  %chunks.bits = shl i64 %chunks, 52
  %ticket.1 = or i64 %generation, %seats.bits
  %ticket = or i64 %ticket.1, %chunks.bits
  store atomic i64 %ticket, ptr %pool seq_cst, align 8
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %asleep = icmp ne i32 %sleepers, 0
  br i1 %asleep, label %rouse, label %work
rouse:
  call void @wake(ptr %pool, ptr %pool, i64 %seats)
  br label %work
work:
  %ran = call i64 @drain(ptr %pool, i64 %ticket, i64 @ONE_CHUNK@)
  %theirs.64 = sub i64 %chunks, %ran
  %theirs = trunc i64 %theirs.64 to i32
  %spin.at = getelementptr i8, ptr %pool, i64 @SPIN@
  %spin = load i64, ptr %spin.at
  br label %join
join:
  %patience = phi i64 [ %spin, %work ], [ %patience.next, %join.more ]
  %done = load atomic i32, ptr %done.at acquire, align 4
  %complete = icmp eq i32 %done, %theirs
  br i1 %complete, label %unlock, label %join.on
join.on:
  %patient = icmp sgt i64 %patience, 0
  br i1 %patient, label %join.more, label %join.sleep
join.more:
  @PAUSE@
  %patience.next = sub i64 %patience, 1
  br label %join
join.sleep:
  %was = atomicrmw xchg ptr %waiting.at, i32 1 seq_cst
  br label %join.check
join.check:
  %done.now = load atomic i32, ptr %done.at seq_cst, align 4
  %complete.now = icmp eq i32 %done.now, %theirs
  br i1 %complete.now, label %join.woken, label %join.wait
join.wait:
  call void @sleep(ptr %pool, ptr %done.at, i32 %done.now)
  br label %join.check
join.woken:
  store atomic i32 0, ptr %waiting.at release, align 4
  br label %unlock
unlock:
  store atomic i32 0, ptr %busy.at release, align 4
  ret void
}

declare i64 @llvm.umin.i64(i64, i64)

attributes #0 = { nounwind "no-builtins" }
"""

_CHUNK_BIT, _SEAT_BIT = 1 << 52, 1 << 44
_CONSTANTS = {
    "TICKET": TICKET, "DONE": DONE, "WAITING": WAITING, "SLEEPERS": SLEEPERS, "BUSY": BUSY,
    "TASK": TASK, "CONTEXT": CONTEXT, "COUNT": COUNT, "CHUNK": CHUNK, "CHUNKS": CHUNKS,
    "WORKERS": WORKERS, "STOP": STOP, "SPIN": SPIN, "SYSCALL": SYSCALL, "FUTEX": FUTEX,
    "NAP": NAP, "NAP_MICROSECONDS": NAP_MICROSECONDS,
    "MOST_CHUNKS": MOST_CHUNKS, "MOST_CHUNKS_LESS_1": MOST_CHUNKS - 1,
    "ONE_CHUNK": _CHUNK_BIT, "CHUNK_AND_SEAT": _CHUNK_BIT + _SEAT_BIT,
    "SEAT_MASK": 255 << 44, "GENERATION_MASK": _SEAT_BIT - 1,
}  # fmt: skip


def pool_source(triple: str) -> str:
    """The pool's LLVM IR for a target triple (`x86_64-...` or `aarch64-...`)."""
    architecture = triple.partition("-")[0]
    if architecture not in _PAUSES:
        raise UnsupportedError(
            f"no thread pool for {architecture}", f"it exists for {', '.join(_PAUSES)}", triple
        )
    declare, pause = _PAUSES[architecture]
    text = _SOURCE.replace("@DECLARE@", declare).replace("@PAUSE@", pause)
    for name, value in _CONSTANTS.items():
        text = text.replace(f"@{name}@", str(value))
    return f'target triple = "{triple}"\n{text}'


def pool_key(triple: str, cpu: str = "") -> str:
    """Hex digest that names `pool_object(triple, cpu)` in a disk cache; needs no llvmlite."""
    text = f"{pool_source(triple)}\0{cpu}".encode()
    return hashlib.blake2b(text, digest_size=32, person=b"brim pool").hexdigest()


def pool_object(triple: str, cpu: str = "") -> bytes:
    """The pool compiled to a relocatable object; needs llvmlite.

    triple: four parts, as in `x86_64-unknown-linux-gnu`. cpu: LLVM's name; "" is the baseline,
    which every machine of the architecture runs and which is as fast (the code is all atomics).
    """
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        machine = llvm.Target.from_triple(triple).create_target_machine(
            cpu=cpu, opt=2, reloc="pic", codemodel="small"
        )
        module = llvm.parse_assembly(pool_source(triple))
        module.data_layout = str(machine.target_data)
        module.verify()
        return bytes(machine.emit_object(module))
    except RuntimeError as error:
        raise CompileError("the thread pool does not compile", str(error), triple) from error
