"""Reads `x-stackd`, where a file says to stackd what Compose has no word for.

Unlike other `x-` keys its content is checked: unknown keys are errors, and keys of features that are not there yet are
refused by name.
"""

from __future__ import annotations

from dataclasses import replace

from stackd.base.time import Duration
from stackd.spec.document import Extension
from stackd.spec.read import keys
from stackd.spec.read.amounts import duration
from stackd.spec.read.value import Fields, Value

_EXECUTORS = ("docker", "process")
_DRAIN_ORDERS = ("stop-first", "start-first")


def read_stack_extension(value: Value) -> Extension:
    """The top level's, which holds for every service that doesn't say otherwise."""
    return _common(value.fields(keys.STACK_EXTENSION))


def read_service_extension(value: Value) -> Extension:
    fields = value.fields(keys.SERVICE_EXTENSION)
    deadline = fields.read("update", _progress_deadline, None)
    return replace(_common(fields), progress_deadline=deadline)


def check_object_extension(value: Value) -> None:
    """That of a network, volume, config or secret: so far, none of its keys is there."""
    value.fields(keys.OBJECT_EXTENSION)


def _common(fields: Fields) -> Extension:
    return Extension(
        executor=fields.read("executor", lambda field: field.choice(_EXECUTORS), ""),
        fence=fields.read("fence", Value.boolean, None),
        drain=fields.read("drain", lambda field: field.choice(_DRAIN_ORDERS), ""),
    )


def _progress_deadline(value: Value) -> Duration | None:
    return value.fields(keys.UPDATE_EXTENSION).read("progress_deadline", duration, None)
