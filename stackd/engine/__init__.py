"""Decides. Pure and synchronous: every decision is a function of a read-only view, the inputs and the time."""
