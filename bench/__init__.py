"""Speed of brim against its peers: seeded networks and the command that times engines on them.

`python -m bench` compares, `python -m bench.nets` lists the networks. Tests are not here.
"""
