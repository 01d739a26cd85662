"""Both frameworks' networks behind one interface: `run` gives a `Recording`, whichever it is."""
