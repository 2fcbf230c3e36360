"""Lists of services, tasks, stacks and nodes: the exact text, and the JSON that scripts rely on."""

from __future__ import annotations

import json

import msgspec

from cli_control import a_node, a_port, a_service, a_stack, a_task
from cli_runner import Stackd


def test_services_are_listed_with_dockers_columns(stackd: Stackd) -> None:
    stackd.control.service_list = (
        a_service(ports=(a_port(),)),
        a_service("shop_agent", mode="global", replicas=1, running=0, image="probe:2", ports=(a_port(53, 53),)),
    )
    assert stackd("service", "ls").out == (
        "ID             NAME         MODE         REPLICAS   IMAGE        PORTS\n"
        "k3v5m1q0x8c2   shop_web     replicated   3/3        nginx:1.25   *:8080->80/tcp\n"
        "k3v5m1q0x8c2   shop_agent   global       0/1        probe:2      *:53->53/tcp\n"
    )


def test_of_a_job_the_completed_runs_are_counted(stackd: Stackd) -> None:
    stackd.control.service_list = (
        a_service("shop_migrate", mode="replicated-job", replicas=5, completed=2, running=1, iteration=1),
    )
    assert stackd("service", "ls").out == (
        "ID             NAME           MODE             REPLICAS        IMAGE        PORTS\n"
        "k3v5m1q0x8c2   shop_migrate   replicated-job   2/5 completed   nginx:1.25\n"
    )


def test_the_wide_form_adds_what_is_going_on(stackd: Stackd) -> None:
    stackd.control.service_list = (a_service(converged=False, health="degraded", message="no suitable node"),)
    assert "degraded   no          " in stackd("service", "ls", "-o", "wide").out


def test_names_come_one_per_line(stackd: Stackd) -> None:
    stackd.control.service_list = (a_service(), a_service("shop_db"))
    assert stackd("service", "ls", "-o", "name").out == "shop_web\nshop_db\n"


def test_json_lists_have_version_kind_and_items(stackd: Stackd) -> None:
    stackd.control.service_list = (a_service(),)
    document = json.loads(stackd("service", "ls", "-o", "json").out)
    assert (document["apiVersion"], document["kind"]) == ("stackd/v1", "ServiceList")
    assert document["items"][0]["name"] == "shop_web"
    assert document["items"][0]["rollout"] is None


def test_no_services_is_a_heading_and_nothing_else(stackd: Stackd) -> None:
    assert stackd("service", "ls").out == "ID   NAME   MODE   REPLICAS   IMAGE   PORTS\n"


def test_tasks_before_the_newest_of_a_slot_are_marked(stackd: Stackd) -> None:
    failed = a_task(
        desired_state="shutdown",
        state="failed",
        error="task: non-zero exit (1)",
        exit_code=1,
        updated_at="2026-05-01T10:00:00.000Z",
    )
    stackd.control.task_list = (a_task(), failed, a_task(2, updated_at="2026-05-01T11:59:59.000Z"))
    stackd.control.service_list = (a_service(ports=(a_port(mode="host"),)),)
    assert stackd("service", "ps", "shop_web").out == (
        "ID             NAME             IMAGE        NODE   DESIRED STATE   CURRENT STATE"
        "           ERROR                       PORTS\n"
        "1aaaabbbbccc   shop_web.1       nginx:1.25   east   Running         Running 5 minutes ago"
        "                               *:8080->80/tcp\n"
        "1aaaabbbbccc    \\_ shop_web.1   nginx:1.25   east   Shutdown        Failed 2 hours ago"
        '      "task: non-zero exit (1)"\n'
        "2aaaabbbbccc   shop_web.2       nginx:1.25   east   Running         Running 1 second ago"
        "                                *:8080->80/tcp\n"
    )


def test_long_errors_are_cut_unless_asked_for(stackd: Stackd) -> None:
    error = "starting container failed: " + "x" * 100
    stackd.control.task_list = (a_task(state="rejected", error=error),)
    assert error not in stackd("service", "ps", "shop_web").out
    assert error in stackd("service", "ps", "shop_web", "--no-trunc").out


def test_a_task_that_waits_for_a_node_says_why(stackd: Stackd) -> None:
    stackd.control.task_list = (a_task(state="pending", node="", message="no suitable node (3 nodes not available)"),)
    assert '"no suitable node (3 nodes not available)"' in stackd("service", "ps", "shop_web").out


def test_task_items_have_the_promised_fields(stackd: Stackd) -> None:
    stackd.control.task_list = (a_task(),)
    item = json.loads(stackd("service", "ps", "shop_web", "-o", "json").out)["items"][0]
    promised = (
        "id name service slot node image desired_state state message error exit_code spec_version container_id pid updated_at"
    )
    assert set(promised.split()) <= item.keys()


def test_history_can_be_left_out(stackd: Stackd) -> None:
    stackd.control.task_list = (a_task(), a_task(desired_state="shutdown", state="failed"))
    assert len(stackd("stack", "ps", "shop", "--no-history", "-o", "name").out.splitlines()) == 1


def test_stacks_tell_source_and_convergence(stackd: Stackd) -> None:
    stackd.control.stack_list = (a_stack(), a_stack("blog", source="", converged=False, health="progressing"))
    assert stackd("stack", "ls").out == (
        "NAME   SERVICES   SOURCE   SYNC     HEALTH        CONVERGED\n"
        "shop   2          main     synced   healthy       yes\n"
        "blog   2                   synced   progressing   no\n"
    )


def test_nodes_are_listed_with_a_star_for_the_one_that_answers(stackd: Stackd) -> None:
    stackd.control.node_list = (a_node(), a_node(id="w" * 25, hostname="west", self_=False, manager_status=""))
    assert stackd("node", "ls").out == (
        "ID               HOSTNAME   STATUS   AVAILABILITY   MANAGER STATUS   ENGINE VERSION\n"
        "n0de5m1q0x8c *   east       Ready    Active         Leader           20.10.24\n"
        "wwwwwwwwwwww     west       Ready    Active                          20.10.24\n"
    )
    assert "docker,process   2      8GiB     linux/x86_64   disk=ssd" in stackd("node", "ls", "-o", "wide").out


def test_inspect_shows_one_page_without_what_is_unset(stackd: Stackd) -> None:
    stackd.control.service_list = (a_service(),)
    out = stackd("service", "inspect", "shop_web").out
    assert "Replicas:         3/3 running, 3 up to date\n" in out
    assert "Frozen" not in out
    assert out.endswith("Spec:\n container:\n  image: nginx:1.25\n")


def test_inspect_as_json_keeps_everything(stackd: Stackd) -> None:
    stackd.control.service_list = (a_service(),)
    document = json.loads(stackd("service", "inspect", "shop_web", "-o", "json").out)
    assert document["kind"] == "Service"
    assert document["service"] == msgspec.to_builtins(a_service()) | {"ports": []}
