"""A damaged checkpoint or note costs the steps since the last whole one, never the training."""

import json

import pytest
import torch

from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.training.checkpoints import CHECKSUM, STATE, newest_state, read_state, write_state, write_text
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.run import CHECKPOINTS, SETTINGS, _check_folder


def checkpoints(folder, *steps):
    for number, step in enumerate(steps):
        path = folder / f"checkpoint_2026-01-01_00-00-0{number}"
        path.mkdir(parents=True)
        write_state(path, {"recipe": "lvd", "step": step, "network": {"w": torch.full((100,), float(step))}})
    return sorted(folder.iterdir())


def truncate(path):
    path.write_bytes(path.read_bytes()[:-200])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip, lambda path: path.write_bytes(b""), lambda path: path.unlink()])
def test_the_one_before_stands_in_for_a_damaged_checkpoint(tmp_path, damage):
    first, second, third = checkpoints(tmp_path, 10, 20, 30)
    assert newest_state(third, "lvd")["step"] == 30
    damage(third / STATE)
    assert newest_state(third, "lvd")["step"] == 20
    damage(second / STATE)
    assert newest_state(third, "lvd")["step"] == 10
    damage(first / STATE)
    with pytest.raises(NeufaceError, match=r"no checkpoint in .* can be read; remove that folder"):
        newest_state(third, "lvd")


def test_checkpoints_of_earlier_versions_have_no_checksum(tmp_path):
    (only,) = checkpoints(tmp_path, 10)
    (only / CHECKSUM).unlink()
    assert read_state(only, "lvd")["step"] == 10


def test_another_recipe_is_no_damage(tmp_path):
    second = checkpoints(tmp_path, 10, 20)[-1]
    with pytest.raises(NeufaceError, match="of recipe lvd, not of glvd"):
        newest_state(second, "glvd")


def test_a_file_is_old_or_new_and_never_half(tmp_path, monkeypatch):
    path = tmp_path / "note.json"
    write_text(path, "old")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_text(path, "new")
    assert path.read_text() == "old"


def test_damaged_settings_end_nothing(tmp_path):
    config = TrainConfig(recipe="lvd", output=str(tmp_path))
    (tmp_path / SETTINGS).write_text("")
    _check_folder(tmp_path, config.result_settings(), config)  # nothing was learnt here: taken over
    checkpoints(tmp_path / CHECKPOINTS, 10)
    with pytest.raises(UsageError, match=r"config\.json is damaged .* remove that file"):
        _check_folder(tmp_path, config.result_settings(), config)
    (tmp_path / SETTINGS).unlink()
    _check_folder(tmp_path, config.result_settings(), config)  # as the message says
    (tmp_path / SETTINGS).write_text(json.dumps(config.result_settings() | {"seed": 7}))
    with pytest.raises(UsageError, match="differs in seed"):
        _check_folder(tmp_path, config.result_settings(), config)
