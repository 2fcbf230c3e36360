"""Changes of one service by hand: what is sent, and that the command waits for the outcome."""

from __future__ import annotations

import pytest
from stackd.api.control import NameRequest, ScaleRequest, UpdateRequest

from cli_control import a_rollout, a_service
from cli_runner import Stackd


@pytest.fixture
def shop(stackd: Stackd) -> Stackd:
    stackd.control.service_list = (a_service(), a_service("shop_db"))
    stackd.control.pushed = ([a_service(), a_service("shop_db")],)
    return stackd


def test_scale_sends_each_target_and_waits(shop: Stackd) -> None:
    ended = shop("service", "scale", "shop_web=5", "shop_db=1", "--override")
    assert (ended.code, ended.out) == (0, "shop_web converged\nshop_db converged\n")
    assert shop.control.requests[1:3] == [
        ScaleRequest(name="shop_web", replicas=5, override=True),
        ScaleRequest(name="shop_db", replicas=1, override=True),
    ]


@pytest.mark.parametrize("target", ["shop_web", "shop_web=", "=3", "shop_web=many", "shop_web=-1"])
def test_a_bad_scale_target_is_wrong_usage(shop: Stackd, target: str) -> None:
    assert shop("service", "scale", "--", target).code == 64
    assert shop.control.requests == []


def test_update_sends_only_what_was_given(shop: Stackd) -> None:
    shop("service", "update", "shop_web", "--image", "nginx:1.26", "--env-add", "A=1", "--env-rm", "B", "--detach")
    assert shop.control.requests[1] == UpdateRequest(name="shop_web", image="nginx:1.26", env_add=("A=1",), env_remove=("B",))


def test_an_update_of_nothing_is_wrong_usage(shop: Stackd) -> None:
    assert shop("service", "update", "shop_web").code == 64
    assert shop("service", "update", "shop_web", "--env-add", "novalue").code == 64


def test_an_update_that_fails_ends_with_5(shop: Stackd) -> None:
    shop.control.pushed = ([a_service(rollout=a_rollout("paused"))],)
    assert shop("service", "update", "shop_web", "--force").code == 5


def test_a_rollback_that_succeeds_ends_with_0(shop: Stackd) -> None:
    shop.control.pushed = ([a_service(rollout=a_rollout("rollback_completed"))],)
    ended = shop("service", "rollback", "shop_web")
    assert (ended.code, ended.out) == (0, "shop_web converged\n")
    assert shop.control.requests[1] == NameRequest(name="shop_web")


def test_removing_names_what_was_removed(shop: Stackd) -> None:
    assert shop("service", "rm", "shop_web", "shop_db").out == "shop_web\nshop_db\n"
    assert shop("stack", "rm", "shop").out == "shop\n"


def test_an_unknown_service_is_an_error(shop: Stackd) -> None:
    ended = shop("service", "scale", "shop_nothing=1")
    assert ended.code == 1
    assert ended.err == 'error[service.unknown]: no service named "shop_nothing"\n'
