"""Front ends: one package or file for each model format, each a parser and one table of operators.

A front end turns a foreign model into a brim graph; it knows graph and ops and nothing behind them.
"""
