"""Checks of the promises that ask the venue and nobody else."""
