"""The parts of `./dev bench`; `benches/run` is the table of contents. Python's standard library only."""
