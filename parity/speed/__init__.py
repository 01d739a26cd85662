"""`python -m parity speed`: the two frameworks' step speed, compared fairly.

command     the flags, and where results go
jobs        what a process is asked to measure
contenders  who takes part: the one list of them
problem     the same data, plan, weights and config for everybody
*_programs  what is timed, a file per framework
referee     what the first gradients and logits must be
verdict     whether they are that
worker      a process per contender, asked in turn
rounds      the order in which contenders take turns
figures     medians, quartiles, ratios
results     what was measured, and as JSON
report_*    the same as a table, as Markdown, as a picture
compare     all of it, one comparison after the other
layers      `--layers`: every convolution and batch norm alone
geometry    their sizes
ways        `python -m tools.convolution_algorithms`: oneDNN, Winograd or AMX, by shape
"""
