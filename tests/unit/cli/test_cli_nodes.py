"""The node group: how nodes are named, changed and waited for."""

from __future__ import annotations

import json

import pytest
from stackd.api.cluster import RemoveNodeRequest, UpdateNodeRequest
from stackd.api.control import ListRequest
from stackd.base.errors import Refused, Unavailable
from stackd.cli import settling
from stackd.engine.parts import Availability, Role

from cli_control import a_local_node, a_node, a_task
from cli_runner import Stackd

EAST = a_node()
WEST = a_node(id="w" * 25, hostname="west", self_=False, role="worker", manager_status="", certificate_role="worker", tasks=0)
JOINING = a_node(id="w" * 25, hostname="west", role="manager", manager_status="", certificate_role="worker")
JOINED = a_node(id="w" * 25, hostname="west", role="manager", manager_status="reachable", certificate_role="manager")


@pytest.fixture(autouse=True)
def nodes(stackd: Stackd, monkeypatch: pytest.MonkeyPatch) -> None:
    stackd.control.node_list = (EAST, WEST)
    monkeypatch.setattr(settling, "LOOK_SECONDS", 0.0)


def updates(stackd: Stackd) -> list[UpdateNodeRequest]:
    return [request for request in stackd.control.requests if isinstance(request, UpdateNodeRequest)]


def test_the_star_marks_the_node_that_was_asked_whoever_leads(stackd: Stackd) -> None:
    stackd.control.answering = WEST.id
    _, east, west = stackd("node", "ls").out.splitlines()
    assert "*" not in east
    assert west.startswith("wwwwwwwwwwww *")
    items = json.loads(stackd("node", "ls", "-o", "json").out)["items"]
    assert [item["self"] for item in items] == [False, True]


@pytest.mark.parametrize("name", ["east", "n0de5m1q", "n0de5m1q0x8c2z7b4n6a9s1d3", "self"])
def test_a_node_is_named_by_hostname_by_id_by_its_beginning_or_as_the_one_that_answers(stackd: Stackd, name: str) -> None:
    assert "Hostname:         east\n" in stackd("node", "inspect", name).out


def test_a_node_nobody_knows_and_one_that_could_be_two_are_refused(stackd: Stackd) -> None:
    assert "error[node.unknown]" in stackd("node", "inspect", "north").err
    stackd.control.node_list = (EAST, a_node(id="x" * 25))
    ended = stackd("node", "inspect", "east")
    assert ended.code == 3
    assert "error[node.ambiguous]" in ended.err


def test_a_node_is_shown_on_one_page(stackd: Stackd) -> None:
    stackd.control.node_list = (a_node(certificate_role="worker", certificate_until="2026-07-30T12:00:00.000Z"),)
    page = stackd("node", "inspect").out
    for line in (
        "Status:           Ready",
        "Role:             worker, becoming manager",
        "Manager status:   Leader",
        "Labels:           disk=ssd",
        "Certificate:      good for 3 months",
    ):
        assert f"{line}\n" in page


def test_the_tasks_of_a_node_are_asked_for_by_its_id(stackd: Stackd) -> None:
    stackd.control.task_list = (a_task(),)
    assert "shop_web.1" in stackd("node", "ps", "west", "--no-history").out
    assert ListRequest(node=WEST.id, history=False) in stackd.control.requests


def test_draining_waits_until_nothing_runs_there(stackd: Stackd) -> None:
    tasks = [a_task(), a_task(2, state="shutdown")]
    stackd.control.task_list = tasks

    def stop(_seconds: float) -> None:
        tasks[0] = a_task(state="shutdown")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(settling.time, "sleep", stop)
        ended = stackd("node", "update", "--availability", "drain", "west")
    assert (ended.code, ended.out, ended.err) == (0, "west\n", "west: 1 task left\nwest: drained\n")
    assert updates(stackd) == [UpdateNodeRequest(name=WEST.id, availability=Availability.DRAIN)]


def test_waiting_ends_in_time_and_what_was_asked_for_goes_on(stackd: Stackd) -> None:
    stackd.control.task_list = (a_task(),)
    ended = stackd("node", "update", "--availability", "drain", "west", "--timeout", "1ms")
    assert ended.code == 4
    assert "hint: it goes on; `stackd node ls` shows it, and" in ended.err


def test_labels_are_added_and_removed(stackd: Stackd) -> None:
    assert (
        stackd("node", "update", "--label-add", "disk=ssd", "--label-add", "gpu", "--label-rm", "old", "west").out == "west\n"
    )
    assert updates(stackd) == [UpdateNodeRequest(name=WEST.id, labels={"disk": "ssd", "gpu": ""}, labels_removed=("old",))]


def test_an_update_of_nothing_is_an_error_of_usage(stackd: Stackd) -> None:
    assert stackd("node", "update", "west").code == 64


def test_promoting_waits_until_the_node_takes_part(stackd: Stackd) -> None:
    stackd.control.looks = [(EAST, WEST), (EAST, JOINING), (EAST, JOINED)]
    ended = stackd("node", "promote", "west")
    assert (ended.out, ended.err) == ("west is a manager\n", "west: becoming a manager\nwest: manager\n")
    assert updates(stackd) == [UpdateNodeRequest(name=WEST.id, role=Role.MANAGER)]


def test_several_nodes_are_demoted_one_after_the_other(stackd: Stackd) -> None:
    east = a_node(role="worker", manager_status="", certificate_role="worker")
    stackd.control.node_list = (east, WEST)
    assert stackd("node", "demote", "east", "west").out == "east is a worker\nwest is a worker\n"
    places = [place for place, request in enumerate(stackd.control.requests) if isinstance(request, UpdateNodeRequest)]
    assert "nodes" in stackd.control.requests[places[0] : places[1]]


def test_a_demoted_node_that_is_away_need_not_have_heard(stackd: Stackd) -> None:
    gone = a_node(role="worker", manager_status="", certificate_role="manager", state="down")
    stackd.control.node_list = (gone,)
    assert stackd("node", "demote", "east", "--timeout", "1s").code == 0


def test_the_node_that_answers_may_demote_itself_and_is_waited_for(stackd: Stackd) -> None:
    control = stackd.control
    control.answering = EAST.id
    here = [a_local_node("manager", message="changing its role"), a_local_node("worker")]

    def refuse() -> object:
        raise Refused("daemon.not_a_manager", "this node is a worker")

    def update(_request: UpdateNodeRequest) -> object:
        control.version = control.nodes = refuse  # type: ignore[method-assign, assignment]
        return EAST

    control.update_node = update  # type: ignore[method-assign, assignment]
    control.local_node = lambda: here.pop(0)  # type: ignore[method-assign]
    assert stackd("node", "demote", "self").out == "east is a worker\n"
    assert here == []


def test_a_refusal_is_no_success_for_another_node(stackd: Stackd) -> None:
    def refuse(_request: ListRequest) -> object:
        raise Refused("api.access.denied", "not allowed any more")

    stackd.control.tasks = refuse  # type: ignore[method-assign, assignment]
    assert stackd("node", "update", "--availability", "drain", "west").code == 3


def test_a_quorum_at_risk_is_refused_in_the_managers_words(stackd: Stackd) -> None:
    def refuse(_request: UpdateNodeRequest) -> object:
        raise Refused("node.demote.quorum", "they could not agree on anything", hint="bring the others back first")

    stackd.control.update_node = refuse  # type: ignore[method-assign, assignment]
    ended = stackd("node", "demote", "east")
    assert ended.code == 3
    assert ended.err == "error[node.demote.quorum]: they could not agree on anything\n  hint: bring the others back first\n"


def test_a_manager_that_does_not_answer_is_asked_again(stackd: Stackd) -> None:
    answers = [Unavailable("manager.no_leader", "nobody leads"), None]
    nodes = stackd.control.nodes

    def now_and_then() -> object:
        asked = stackd.control.requests.count("nodes")
        if asked == 1 and (failure := answers.pop(0)) is not None:
            raise failure
        return nodes()

    stackd.control.looks = [(EAST, WEST), (EAST, JOINED)]
    stackd.control.nodes = now_and_then  # type: ignore[method-assign, assignment]
    assert stackd("node", "promote", "west").code == 0
    assert not [one for one in answers if one]


def test_nodes_are_removed_by_id(stackd: Stackd) -> None:
    assert stackd("node", "rm", "--force", "west").out == "west\n"
    assert stackd.control.requests[-1] == RemoveNodeRequest(name=WEST.id, force=True)
