"""Semi-automatic search: which variant and which schedule of a kernel is best on a target.

`variants` settles the bodies of composites and `choice` the schedules of kernels, both by price. A
price is what the cost model predicts, or what `tune` has measured here; `store` keeps the latter.
"""
