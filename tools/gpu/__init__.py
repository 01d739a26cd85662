"""Half an hour on a borrowed machine with one NVIDIA GPU and no network, prepared.

__main__      the flags
card          which GPU there is
environment   versions, and where both frameworks compute
session       parts and their pieces, run one after the other within a time
commands      a program with a time limit
results       what was measured, as JSON, so that the next call goes on
parts/        what is measured, and how it is shown: smoke, proof, speed, training, profile
data          where CIFAR-10 lies
pack          CIFAR-10 in pieces that are small enough to be carried there
page          docs/results/gpu.md, of the results that there are
"""
