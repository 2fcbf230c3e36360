"""Deletes what is over: tasks that are to be removed, history beyond its limit, services without tasks, and content that
nothing names any more (semantics 11).

The newest record of a slot always stays, so that a slot whose last task failed for good is known to be over.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from stackd.base.ids import BlobDigest, SpecDigest
from stackd.base.time import MINUTE, Duration, Instant, after
from stackd.engine.dirty import CONTENT, DEADLINE, Scope, key_of
from stackd.engine.draft import Draft
from stackd.engine.model import Blob, Cluster, Service, SpecRow, Task
from stackd.engine.orchestrate.fence import fence_end
from stackd.engine.orchestrate.slots import Slot, is_live, slots_of
from stackd.engine.status import Rollout, TaskStatus
from stackd.engine.tasks import remove_task
from stackd.engine.taskstate import TaskState, is_terminal
from stackd.engine.view import View

DEFAULT_HISTORY = 5
"""Records per slot, the live one included, while there is no cluster record yet."""

STAGED_FOR = Duration(10 * MINUTE)
"""How long content that nothing names yet is kept for the deployment it was staged for. Then somebody looks whether it came."""


def remove_all(draft: Draft, service: Service, scope: Scope) -> None:
    """Let all tasks of a removed service go. They have been told when one of them reports."""
    if scope is not None:
        return
    for task in draft.budgeted(service.id, draft.tasks_of_service(service.id)):
        remove_task(draft, task, "the service is removed")


def reap(draft: Draft, service: Service, scope: Scope) -> None:
    """Delete the task records of the service that are of no more use; and the service, once it is removed and has none."""
    if scope is not None and DEADLINE in scope:  # a fence may have ended, in a slot in which nothing else happens
        scope = scope | {key_of(task) for task in draft.tasks_to_remove(service.id)}
    slots = slots_of(draft, service, scope).values()
    for task in draft.budgeted(service.id, [task for slot in slots for task in slot.tasks]):
        _end_unplaced(draft, task)
        if task.desired is TaskState.REMOVE and _may_go(draft, task):
            _delete_task(draft, task)
        elif task.desired is TaskState.REMOVE:
            draft.wake(fence_end(draft, task), service.id)
    if not service.removing:
        _trim_history(draft, service, slots)
    elif not draft.has_tasks(service.id):
        draft.delete(Rollout, service.id)
        draft.delete(Service, service.id)
        draft.event("service.removed", service.name, "all its tasks are gone", stack=service.stack)


def _end_unplaced(draft: Draft, task: Task) -> None:
    """A task that was told to stop before any node had it has stopped."""
    status = draft.status_of(task.id)
    if status.state < TaskState.ASSIGNED and not is_live(task):
        draft.put(
            msgspec.structs.replace(
                status, state=TaskState.SHUTDOWN, at=draft.now, message="stopped before it was placed", error="", reason=""
            )
        )


def _may_go(view: View, task: Task) -> bool:
    """Whether nothing is to be known of the task any more: it will never run (again), and nobody waits until it has certainly
    stopped."""
    state = view.status_of(task.id).state
    return (is_terminal(state) or state < TaskState.ASSIGNED) and fence_end(view, task) <= view.now


def _delete_task(draft: Draft, task: Task) -> None:
    draft.delete(Task, task.id)
    draft.delete(TaskStatus, task.id)


def _trim_history(draft: Draft, service: Service, slots: Iterable[Slot]) -> None:
    limit = _history_limit(draft, service)
    for slot in slots:
        if len(slot.tasks) <= limit:
            continue
        tasks = [task for task in slot.tasks if task.id in draft.tasks]
        surplus = len(tasks) - limit
        for task in tasks:
            if surplus > 0 and task is not slot.latest and not is_live(task) and _may_go(draft, task):
                _delete_task(draft, task)
                surplus -= 1


def _history_limit(view: View, service: Service) -> int:
    """Records kept per slot. With a limit of attempts all of them are kept, as in SwarmKit."""
    row = view.specs.get(service.spec)
    attempts = row.spec.restart.max_attempts if row is not None else 0
    cluster: Cluster | None = view.cluster
    limit = cluster.history_limit if cluster is not None else DEFAULT_HISTORY
    return attempts + 1 if attempts else max(limit, 1)


def collect_content(draft: Draft) -> None:
    """Delete specs that no service, previous spec or task names, and blobs that no spec, config or secret names, except what
    was staged a moment ago."""
    specs: set[SpecDigest] = {task.spec for task in draft.tasks.values()}
    for service in draft.services.values():
        specs.add(service.spec)
        if service.previous is not None:
            specs.add(service.previous.spec)
    blobs: set[BlobDigest] = {row.digest for row in draft.configs.values()}
    blobs.update(row.digest for row in draft.secrets.values())
    young = draft.now - STAGED_FOR
    spared: list[Instant] = []
    for row in list(draft.specs.values()):
        named = row.digest in specs
        if named or row.staged_at > young:
            blobs.update(ref.digest for ref in (*row.spec.container.configs, *row.spec.container.secrets))
            spared += () if named else (row.staged_at,)
        elif _has_room(draft):
            draft.delete(SpecRow, row.digest)
    for blob in list(draft.blobs.values()):
        if blob.digest in blobs:
            continue
        if blob.staged_at > young:
            spared.append(blob.staged_at)
        elif _has_room(draft):
            draft.delete(Blob, blob.digest)
    if spared:
        draft.wake(after(min(spared), STAGED_FOR), CONTENT)


def _has_room(draft: Draft) -> bool:
    """Whether the entry has room for more; if not, the rest is for the next one."""
    if draft.full:
        draft.more[CONTENT] = None
    return not draft.full
