"""What is timed, a file per framework, and what all of them work on."""
