"""Waiting for threads that Python knows nothing of."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from themis_client import native_threads


@pytest.fixture
def tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(native_threads, "TASKS", tmp_path)
    return tmp_path


def thread(tasks: Path, number: int, name: str) -> None:
    (tasks / str(number)).mkdir()
    (tasks / str(number) / "comm").write_text(f"{name}\n")


def test_others_are_not_waited_for(tasks: Path) -> None:
    thread(tasks, 1, "python")
    thread(tasks, 2, "pt_autograd_0")
    assert native_threads.wait_for_grpc(0.0)


def test_grpcs_own_are_waited_for_but_not_for_ever(tasks: Path) -> None:
    thread(tasks, 1, "event_engine")
    assert not native_threads.wait_for_grpc(0.01)


def test_it_returns_when_they_are_gone(tasks: Path) -> None:
    thread(tasks, 1, "grpc_global_tim")
    leaving = threading.Thread(target=(tasks / "1" / "comm").unlink)
    leaving.start()
    assert native_threads.wait_for_grpc(60.0)
    leaving.join()


def test_where_threads_can_not_be_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_threads, "TASKS", Path("/nowhere"))
    assert native_threads.wait_for_grpc(0.0)
