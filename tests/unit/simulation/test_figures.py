"""What the simulation is fed with: complete, each with its source; spreads and fits give back what was put in."""

import json
import os
import random
from statistics import fmean

import pytest

from tests.bench.simulation import page
from tests.bench.simulation.__main__ import main
from tests.bench.simulation.cost import Prices, of_thousand
from tests.bench.simulation.inputs import ASSUMED, Inputs, gpu_stages
from tests.bench.simulation.measuring.fit import Run, fitted
from tests.bench.simulation.measuring.parties import Parties, Spent, on_processor
from tests.bench.simulation.measuring.probe import Probe
from tests.bench.simulation.stage_times import PROBABILITIES, Spread, slower, stage_of
from worker import schema
from worker.audit.log import record
from worker.database import Database


def test_every_stage_is_there_and_says_where_it_is_from(stages) -> None:
    inputs = Inputs.read()
    assert set(stages) <= set(inputs.stages)
    assert all(stage.how for stage in inputs.stages.values())
    assert {name for name, stage in inputs.stages.items() if stage.source == "assumed"} == {"pacs", "wakeup"}
    said = [part["how"] for part in inputs.assumed.values() if isinstance(part, dict) and "share_by_hour" in part]
    assert said
    assert sum(inputs.day) == pytest.approx(1.0)


def test_a_gpu_costs_what_was_seen_on_one(tmp_path) -> None:
    rows = [
        {"name": name, "float32": {"fixed_ms": fixed, "each_ms": 0.25}}
        for name, fixed in (("chest_ct_covid", 2.0), ("chest_xray_triage", 1.5), ("another", 9.0))
    ]
    path = tmp_path / "gpu.json"
    path.write_text(json.dumps({"device": "A card", "backend": "jax", "rows": rows}))
    found = {name: stage_of(name, stage) for name, stage in gpu_stages(path).items()}
    assert {name: stage.seconds("wait", 8) for name, stage in found.items()} == {"gpu.cr": 0.0035, "gpu.ct": 0.004}
    assert all(stage.source == "measured" and "A card, Keras on jax" in stage.how for stage in found.values())


def test_a_stage_of_no_source_is_refused() -> None:
    with pytest.raises(ValueError, match="measured, assumed"):
        stage_of("decode", {"source": "guessed", "how": "so"})


def test_a_spread_keeps_the_quantiles_and_has_the_mean_one() -> None:
    chance = random.Random(1)
    values = [chance.gammavariate(2.0, 3.0) for _ in range(4000)]
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(1.0)
    assert fmean(spread.at(chance.random()) for _ in range(4000)) == pytest.approx(1.0, rel=0.05)
    assert [spread.at(probability) for probability in PROBABILITIES] == pytest.approx(list(spread.quantiles))
    with pytest.raises(ValueError, match="above zero"):
        Spread.of([0.0, 0.0])


def test_a_fit_gives_back_what_a_stage_costs_whatever_others_add() -> None:
    chance = random.Random(1)
    runs = [
        Run(count, Spent(0.0, {"worker": 0.01 + 0.002 * count + 0.0001 * seen + disturbed, "database": 1e-6}), seen)
        for count, seen in ((1, 1), (32, 32), (32, 128)) for disturbed in (0.0, 0.0, 0.0, chance.random())
    ]  # fmt: skip
    stage = fitted("commit", "a test", runs)
    assert stage.seconds("worker", 10, 100) == pytest.approx(0.04)
    assert stage.parties == {"worker"}
    again = stage_of("commit", json.loads(json.dumps(stage.as_document())))
    assert again.seconds("worker", 10, 100) == pytest.approx(0.04)
    assert slower({"commit": again}, 2.0)["commit"].seconds("worker", 10, 100) == pytest.approx(0.08)


def test_who_computes_is_seen(tmp_path) -> None:
    parties = Parties("self", {"also us": lambda: [os.getpid()]})
    spent = parties.time(lambda: sum(range(2_000_000)))
    assert 0 < spent.processor["self"] <= spent.wall + 0.02
    assert on_processor(os.getpid()) > 0
    assert on_processor(-1) == 0


def test_the_probe_counts_statements_and_sees_the_chain_held(tmp_path) -> None:
    database = Database(f"sqlite:///{tmp_path}/firstread.db")
    schema.migrate(database)
    with Probe(database).listening() as probe:
        with database.write() as session:
            record(session, "test.done", "1", {}, actor="test")
        seen = probe.take()
        with database.write() as session:
            session.connection()
        nothing = probe.take()
    database.dispose()
    assert seen.trips > nothing.trips == 2  # BEGIN, COMMIT
    assert 0 < seen.chained_seconds <= seen.transaction_seconds
    assert nothing.chained_seconds == 0
    assert probe.take().trips == 0


def test_a_thousand_studies_cost_what_the_formula_says() -> None:
    inputs = Inputs.read()
    prices = Prices(
        core_hour=0.05, gpu_hour=1.0, storage_gb_month=0.1, months_kept=2, hours_a_month=730, currency="USD", how="test"
    )
    plant = inputs.plant(workers=2, gpu=True, front_cores=8, database_cores=8, worker_cores=4)
    found = of_thousand(plant, prices, inputs.mix, 10_000)
    assert found["hourly"] == pytest.approx(24 * 0.05 + 2 * 1.0)
    assert found["machines"] == pytest.approx(found["hourly"] * 730 / 10)
    assert found["sum"] == found["machines"] + found["storage"]


def test_the_command_says_it_as_json_and_as_tables(tmp_path, capsys) -> None:
    assumed = json.loads(ASSUMED.read_text())
    assumed["hospital"] |= {"modalities": 4, "hours": [9, 10]}
    assumed["mix"] |= {"cts_a_day": 1, "slices": [5, 10]}
    path = tmp_path / "assumed.json"
    path.write_text(json.dumps(assumed))
    arguments = ["run", "--scenario", "hospital-day", "--assumed", str(path)]
    pictures = ["--pictures", str(tmp_path / "pictures")]
    assert main([*arguments, "--json", "-", *pictures]) == 0
    document = json.loads(capsys.readouterr().out)
    day = document["hospital-day"]
    assert sum(row["received"] for row in day["hours"]) == round(day["outcome"]["objects_a_second"]["offered"] * 3600)
    assert {path.name for path in (tmp_path / "pictures").iterdir()} == {
        "scaling-hospital-day.png", "scaling-hospital-day.svg",
    }  # fmt: skip
    assert main(arguments) == 0
    assert "Cost of 1,000 studies" in capsys.readouterr().out


def test_the_tables_of_the_page_are_those_of_the_results() -> None:
    written = page.PAGE.read_text(encoding="utf-8")
    assert page.filled(written, page.tables_of(page.results())) == written, "python -m tests.bench.simulation page"
    with pytest.raises(ValueError, match="0 places for the table workers"):
        page.filled("nothing", {"workers": "| |"})
