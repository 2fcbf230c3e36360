"""The table of keys is complete, and docs/stack-file.md says the same. (That it is true is tested in integration/keys.)"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from stackd.base.records import Record
from stackd.spec import stack

from key_table import Inspect, Limit, Network, Planned, Probe, keys, page

TABLE = keys(Path("/host"))
DOCUMENT = Path(stack.__file__).parents[2] / "docs" / "stack-file.md"

RECORDS: tuple[type[Record], ...] = (
    stack.ContainerSpec,
    stack.TaskSpec,
    stack.Mount,
    stack.FileRef,
    stack.Healthcheck,
    stack.Resources,
    stack.GenericResource,
    stack.Ulimit,
    stack.Device,
    stack.LogDriver,
    stack.CredentialSpec,
    stack.Port,
    stack.NetworkAttachment,
    stack.NetworkSpec,
    stack.Pool,
)
"""What reaches an executor. Restart policies and placement don't: they are the engine's."""


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.__name__)
def test_every_field_that_reaches_an_executor_is_in_the_table(record: type[Record]) -> None:
    fields = {f"{record.__name__}.{field.name}" for field in msgspec.structs.fields(record)}
    listed = {key.field for key in TABLE if key.field.startswith(f"{record.__name__}.")}
    assert listed == fields


def test_every_kind_of_mount_is_in_the_table() -> None:
    kinds = {key.written.partition(": ")[2] for key in TABLE if key.field == "Mount.type"}
    assert kinds == {kind.value for kind in stack.MountType}


def test_each_executor_is_looked_at_in_its_own_way() -> None:
    """An engine has no plan, a process nothing to inspect."""
    assert not [key.field for key in TABLE if isinstance(key.docker, Planned | Limit)]
    assert not [key.field for key in TABLE if isinstance(key.process, Inspect | Network)]


def test_what_is_probed_in_a_task_is_deployed_in_it() -> None:
    """A probe without a value of its own looks at what another key of its group brings along."""
    deployed = {key.group for key in TABLE if key.container or key.task or key.network}
    assert {key.group for key in TABLE if isinstance(key.docker, Probe) or isinstance(key.process, Probe)} <= deployed


def test_the_documentation_has_the_same_table() -> None:
    """To bring it up to date: python -c 'from key_table import *; print(page(keys(Path("/host"))))' in tests/."""
    assert page(TABLE) in DOCUMENT.read_text()
