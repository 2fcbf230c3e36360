"""What a task's settings and files become on its node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from stackd.agent.executor.base import TaskContext
from stackd.agent.expand import content_of, expanded
from stackd.base.errors import TaskFault
from stackd.base.ids import BlobDigest
from stackd.engine.parts import NodeDescription
from stackd.spec.stack import ContainerSpec, FileRef, GenericResource, Mount, MountType

from docker_builders import a_context

NODE = NodeDescription(hostname="host-1", os="linux", arch="x86_64")


def filled(**container: Any) -> ContainerSpec:
    return expanded(a_context(**container), NODE).spec.container


def a_task(*, files: Mapping[str, bytes], slot: int = 3, **more: Any) -> TaskContext:
    context = a_context(files=files, **more)
    assignment = msgspec.structs.replace(context.assignment, slot=slot, service_labels=(("tier", "front"),))
    return TaskContext(assignment, context.spec, context.files)


def a_template(name: str) -> FileRef:
    return FileRef(source=name, target=name, digest=BlobDigest(name), template="golang")


def test_every_value_of_the_context_can_be_named() -> None:
    context = a_task(files={}, env=("A={{.Service.ID}} {{.Service.Name}} {{.Service.Labels.tier}}", "B={{.Node.ID}}"))
    env = expanded(context, NODE).spec.container.env
    assert env == (f"A={context.assignment.service_id} shop_web front", f"B={context.assignment.node_id}")
    (node,) = filled(env=("A={{.Node.Hostname}} {{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}",)).env
    assert node == "A=host-1 linux/x86_64"


def test_task_slot_in_a_volumes_source_gives_each_slot_its_own() -> None:
    mount = Mount(type=MountType.VOLUME, source="data-{{.Task.Slot}}", target="/data/{{.Task.Slot}}")
    sources = {
        expanded(a_task(files={}, slot=slot, mounts=(mount,)), NODE).spec.container.mounts[0].source for slot in (1, 2, 3)
    }
    assert sources == {"data-1", "data-2", "data-3"}


def test_the_slot_of_a_global_task_is_its_node() -> None:
    context = a_task(files={}, slot=0, hostname="{{.Task.Slot}}")
    assert expanded(context, NODE).spec.container.hostname == context.assignment.node_id


def test_labels_and_options_of_volumes_are_filled_in_too() -> None:
    mount = Mount(
        type=MountType.VOLUME,
        source="v",
        target="/v",
        labels=(("of", "{{.Service.Name}}"),),
        driver_options=(("device", ":/{{.Task.Slot}}"),),
    )
    (made,) = expanded(a_task(files={}, mounts=(mount,)), NODE).spec.container.mounts
    assert (made.labels, made.driver_options) == ((("of", "shop_web"),), (("device", ":/3"),))


def test_command_image_labels_and_names_of_variables_are_taken_as_they_are() -> None:
    made = filled(command=("{{.X}}",), labels=(("a", "{{.X}}"),), env=("{{.X}}=1", "BARE"))
    assert (made.command, made.labels, made.env) == (("{{.X}}",), (("a", "{{.X}}"),), ("{{.X}}=1", "BARE"))


@pytest.mark.parametrize("container", [{"env": ("A={{.Nothing}}",)}, {"hostname": "{{"}])
def test_what_can_not_be_filled_in_is_a_fault_that_says_where(container: dict[str, Any]) -> None:
    with pytest.raises(TaskFault, match=r"(A|hostname): template: ") as fault:
        filled(**container)
    assert fault.value.code == "agent.template"


def test_generic_resources_are_told_in_the_environment() -> None:
    context = a_context(env=("A=1",))
    given = (GenericResource(kind="gpu", names=("g1", "g2")), GenericResource(kind="ssd", amount=3))
    context = TaskContext(msgspec.structs.replace(context.assignment, generic=given), context.spec, {})
    assert expanded(context, NODE).spec.container.env == ("A=1", "DOCKER_RESOURCE_GPU=g1,g2", "DOCKER_RESOURCE_SSD=3")


def test_a_content_without_a_template_is_given_byte_by_byte() -> None:
    ref = FileRef(source="c", target="c", digest=BlobDigest("c"))
    context = a_task(files={"c": b"{{.X}}\xff"}, configs=(ref,))
    content = content_of(context, ref, NODE)
    assert content is not None
    assert (content.data, content.secret) == (b"{{.X}}\xff", False)


def test_a_templated_config_can_name_what_the_task_has_and_nothing_else() -> None:
    conf, other, key = a_template("conf"), FileRef(source="o", target="other", digest=BlobDigest("o")), a_template("key")
    text = b'{{.Service.Name}} {{env "A"}} {{env "NO"}} {{config "other"}} \xff'
    context = a_task(files={"conf": text, "o": b"O", "key": b"K"}, configs=(conf, other), secrets=(key,), env=("A=1",))
    content = content_of(context, conf, NODE)
    assert content is not None
    assert (content.data, content.secret) == (b"shop_web 1  O \xff", False)
    foreign = a_task(files={"conf": b'{{config "absent"}}'}, configs=(conf,))
    with pytest.raises(TaskFault, match="the task has no config with this target"):
        content_of(foreign, conf, NODE)


def test_a_config_that_tells_a_secret_is_one() -> None:
    conf, key = a_template("conf"), FileRef(source="key", target="key", digest=BlobDigest("key"))
    context = a_task(files={"conf": b'pw={{secret "key"}}', "key": b"K"}, configs=(conf,), secrets=(key,))
    content = content_of(context, conf, NODE)
    assert content is not None
    assert (content.data, content.secret) == (b"pw=K", True)


def test_a_template_waits_for_the_contents_it_names() -> None:
    conf, key = a_template("conf"), FileRef(source="key", target="key", digest=BlobDigest("key"))
    assert content_of(a_task(files={"conf": b'{{secret "key"}}'}, configs=(conf,), secrets=(key,)), conf, NODE) is None
    assert content_of(a_task(files={}, configs=(conf,)), conf, NODE) is None


def test_the_fault_of_a_secrets_template_quotes_nothing_of_it() -> None:
    key = a_template("key")
    with pytest.raises(TaskFault) as fault:
        content_of(a_task(files={"key": b"{{hunter2}}"}, secrets=(key,)), key, NODE)
    assert "hunter2" not in fault.value.message


def test_an_unknown_template_engine_is_a_fault() -> None:
    ref = FileRef(source="c", target="c", digest=BlobDigest("c"), template="jinja")
    with pytest.raises(TaskFault, match="no template engine jinja"):
        content_of(a_task(files={"c": b""}, configs=(ref,)), ref, NODE)
