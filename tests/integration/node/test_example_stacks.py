"""The stacks in examples/stacks run as their READMEs tell."""

from __future__ import annotations

import shutil
import urllib.error
import urllib.request
from base64 import b64encode
from pathlib import Path

from node import RunningNode, free_port, http

EXAMPLES = Path(__file__).parents[3] / "examples" / "stacks"
SERVICES = ("agent_probe", "broken_web", "hello_web", "web_server", "work_worker")


def _take_over(node: RunningNode, ports: dict[str, str]) -> None:
    """Make the examples the node's source, on other ports: theirs may be taken on this machine."""
    for example in sorted(EXAMPLES.iterdir()):
        text = (example / "stack.yaml").read_text()
        for before, after in ports.items():
            text = text.replace(before, after)
        (node.source / example.name).mkdir()
        for file in example.iterdir():
            if file.name != "stack.yaml":
                shutil.copy(file, node.source / example.name)
                (node.source / example.name / file.name).chmod(0o644)
        node.write(f"{example.name}/stack.yaml", text)


def _rename(node: RunningNode, before: str, after: str) -> None:
    stack = node.source / "broken-update" / "stack.yaml"
    node.write("broken-update/stack.yaml", stack.read_text().replace(f"RELEASE: {before}", f"RELEASE: {after}"))


def test_all_examples_deploy_and_the_broken_update_rolls_back_and_is_not_tried_again(node: RunningNode) -> None:
    hello, web = free_port(), free_port()
    _take_over(node, {'"8080:8080"': f'"{hello}:8080"', '"8081:80"': f'"{web}:80"'})
    node.converged(*SERVICES)
    node.eventually(lambda: http(hello) == "Hello from stackd\n", "hello answers")
    assert _ask(web, "me:open sesame") == (200, "Hello, you know the password")
    assert _ask(web, "me:a guess")[0] == 401
    before = node.tasks("broken_web")
    others = [node.tasks(name) for name in ("agent_probe", "hello_web", "web_server")]

    with node.watching() as seen:
        _rename(node, "good", "bad")
        node.until(
            lambda services: (
                (rollout := services["broken_web"].rollout) is not None
                and rollout.state == "rollback_completed"
                and services["broken_web"].converged
            ),
            "the update is rolled back",
        )

    assert min(services["broken_web"].running for services in seen if "broken_web" in services) == 2
    after = node.tasks("broken_web")
    (failed,) = [task for task in node.history("broken_web") if task.exit_code == 1]
    assert [task.id for task in after if task.slot != failed.slot] == [task.id for task in before if task.slot != failed.slot]
    assert f"\\_ broken_web.{failed.slot}" in node.cli("service", "ps", "broken_web").out
    node.eventually(lambda: node.status().sources[0].state == "rolled_back", "the status says so")

    assert node.cli("sync").code == 0
    assert [task.id for task in node.tasks("broken_web")] == [task.id for task in after]
    _rename(node, "bad", "good")
    node.eventually(lambda: node.status().sources[0].state == "converged", "the repaired revision is true")
    assert [task.id for task in node.tasks("broken_web")] == [task.id for task in after]
    assert [node.tasks(name) for name in ("agent_probe", "hello_web", "web_server")] == others


def test_a_normal_user_runs_all_examples_but_the_one_that_needs_root_which_says_so(plain_node: RunningNode) -> None:
    hello = free_port()
    _take_over(plain_node, {"8080": str(hello)})
    rest = [name for name in SERVICES if name != "web_server"]
    services = plain_node.until(
        lambda services: all(services[name].converged for name in rest), "all but web_server have converged"
    )
    plain_node.eventually(lambda: http(hello) == "Hello from stackd\n", "hello answers")
    (task,) = plain_node.tasks("web_server")
    assert (task.state, services["web_server"].health) == ("pending", "degraded")
    assert "published ports have to equal target ports" in task.error
    assert task.error in services["web_server"].message


def _ask(port: int, login: str) -> tuple[int, str]:
    """The web example's answer to this login."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/")
    request.add_header("Authorization", f"Basic {b64encode(login.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, answer.read().decode().strip()
    except urllib.error.HTTPError as error:
        return error.code, ""
