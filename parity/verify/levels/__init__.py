"""The nine levels of checks. Each takes a `Case` and yields `parity.verify.result.Check`s."""
