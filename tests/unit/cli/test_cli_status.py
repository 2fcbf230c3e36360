"""Status, sync, events and logs."""

from __future__ import annotations

import json

from stackd.api.control import EventsRequest, LogsRequest, SyncRequest
from stackd.api.views import EventView, LogLineView
from stackd.base.time import MINUTE, SECOND

from cli_control import a_source, a_stack, a_status
from cli_runner import NOW, Stackd

EVENT = EventView(
    seq=9,
    at="2026-05-01T11:59:00.000Z",
    kind="rollout.paused",
    subject="shop_web",
    stack="shop",
    message="1 of 3 tasks failed",
    principal="source:main",
)


def a_line(line: str, **fields: str) -> LogLineView:
    given = {"at": "2026-05-01T11:59:00.000Z", "task": "shop_web.1", "node": "east", "stream": "stdout"} | fields
    return LogLineView(line=line, **given)  # type: ignore[arg-type]  # texts all of them


def test_status_is_one_page(stackd: Stackd) -> None:
    assert stackd("status").out == (
        "Cluster    c1uster (1 node, 1 ready, leader east)\n"
        "Sync       synced\n"
        "Health     healthy\n"
        "Converged  yes\n"
        "\n"
        "SOURCE   KIND   LOCATION                                      REVISION       STATE       LAST LOOK\n"
        "main     git    https://git.example.org/ops.git@main:stacks   8c0d2e1f9a7b   converged   10 seconds ago\n"
        "\n"
        "STACK   SERVICES   SYNC     HEALTH    CONVERGED   REVISION       FILE              MESSAGE\n"
        "shop    2          synced   healthy   yes         8c0d2e1f9a7b   shop/stack.yaml\n"
    )


def test_status_json_tells_convergence_per_stack(stackd: Stackd) -> None:
    stackd.control.state = a_status(stacks=(a_stack(), a_stack("blog", converged=False)))
    document = json.loads(stackd("status", "-o", "json").out)
    assert document["kind"] == "Status"
    assert {stack["name"]: stack["converged"] for stack in document["stacks"]} == {"shop": True, "blog": False}
    assert {"sync", "health", "sources"} <= document.keys()


def test_errors_and_held_removals_of_a_source_are_explained(stackd: Stackd) -> None:
    source = a_source(error="stack.yaml has 1 error", error_code="spec.key.unknown", held_prune=("blog", "wiki"))
    stackd.control.state = a_status(sources=(source,), stacks=())
    out = stackd("status").out
    assert "Source main: error[spec.key.unknown]: stack.yaml has 1 error" in out
    assert "Source main no longer has blog, wiki; not removed yet." in out
    assert "stackd sync main --approve-prune" in out
    assert out.endswith("No stacks are deployed.\n")


def test_sync_asks_for_one_source_and_shows_the_result(stackd: Stackd) -> None:
    ended = stackd("sync", "main", "--approve-prune")
    assert ended.code == 0
    assert stackd.control.requests == [SyncRequest(source="main", approve_prune=True)]
    assert ended.out.startswith("Cluster    c1uster")


def test_a_source_that_can_not_be_used_makes_sync_fail(stackd: Stackd) -> None:
    stackd.control.state = a_status(sources=(a_source(error="no such ref", error_code="git.ref.unknown"),))
    ended = stackd("sync")
    assert ended.code == 1
    assert "error[git.ref.unknown]: source main: no such ref" in ended.err


def test_events_come_in_order_one_per_line(stackd: Stackd) -> None:
    stackd.control.event_list = (EVENT,)
    ended = stackd("events", "--stack", "shop", "--limit", "5")
    assert ended.out == ("2026-05-01T11:59:00.000Z  rollout.paused              shop_web  1 of 3 tasks failed  (source:main)\n")
    assert stackd.control.requests == [EventsRequest(limit=5, stack="shop")]


def test_followed_events_are_one_json_item_per_line(stackd: Stackd) -> None:
    stackd.control.event_list = (EVENT, EVENT)
    lines = stackd("events", "--follow", "-o", "json").out.splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["rollout.paused", "rollout.paused"]


def test_past_events_are_one_json_list(stackd: Stackd) -> None:
    stackd.control.event_list = (EVENT,)
    document = json.loads(stackd("events", "-o", "json").out)
    assert (document["kind"], len(document["items"])) == ("EventList", 1)


def test_log_lines_tell_where_they_come_from(stackd: Stackd) -> None:
    stackd.control.log_lines = (a_line("up"), a_line("oh", task="shop_web.12", stream="stderr"), a_line("ready"))
    ended = stackd("service", "logs", "shop_web")
    assert ended.out == "shop_web.1@east | up\nshop_web.1@east  | ready\n"
    assert ended.err == "shop_web.12@east | oh\n"


def test_log_lines_may_carry_their_time(stackd: Stackd) -> None:
    stackd.control.log_lines = (a_line("up"),)
    out = stackd("service", "logs", "shop_web", "--timestamps").out
    assert out == "2026-05-01T11:59:00.000Z shop_web.1@east | up\n"


def test_a_node_that_can_not_be_reached_costs_a_warning(stackd: Stackd) -> None:
    stackd.control.log_lines = (a_line("", warning="the node is away"), a_line("up"))
    ended = stackd("service", "logs", "shop_web")
    assert ended.err == "warning: shop_web.1@east: the node is away\n"
    assert ended.out == "shop_web.1@east | up\n"


def test_logs_since_a_while_or_a_time(stackd: Stackd) -> None:
    stackd("service", "logs", "shop_web", "--since", "10m", "--tail", "5", "--follow")
    stackd("service", "logs", "shop_web", "--since", "2026-05-01T11:59:00Z")
    ten_minutes, a_time = stackd.control.requests
    assert ten_minutes == LogsRequest(name="shop_web", follow=True, tail=5, since_ns=NOW - 10 * MINUTE)
    assert a_time == LogsRequest(name="shop_web", since_ns=NOW - 60 * SECOND)
    assert stackd("service", "logs", "shop_web", "--since", "yesterday").code == 64
