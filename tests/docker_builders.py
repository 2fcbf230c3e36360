"""Builders for tests of the Docker executor."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import msgspec
from stackd.agent.executor.base import TaskContext
from stackd.api.dispatch import Assignment
from stackd.base.ids import BlobDigest, NodeId, RevisionId, ServiceId, SpecDigest, TaskId
from stackd.base.time import Instant
from stackd.engine.status import TaskStatus
from stackd.engine.taskstate import TaskState
from stackd.spec.stack import ContainerSpec, TaskSpec

IMAGE = "busybox:1"
SERVING = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000000 & wait")
"""A command that runs until it is asked to end, and then ends at once with 0."""

_numbers = itertools.count(1)


def shell(line: str) -> tuple[str, ...]:
    return ("sh", "-c", line)


def a_context(
    command: tuple[str, ...] | None = SERVING,
    *,
    files: Mapping[str, bytes] | None = None,
    task: Mapping[str, Any] | None = None,
    **container: Any,
) -> TaskContext:
    """A task of service `shop_web`; `container` and `task` are further settings of its spec."""
    number = next(_numbers)
    task_id = TaskId(f"{number:025d}")
    spec = ContainerSpec(**{"image": IMAGE, "command": command} | container)
    return TaskContext(
        assignment=Assignment(
            id=task_id,
            service_id=ServiceId("s" * 25),
            stack="shop",
            service="shop_web",
            slot=number,
            node_id=NodeId("n" * 25),
            spec_digest=SpecDigest("d" * 32),
            desired=TaskState.RUNNING,
            status=TaskStatus(id=task_id, state=TaskState.ASSIGNED, at=Instant(0)),
            revision=RevisionId("r1"),
        ),
        spec=TaskSpec(container=spec, **(task or {})),
        files={BlobDigest(digest): data for digest, data in (files or {}).items()},
    )


def with_id(context: TaskContext, task_id: str) -> TaskContext:
    """The same task under a given id and slot 3, for tests that compare whole bodies."""
    assignment = msgspec.structs.replace(context.assignment, id=TaskId(task_id), slot=3)
    return TaskContext(assignment=assignment, spec=context.spec, files=context.files)
