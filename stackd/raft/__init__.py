"""Agrees on bytes. Knows no service and no task."""
