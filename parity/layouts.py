"""The tensor names of other projects, for callers outside: `from parity.layouts import LAYOUTS`."""

from parity.convert.layouts import LAYOUTS, Layout

__all__ = ["LAYOUTS", "Layout"]
