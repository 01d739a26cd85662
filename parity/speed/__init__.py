"""`python -m parity speed`: the two frameworks' step speed, compared fairly.

cli           the flags, and where results go
jobs          what a process is asked to measure
contenders    who takes part: the one list of them
programs/     what is timed, and what its first results must be
worker        a process per contender, asked in turn
verdict       whether first results are what they must be
rounds        the order in which contenders take turns
figures       medians, quartiles, ratios
measurements  what was measured, and as JSON
report/       the same as a table, as Markdown, as a picture
compare       all of it, one comparison after the other
layer_times   `--layers`: every convolution and batch norm alone

`python -m tools.convolution_algorithms` times the algorithms of a native convolution.
"""
