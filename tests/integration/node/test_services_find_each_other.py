"""Services of a stack reach each other by name, and settings are filled in for each task."""

from __future__ import annotations

from node import RunningNode

STACK = """
services:
  web:
    image: python:3-alpine
    command: [python3, -m, http.server, "8000"]
    networks: [front]
  client:
    image: python:3-alpine
    command: [sh, -c, 'test "$$PEER" = "http://web:8000/#shop_client-1" && exec sleep 1000']
    environment:
      PEER: "http://web:8000/#{{.Service.Name}}-{{.Task.Slot}}"
    healthcheck:
      test: [CMD, python3, -c, "import os, urllib.request as r; r.urlopen(os.environ['PEER'], timeout=2).read()"]
      interval: 200ms
      retries: 100
    networks: [front, back]
networks:
  front: {}
  back: {}
"""


def test_a_service_is_reached_by_its_name_on_a_network_that_it_shares(node: RunningNode) -> None:
    """The client only counts as running once it has reached the web server."""
    node.write("shop/stack.yaml", STACK)
    node.converged("shop_web", "shop_client")
