"""The command line. Typer and Rich are imported here and nowhere else."""
