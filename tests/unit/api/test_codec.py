"""Messages and errors on the wire."""

from __future__ import annotations

import inspect

import pytest
from stackd.api import codec
from stackd.api.client import Client
from stackd.api.control import METHODS, ApplyRequest, ControlHandler, Failure, ListRequest, Method
from stackd.api.server import handler_name
from stackd.base.errors import NotFound, Position, Problem, Refused, SpecErrors, StackdError, Unavailable
from stackd.spec.stack import ContainerSpec, ServiceSpec, StackSpec, TaskSpec


def test_a_whole_stack_survives_the_wire() -> None:
    service = ServiceSpec(name="web", task=TaskSpec(container=ContainerSpec(image="i", env=("A=1",))))
    request = ApplyRequest(stacks=(StackSpec(name="shop", services=(service,)),), files=("shop.yaml",))
    assert codec.decode(codec.encode(request), ApplyRequest) == request


def test_fields_of_a_newer_peer_are_ignored_and_missing_ones_get_their_default() -> None:
    wire = codec.encode({"stack": "shop", "added_later": 1})
    assert codec.decode(wire, ListRequest) == ListRequest(stack="shop")


@pytest.mark.parametrize("wire", [b"", b"\xc1", codec.encode([1]), codec.encode({"stack": 1})])
def test_anything_else_is_malformed(wire: bytes) -> None:
    with pytest.raises(StackdError) as caught:
        codec.decode(wire, ListRequest)
    assert caught.value.code == "api.message.malformed"


@pytest.mark.parametrize("kind", [StackdError, Refused, NotFound, Unavailable])
def test_an_error_comes_out_as_the_class_it_was(kind: type[StackdError]) -> None:
    error = codec.error_of(codec.failure_of(kind("deploy.owned", "it is owned", hint="edit the file")))
    assert type(error) is kind
    assert (error.code, error.message, error.hint) == ("deploy.owned", "it is owned", "edit the file")


def test_an_error_keeps_the_place_it_is_about() -> None:
    problem = Problem("spec.key.unknown", "unknown key", position=Position("shop.yaml", 6, 7, text="replcas: 3"))
    error = codec.error_of(codec.failure_of(SpecErrors([problem])))
    assert str(error) == "shop.yaml:6:7: error[spec.key.unknown]: unknown key"


def test_an_error_of_a_kind_from_the_future_is_still_an_error() -> None:
    error = codec.error_of(Failure(kind="postponed", code="x.y", message="later"))
    assert type(error) is StackdError
    assert error.code == "x.y"


def test_a_very_long_message_is_cut_to_what_metadata_can_carry() -> None:
    failure = codec.failure_of(StackdError("x.y", "m" * 100_000, hint="h" * 100_000))
    assert len(codec.encode(failure)) < 8192


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_handlers_and_client_have_every_method_of_the_table(method: Method) -> None:
    name = handler_name(method)
    assert inspect.isfunction(getattr(ControlHandler, name))
    assert inspect.isfunction(getattr(Client, name))
