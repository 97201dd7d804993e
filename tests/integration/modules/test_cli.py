from __future__ import annotations

from click.testing import CliRunner

from modules_world import World
from sluice import cli
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
