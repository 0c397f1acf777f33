import csv
import json

from neuface_ray.training.run_log import LOG, TABLE, RunLog, progress_line, read_log


def test_a_resumed_log_takes_back_what_came_after_the_checkpoint(tmp_path):
    log = RunLog(tmp_path, 0, tensorboard=True)
    for step in (10, 20, 30):
        log.add(step, {"loss": 1.0 / step, "samples_per_s": 5.0, "eta_s": 100.0})
    log.add(30, {"validation/error": 2.0})
    log.close()
    with (tmp_path / LOG).open("a") as file:
        file.write('{"step": 40, "lo')  # killed while writing
    resumed = RunLog(tmp_path, 20, tensorboard=False)
    resumed.add(30, {"loss": 0.5})
    assert [row["step"] for row in read_log(tmp_path)] == [10, 20, 30]
    assert read_log(tmp_path)[-1]["loss"] == 0.5
    with (tmp_path / TABLE).open() as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["10", "20", "30"]
    assert any((tmp_path / "tensorboard").iterdir())
    assert all(json.loads(line) for line in (tmp_path / LOG).read_text().splitlines())


def test_progress_tells_speed_loss_and_time_to_go():
    row = {"step": 1200, "loss": 0.0412345, "samples_per_s": 85.31, "eta_s": 11520.0}
    assert progress_line(row, 20000) == "step 1200/20000  6 %  85.3 samples/s  loss 0.04123  3 h 12 min to go"
