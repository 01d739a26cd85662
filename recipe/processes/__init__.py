"""Several processes as one run: who they are, whether they agree, and who of them has gone."""
