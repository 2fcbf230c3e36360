"""The allocate stage: subnets for new networks, endpoints of the services, addresses of their waiting tasks.

A task gets all of its addresses in the decision that makes it, before it is placed, or none: then it stays NEW, its status
says what is missing, and it is looked at again when an address has become free. What a task was given is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

from stackd.base.ids import ServiceId
from stackd.engine.allocate.addresses import AddressBook, attachments_held, endpoint_holder
from stackd.engine.allocate.endpoints import drop_endpoint, settle_endpoint
from stackd.engine.allocate.networks import PREDEFINED, is_addressed, provide, release
from stackd.engine.allocate.pick import Picker, Unaddressable
from stackd.engine.dirty import Dirty
from stackd.engine.draft import Draft
from stackd.engine.model import Service, Task
from stackd.engine.orchestrate.slots import is_live, spec_of
from stackd.engine.status import Endpoint, NetworkStatus
from stackd.engine.tasks import task_name
from stackd.engine.view import View
from stackd.spec.stack import TaskSpec

ATTACHMENT_BYTES = 60
"""About what one attachment adds to a task in the entry."""

MISSING = "allocate.network.missing"

Guard = Callable[[ServiceId, Callable[[], None]], None]


def book_of(draft: Draft) -> AddressBook:
    """The addresses in use with everything that this decision has changed so far."""
    book = AddressBook(draft.ledger.addresses)
    for key in draft.changed_tasks():
        book.change(key, attachments_held(draft.tasks.get(key), draft.statuses.get(key)))
    for service_id in draft.changed_endpoints():
        endpoint = draft.endpoints.get(service_id)
        book.change(endpoint_holder(service_id), endpoint.virtual if endpoint is not None else ())
    return book


def allocate(draft: Draft, dirty: Dirty, guard: Guard) -> None:
    """Give the dirty services and their waiting tasks what they need; what can't be served goes to `dirty.unaddressed`."""
    if dirty.subnets:
        provide(draft)
        _look_again_for_networks(draft)
    waiting: dict[ServiceId, list[Task]] = {key: [] for key in dirty.services if _is_concerned(draft, key)}
    for task in draft.waiting_tasks():
        if task.service_id in dirty.services and is_live(task) and not task.attachments and _needs_anything(draft, task):
            waiting.setdefault(task.service_id, []).append(task)
    if not waiting:
        return
    picker = Picker(draft, book_of(draft))
    for service_id in sorted(waiting, key=lambda key: _age(draft, waiting[key], key)):
        guard(service_id, partial(_serve, draft, dirty, service_id, waiting[service_id], picker))
    picker.finish()


def _look_again_for_networks(draft: Draft) -> None:
    """Networks have come or gone: one that tasks wait for may be there again."""
    waiting = (task for task in draft.addressless_tasks() if draft.status_of(task.id).reason == MISSING)
    draft.more.update((task.service_id, None) for task in waiting)


def _is_concerned(view: View, service_id: ServiceId) -> bool:
    """Whether the service has, or needs, anything that is allocated."""
    service = view.services.get(service_id)
    row = view.specs.get(service.spec) if service is not None else None
    if row is None:
        return False
    return bool(row.spec.networks or row.spec.ports) or service_id in view.endpoints


def _needs_anything(view: View, task: Task) -> bool:
    row = view.specs.get(task.spec)
    return row is not None and bool(row.spec.networks or row.spec.ports)


def _age(view: View, tasks: Sequence[Task], service_id: ServiceId) -> tuple[int, str]:
    """Whoever waits longest comes first."""
    return min((task.created_at for task in tasks), default=view.now), service_id


def _serve(draft: Draft, dirty: Dirty, service_id: ServiceId, tasks: list[Task], picker: Picker) -> None:
    service = draft.services.get(service_id)
    if service is None:
        return
    if service.removing:
        drop_endpoint(draft, service, picker.book)
        return
    try:
        spec = spec_of(draft, service.spec)
        endpoint = settle_endpoint(draft, service, spec, networks_of(draft, spec), picker)
    except Unaddressable as error:
        endpoint = Endpoint(service_id=service_id, reason=error.code, error=error.sentence)
    refused: list[tuple[Task, Unaddressable]] = []
    for task in sorted(tasks, key=lambda task: (task.created_at, task.slot, task.id)):
        try:
            if endpoint.reason:
                raise Unaddressable(endpoint.reason, endpoint.error)
            if not _address(draft, task, picker):
                draft.more[service_id] = None
                dirty.unaddressed.add(task.id)
        except Unaddressable as error:
            dirty.unaddressed.add(task.id)
            refused.append((task, error))
    _say_why(draft, service, refused)


def networks_of(view: View, spec: TaskSpec) -> list[NetworkStatus]:
    """The networks of a spec in which stackd gives out addresses, in the order of the spec. Raises Unaddressable if one is
    missing or has no subnet yet."""
    found: list[NetworkStatus] = []
    for wanted in spec.networks:
        network = view.networks.get(wanted.network)
        status = view.network_statuses.get(network.id) if network is not None else None
        if network is None or status is None:
            if wanted.network in PREDEFINED:
                continue
            raise Unaddressable(MISSING, f'there is no network "{wanted.network}"')
        if not is_addressed(network.spec):
            continue
        if status.reason:
            raise Unaddressable(status.reason, f'network "{network.name}": {status.error or "it has no subnet yet"}')
        found.append(status)
    return found


def _address(draft: Draft, task: Task, picker: Picker) -> bool:
    """Give the task an address in each of its networks, or in none; False if the entry has no room for them."""
    spec = spec_of(draft, task.spec)
    networks = networks_of(draft, spec)
    if not networks:
        return True
    if not draft.is_new(task) and draft.full:
        return False
    if not draft.grow(ATTACHMENT_BYTES * len(networks)):
        return False
    requested = {one.network: one.addresses for one in spec.networks if one.addresses}
    draft.put(msgspec.structs.replace(task, attachments=picker.attach(task.id, (), networks, requested)))
    return True


def _say_why(draft: Draft, service: Service, refused: list[tuple[Task, Unaddressable]]) -> None:
    """Say on each task what it waits for; an event tells once per service."""
    news = False
    for task, error in refused:
        status = draft.status_of(task.id)
        news = news or not status.reason
        draft.put(
            msgspec.structs.replace(status, message="waiting for an address", error=error.sentence, reason=error.code),
        )
    if news:
        task, error = refused[0]
        others = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        draft.event("task.unaddressable", task_name(service, task) + others, error.sentence, stack=service.stack)


def give_back(draft: Draft) -> None:
    """At the end of a decision: forget networks that nothing uses any more, and look again at the tasks that wait for an
    address if this decision has made one free."""
    leaving, waiting = draft.leaving_networks(), draft.addressless_tasks()
    if not leaving and not waiting:
        return
    provided = bool(leaving) and release(draft, book_of(draft)) and provide(draft)
    if waiting and (provided or _has_freed(draft)):
        draft.more.update((task.service_id, None) for task in waiting if is_live(task))


def _has_freed(draft: Draft) -> bool:
    """Whether something may be free that was not before this decision: the address of a task, or what an endpoint had."""
    if draft.changed_endpoints():
        return True
    below = draft.ledger.addresses
    return any(
        before != attachments_held(draft.tasks.get(key), draft.statuses.get(key))
        for key in draft.changed_tasks()
        if (before := below.held(key))
    )
