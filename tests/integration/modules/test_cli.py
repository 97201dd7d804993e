from __future__ import annotations

import json

from click.testing import CliRunner

from modules_world import World
from sluice import cli
from sluice.aws import dynamodb
from sluice.pipelines.modules import storage
from sluice.pipelines.modules.transform import RULE_VERSION, Diagnostic
from sluice_dev.samples.modules import Fleet, true_rates

OPTIONS = ["--modules", "20", "--weeks", "3", "--seed", "11"]


def sluice(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.main, arguments, env={"COLUMNS": "140"})
    return result.exit_code, result.output


def test_a_fleet_is_produced_judged_shown_and_checked(world: World) -> None:
    code, said = sluice("produce", "modules", *OPTIONS)
    assert code == 0, said
    assert "seed 11" in said
    assert "60 diagnostics" in said

    code, said = sluice("produce", "check-modules", *OPTIONS)
    assert code == 1, "nothing was judged yet"
    assert "0 of 60 published rates equal the true rate exactly" in said

    world.run("run")
    code, said = sluice("produce", "check-modules", *OPTIONS)
    assert (code, said) == (0, "60 of 60 published rates equal the true rate exactly\n")

    code, said = sluice("modules", "show", "--module", "fleet-11-module-00003")
    assert code == 0, said
    rates = [f"{rate:.2f} %" for key, rate in true_rates(Fleet(20, 3, seed=11)).items() if key[0].endswith("-00003")]
    assert [rate for rate in rates if rate in said] == rates
    assert "judged (UTC)" in said
    code, said = sluice("modules", "show", "--limit", "7")
    assert said.count("fleet-11-module-") == 7


def test_a_rate_that_is_not_the_true_one_is_named(world: World) -> None:
    sluice("produce", "modules", *OPTIONS)
    world.run("run")
    ((module_id, timestamp), rate), *_ = true_rates(Fleet(20, 3, seed=11)).items()
    world.diagnostic(module_id, timestamp, 10_000)
    world.run("wrong")
    code, said = sluice("produce", "check-modules", *OPTIONS)
    assert code == 1
    assert f"{module_id} at {timestamp}: " in said
    assert f"should be {rate}" in said


def test_a_diagnostic_that_was_rejected_or_not_judged_says_so(world: World) -> None:
    from sluice.pipelines.modules import steps

    world.diagnostic("rejected", 5, 0)
    world.run("run")
    world.diagnostic("waiting", 5, 4)
    steps.collect("next")
    steps.store("next")
    _, said = sluice("modules", "show")
    assert "rejected" in said.split("rejected", 1)[1]
    assert "not judged yet" in said


def test_a_rate_says_which_run_computed_it_when_and_by_which_rule(world: World) -> None:
    world.message("a", 1)
    world.diagnostic("a", 5, 2)
    world.run("run")
    table = world.settings.modules_diagnostic_table
    older = {"judged_attempts": 2, "judged_reset": 0, "received": 1, "success_rate": 50}
    dynamodb.write(dynamodb.Put(table, {"moduleId": "older", "timestamp": 5, "attempts": 2, "version": "1"} | older))
    _, said = sluice("modules", "show", "--json")
    rows = {row["module"]: row for row in map(json.loads, said.splitlines())}
    assert [rows["a"][name] for name in ("success_rate", "rule_version", "judged_by")] == [50.0, RULE_VERSION, "run"]
    assert rows["a"]["judged_at"].endswith("Z")
    assert [rows["older"][name] for name in ("success_rate", "rule_version", "judged_by")] == [50.0, 1, None]
    storage.forget_judgement(table, "a", 5)
    assert storage.read_diagnostics(table, "a") == [Diagnostic("a", 5, 2)]
