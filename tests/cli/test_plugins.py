"""What a configuration may import."""

import sys

import pytest

from fcot.cli.main import main


@pytest.mark.parametrize("place", ["class_path: SFT", "class_path: AdamW"])
def test_a_configuration_cannot_call_what_is_not_allowed(place, run, refusal):
    run(place, "class_path: os.mkdir")
    error = refusal(["fit", "--config", "run.yaml"])
    assert "os.mkdir may not be imported" in error
    assert "--plugins" in error


def test_a_package_elsewhere_is_imported_only_when_named(run, capsys, tmp_path_factory, monkeypatch, refusal):
    folder = tmp_path_factory.mktemp("installed")
    lines = ["from lightning.pytorch import Callback", "print('imported')", "class Quiet(Callback): pass"]
    (folder / "installed_elsewhere.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(folder)
    words = ["fit", "--config", "run.yaml", "--trainer.fast_dev_run", "true"]
    error = refusal([*words, "--trainer.callbacks+=installed_elsewhere.Quiet"])
    assert "installed_elsewhere.Quiet may not be imported" in error
    assert "installed_elsewhere" not in sys.modules
    main([*words, "--trainer.callbacks+=Quiet", "--plugins", "installed_elsewhere"])
    assert "imported" in capsys.readouterr().out
