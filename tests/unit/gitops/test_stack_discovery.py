from __future__ import annotations

from stackd.gitops.discovery import StackFile, find_stack_files


def names(*paths: str, root_name: str = "infra") -> dict[str, str]:
    found, problems = find_stack_files(paths, root_name)
    assert not problems
    return {file.path: file.name for file in found}


def test_a_file_in_the_root_is_a_stack_named_after_itself() -> None:
    assert names("shop.yaml", "blog.yml") == {"shop.yaml": "shop", "blog.yml": "blog"}


def test_a_stack_file_in_a_folder_is_named_after_the_folder() -> None:
    assert names("shop/stack.yaml", "stacks/blog/compose.yml", "a/b/c/docker-compose.yaml") == {
        "shop/stack.yaml": "shop",
        "stacks/blog/compose.yml": "blog",
        "a/b/c/docker-compose.yaml": "c",
    }


def test_a_stack_file_in_the_root_is_named_after_the_source() -> None:
    assert names("stack.yaml") == {"stack.yaml": "infra"}


def test_other_yaml_below_the_root_is_no_stack() -> None:
    assert names("shop/stack.yaml", "shop/nginx.yaml", "shop/override.yml") == {"shop/stack.yaml": "shop"}


def test_hidden_files_and_folders_do_not_count() -> None:
    assert names(".github/stack.yaml", "a/.b/compose.yaml", ".hidden.yaml", "notes.txt") == {}


def test_two_stack_files_in_one_folder_are_a_problem() -> None:
    found, problems = find_stack_files(["shop/docker-compose.yml", "shop/stack.yaml"], "infra")
    assert found == (StackFile("shop/docker-compose.yml", "shop"),)
    assert [problem.code for problem in problems] == ["source.stack.ambiguous"]
    assert "shop/stack.yaml" in problems[0].message


def test_the_order_of_the_files_does_not_matter() -> None:
    assert find_stack_files(["b.yaml", "a.yaml"], "x") == find_stack_files(["a.yaml", "b.yaml"], "x")


def test_a_name_that_cannot_be_shown_is_a_problem() -> None:
    found, problems = find_stack_files(["bad\udcff/stack.yaml", "bad\n.yaml"], "infra")
    assert not found
    assert [problem.code for problem in problems] == ["source.path.bad"] * 2
    assert all(problem.message.isprintable() for problem in problems)
