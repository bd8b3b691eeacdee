"""Which services `up` runs: one model or one device a process, and no more copies of TensorFlow than pay."""

import sys
from types import SimpleNamespace

import pytest

from worker import bootstrap
from worker.config import Settings
from worker.supervision.plan import default_services
from worker.supervision.service import Service


def classifying(services: tuple[Service, ...]) -> list[Service]:
    return [service for service in services if service.name.startswith("inference")]


def test_the_services_of_up_in_the_order_they_are_drained() -> None:
    services = default_services()
    assert [service.name for service in services] == ["listener", "intake", "inference", "delivery", "worklist"]
    assert all(service.command[:3] == (sys.executable, "-m", "worker.cli") for service in services)
    assert services[0].command[3:] == ("listener", "--no-intake")
    assert services[2].command[3:] == ("worker", "--queues", "inference")


@pytest.mark.parametrize(("models", "cores"), [(1, 1), (1, 64), (2, 2), (2, 3), (3, 4)])
def test_models_that_would_fight_for_the_cores_share_a_worker(models: int, cores: int) -> None:
    services = default_services([f"model_{number}" for number in range(models)], cores=cores)
    assert [s.command[-1] for s in services if "--queues" in s.command] == ["inference", "delivery"]
    assert [s.name for s in services] == ["listener", "intake", "inference", "delivery", "worklist"]


def test_each_model_has_a_worker_of_its_own_where_there_are_cores_for_it() -> None:
    services = default_services(["chest_ct_covid", "chest_xray_triage"], cores=4)
    assert [s.command[-1] for s in services if "--queues" in s.command] == [
        "inference.chest_ct_covid",
        "inference.chest_xray_triage",
        "delivery",
    ]
    assert len({service.name for service in services}) == 6


@pytest.mark.parametrize(("cores", "count"), [(1, 1), (2, 1), (4, 2), (7, 3), (64, 8)])
def test_where_every_model_runs_on_one_thread_there_are_workers_for_all_models(cores: int, count: int) -> None:
    services = classifying(default_services(["a", "b"], cores=cores, single_threaded=True))
    assert [service.command[-1] for service in services] == ["inference"] * count
    assert len({service.name for service in services}) == count
    assert {service.threads for service in services} == {1}
    assert services[0].name == ("inference" if count == 1 else "inference.1")


def test_a_number_that_was_set_is_taken() -> None:
    assert len(classifying(default_services(["a", "b"], cores=64, workers=3))) == 3
    assert len(classifying(default_services(["a", "b"], cores=2, workers=3, single_threaded=True))) == 3


def test_each_gpu_has_a_process_of_its_own() -> None:
    services = classifying(default_services(["a", "b", "c"], cores=64, devices=["0", "GPU-7f"]))
    assert [service.command[-4:] for service in services] == [
        ("--queues", "inference", "--device", "0"),
        ("--queues", "inference", "--device", "GPU-7f"),
    ]
    more = classifying(default_services(["a"], workers=3, devices=["0", "1"]))
    assert [service.command[-1] for service in more] == ["0", "1", "0"]


@pytest.mark.parametrize(
    ("engines", "threads", "single"), [(["onnx"], 1, True), (["onnx"], 2, False), (["onnx", "keras"], 1, False)]
)
def test_up_asks_which_engines_there_are(
    monkeypatch: pytest.MonkeyPatch, engines: list[str], threads: int, single: bool
) -> None:
    """On a machine without GPUs; where there is one, nobody has to ask."""
    planned: dict[str, object] = {}
    monkeypatch.setattr(bootstrap, "usable_gpus", lambda: ())
    packages = [SimpleNamespace(card=SimpleNamespace(name=engine), engine=engine) for engine in engines]
    monkeypatch.setattr(bootstrap, "model_registry", lambda _settings: SimpleNamespace(packages=lambda: packages))
    monkeypatch.setattr(bootstrap, "choose", lambda package, _wanted: package)
    monkeypatch.setattr(bootstrap, "default_services", lambda _models, **options: planned.update(options))
    bootstrap.planned_services(Settings(engine_threads=threads))
    assert planned["single_threaded"] is single
