"""Passes: functions Graph -> Graph, one idea a file; `brim.compiler` says which run, in what order.

A pass never changes a value; it makes new ones. What a pass means is shown as text, before and
after, in its file. Nothing here knows about kernels.
"""
