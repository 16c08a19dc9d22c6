"""Where the time and the memory of a model go: real times of real runs, and what is held when."""

from brim.tools.profile.memory import Arena, Held, Writing, arena
from brim.tools.profile.memory_page import memory_page
from brim.tools.profile.summary import Kind, Layer, Profile, profile, step_seconds
from brim.tools.profile.trace import trace

__all__ = [
    "Arena",
    "Held",
    "Kind",
    "Layer",
    "Profile",
    "Writing",
    "arena",
    "memory_page",
    "profile",
    "step_seconds",
    "trace",
]
