"""Small kernels of every family, built by hand: what the interpreter, text and emitter tests share.

`LIBRARY` maps a family's name to a function of extents that gives a kernel; `buffers_for` makes
random buffers that suit one.
"""
