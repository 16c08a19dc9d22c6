"""Compression with a contract: a model becomes smaller and faster and keeps its accuracy."""
