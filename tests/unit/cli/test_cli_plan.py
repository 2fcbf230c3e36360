"""The plan: what a person reads, what a merge request shows, what a script decides on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from stackd.api.views import ChangeView, PlanStepView, PlanView

from cli_control import a_plan, a_service_plan
from cli_runner import Stackd

SHOP = """\
name: shop
services:
  web:
    image: nginx:1.26
    deploy:
      replicas: 4
      update_config: {delay: 10s}
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "shop.yaml").write_text(SHOP)
    monkeypatch.chdir(tmp_path)
    return "shop.yaml"


def a_rolling_plan() -> PlanView:
    return a_plan(
        a_service_plan(
            changes=(
                ChangeView(field="replicas", before="3", after="4"),
                ChangeView(field="update.delay_ns", before="0", after="10000000000"),
                ChangeView(field="container.image", before="nginx:1.25", after="nginx:1.26"),
            ),
            steps=(
                PlanStepView(at_seconds=0.0, action="created", task="shop_web.1", node="east", reason=""),
                PlanStepView(at_seconds=0.3, action="stopped", task="shop_web.1", node="east", reason="the new one is ready"),
                PlanStepView(at_seconds=0.7, action="running", task="shop_web.1", node="east", reason=""),
            ),
            replaced=3,
            created=4,
            removed=3,
            lowest_running=2,
            wanted=4,
            duration_seconds=100.0,
            placement={"west": 2, "east": 2},
        ),
        a_service_plan("shop_cache", "create", created=1, duration_seconds=0.7, placement={"east": 1}),
        a_service_plan("shop_cron", "remove", removed=1, duration_seconds=0.3),
        a_service_plan("shop_db", "unchanged"),
    )


GOLDEN = """\
~ update shop_web
    deploy.replicas             3 -> 4                    shop.yaml:6
    deploy.update_config.delay  0.0s -> 10s               shop.yaml:7
    image                       nginx:1.25 -> nginx:1.26  shop.yaml:4
    placement  east 2, west 2
       0.0s  shop_web.1 created on east
       0.3s  shop_web.1 stopped on east (the new one is ready)
       0.7s  shop_web.1 running on east
    tasks: 3 replaced, 1 created; never below 2 of 4 running; about 1m40s without image pulls

+ create shop_cache
    placement  east 1
    tasks: 1 created; about 0.7s without image pulls

- remove shop_cron
    tasks: 1 removed; about 0.3s without image pulls

Plan: 1 to create, 1 to update, 1 to remove, 1 unchanged.
"""


def test_a_plan_shows_changes_with_their_lines_and_what_they_do(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_rolling_plan()
    ended = stackd("plan", "-f", shop)
    assert ended.code == 0
    assert ended.out == GOLDEN


def test_only_the_first_steps_are_shown_unless_all_are_asked_for(stackd: Stackd, shop: str) -> None:
    steps = tuple(
        PlanStepView(at_seconds=float(second), action="running", task=f"shop_web.{second}", node="east", reason="")
        for second in range(20)
    )
    stackd.control.planned = a_plan(a_service_plan(steps=steps))
    assert "and 8 more steps" in stackd("plan", "-f", shop).out
    wide = stackd("plan", "-f", shop, "-o", "wide").out
    assert "shop_web.19 running" in wide
    assert "more steps" not in wide


def test_exit_code_2_tells_changes_only_when_asked(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_rolling_plan()
    assert stackd("plan", "-f", shop, "--exit-code").code == 2
    assert stackd("plan", "-f", shop).code == 0
    stackd.control.planned = a_plan(a_service_plan(action="unchanged"))
    assert stackd("plan", "-f", shop, "--exit-code").code == 0


def test_nothing_to_do_is_one_line(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(a_service_plan(action="unchanged"))
    assert stackd("plan", "-f", shop).out == "No changes: 1 unchanged.\n"


def test_json_has_the_fields_of_the_file_and_their_places(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_rolling_plan()
    document = json.loads(stackd("plan", "-f", shop, "-o", "json").out)
    assert document["kind"] == "Plan"
    change = document["services"][0]["changes"][2]
    assert (change["field"], change["file"], change["line"], change["column"]) == ("image", "shop.yaml", 4, 12)


def test_markdown_begins_with_the_summary(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_rolling_plan()
    lines = stackd("plan", "-f", shop, "-o", "markdown").out.splitlines()
    assert lines[0] == "**Plan: 1 to create, 1 to update, 1 to remove, 1 unchanged.**"
    assert "#### ~ update shop_web" in lines


def test_a_plan_that_does_not_fit_ends_with_3(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(a_service_plan(blocked="no suitable node (insufficient memory on 1 node)"))
    ended = stackd("plan", "-f", shop)
    assert ended.code == 3
    assert "blocked    no suitable node" in ended.out
    assert "error[plan.blocked]: shop_web: no suitable node" in ended.err


def test_a_plan_that_would_be_refused_ends_with_3(stackd: Stackd, shop: str) -> None:
    stackd.control.planned = a_plan(refused="stack shop belongs to source main", refused_hint="edit shop/stack.yaml")
    ended = stackd("plan", "-f", shop)
    assert (ended.code, ended.out) == (3, "Refused: stack shop belongs to source main\n")
    assert "hint: edit shop/stack.yaml" in ended.err
