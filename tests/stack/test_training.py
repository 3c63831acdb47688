"""Training: it learns, and a killed run ends bit for bit where an uninterrupted one does."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import torch

from ofa_tvm import data, train
from ofa_tvm.accuracy.samples import MIN_HELD_OUT, AccuracySamples
from ofa_tvm.data.dataset import Split
from ofa_tvm.regression.stacked_regressor import MIN_SAMPLES
from ofa_tvm.spaces import SPACES
from ofa_tvm.supernet import training
from ofa_tvm.supernet.augment import CropAndFlip, cut_mix, to_tensor
from ofa_tvm.supernet.augment import preprocess as preprocess_images
from ofa_tvm.supernet.checkpoint import load_supernet, load_tensors, save_tensors
from ofa_tvm.supernet.evaluate import CPU, Evaluator
from ofa_tvm.supernet.facts import FILE_NAME
from ofa_tvm.supernet.held_out import open_held_out
from ofa_tvm.supernet.plan import EVERYTHING, Phase, Plan, make_plan
from ofa_tvm.supernet.sampling import step_subnets
from ofa_tvm.supernet.start import open_start
from ofa_tvm.supernet.teacher import open_teacher
from ofa_tvm.supernet.training import LEDGER_NAME, LOG_NAME, STATE_NAME, Trainer
from ofa_tvm.supernet.training_cost import expected_cost
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.files import sha256_file
from ofa_tvm.support.holding import held
from ofa_tvm.tune import main as tune

PLAN = Plan(
    "progressive",
    (
        Phase("largest", (), 24, 0.05, 0.02, warmup=0.15),
        Phase("expand", EVERYTHING, 16, 0.02, 0.0, sorts=True),
    ),
    batch=16,
    mixed=0.2,
    ema=0.9,
)
STEPS, EVERY = 40, 2


@pytest.fixture(scope="module", autouse=True)
def registered(tiny_space):
    """Checkpoints name their space, so it has to be known."""
    SPACES[tiny_space.name] = tiny_space
    yield
    del SPACES[tiny_space.name]


@pytest.fixture(scope="module")
def trained(tiny_space, tiny_dataset, tmp_path_factory):
    """The folder of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("trained")
    Trainer(tiny_space, tiny_dataset, PLAN, folder).run()
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of it to damage."""
    for name in (FILE_NAME, STATE_NAME):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    return tmp_path


def test_loss_falls_and_everything_is_written(trained, tiny_space, tiny_dataset):
    records = [json.loads(line) for line in (trained / LOG_NAME).read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(EVERY, STEPS + 1, EVERY))
    assert [record["phase"] for record in records] == 12 * ["largest"] + 8 * ["expand"]
    assert records[-1]["loss"]["largest"] < 0.8 * records[0]["loss"]["largest"]
    assert records[0]["loss"]["subnets"] == 0 < records[-1]["loss"]["subnets"]
    assert all(record["images_per_s"] > 0 for record in records)
    assert len((trained / LEDGER_NAME).read_text().splitlines()) == training.REPORTS
    supernet, facts = load_supernet(trained)
    assert (facts.space, facts.data, facts.class_names) == ("tiny", "tiny", tiny_dataset.class_names)
    assert facts.preprocess == tiny_dataset.preprocess
    assert facts.training["steps_done"] == STEPS
    assert facts.training["plan"]["recipe"] == "progressive"
    assert Evaluator(tiny_dataset, tiny_dataset.test, 64).top1(supernet, tiny_space.largest) > 0.5


def test_bfloat16_learns_and_keeps_weights_in_float32(tiny_space, tiny_dataset, tmp_path, monkeypatch):
    seen = set()
    conv2d = torch.nn.functional.conv2d

    def watched(*args, **options):
        output = conv2d(*args, **options)
        seen.add(output.dtype)
        return output

    monkeypatch.setattr(torch.nn.functional, "conv2d", watched)
    trainer = Trainer(tiny_space, tiny_dataset, replace(PLAN, precision="bfloat16"), tmp_path)
    for _ in range(STEPS):
        trainer.step()
    assert seen == {torch.bfloat16}, "in every convolution, depthwise ones too"
    trainer._save()
    assert {tensor.dtype for tensor in load_tensors(tmp_path / STATE_NAME)[0].values()} == {torch.float32}
    monkeypatch.undo()
    trainer.result.eval()
    assert Evaluator(tiny_dataset, tiny_dataset.test, 64).top1(trainer.result, tiny_space.largest) > 0.5


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no NVIDIA GPU")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_training_begun_on_a_gpu_ends_on_the_cpu(tiny_space, tiny_dataset, tmp_path, precision):
    plan = replace(PLAN, precision=precision)
    started = Trainer(tiny_space, tiny_dataset, plan, tmp_path, torch.device("cuda"))
    for _ in range(8):
        started.step()
    started._save()
    trainer = Trainer(tiny_space, tiny_dataset, plan, tmp_path)
    assert trainer.steps_done == 8
    trainer.run()
    supernet, _ = load_supernet(tmp_path)
    assert Evaluator(tiny_dataset, tiny_dataset.test, 64).top1(supernet, tiny_space.largest) > 0.5


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_its_step_and_loses_nothing(
    trained, tiny_space, tiny_dataset, tmp_path, monkeypatch, number
):
    """It comes in the middle of step 12; what is saved is the whole of it, and the run ends as if nothing had been."""
    step = Trainer.step

    def interrupted(trainer):
        if trainer.steps_done == 11:
            signal.raise_signal(number)
        return step(trainer)

    def terminate(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, terminate)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Trainer(tiny_space, tiny_dataset, PLAN, tmp_path).run()
    signal.signal(signal.SIGTERM, before)
    resumed = Trainer(tiny_space, tiny_dataset, PLAN, tmp_path)
    assert resumed.steps_done == 12
    resumed.run()
    expected, found = load_tensors(trained / FILE_NAME)[0], load_tensors(tmp_path / FILE_NAME)[0]
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("save_s", [0.0, 60.0])
@pytest.mark.parametrize("steps", [1, 12, 25, 26, 39])
def test_a_killed_run_ends_where_an_uninterrupted_one_does(
    trained, tiny_space, tiny_dataset, tmp_path, monkeypatch, steps, save_s
):
    """Killed at once, in the first phase, right before and after channels are sorted, and at the end."""
    step = Trainer.step

    def killed(self):
        if self.steps_done == steps:
            raise KeyboardInterrupt
        return step(self)

    monkeypatch.setattr(training, "SAVE_S", save_s)
    monkeypatch.setattr(Trainer, "step", killed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny_space, tiny_dataset, PLAN, tmp_path).run()
    monkeypatch.setattr(Trainer, "step", step)
    assert not (tmp_path / FILE_NAME).exists()
    trainer = Trainer(tiny_space, tiny_dataset, PLAN, tmp_path)
    assert trainer.steps_done == (steps if save_s == 0 else steps // EVERY * EVERY)
    trainer.run()
    for name in (FILE_NAME, STATE_NAME):
        expected, facts = load_tensors(trained / name)
        found, found_facts = load_tensors(tmp_path / name)
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)
        assert found_facts == facts


def test_a_kill_between_report_and_state_repeats_no_report(tiny_space, tiny_dataset, tmp_path, monkeypatch):
    plan = make_plan("single-stage", 4, batch=16)
    save = Trainer._save

    def killed(self):
        if self.steps_done == 2:
            raise KeyboardInterrupt
        save(self)

    monkeypatch.setattr(Trainer, "_save", killed)
    with pytest.raises(KeyboardInterrupt):
        Trainer(tiny_space, tiny_dataset, plan, tmp_path).run()
    monkeypatch.undo()
    path = tmp_path / LOG_NAME
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]
    Trainer(tiny_space, tiny_dataset, plan, tmp_path).run()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2, 3, 4]


def test_a_finished_run_does_nothing_more(copy, tiny_space, tiny_dataset):
    before = (copy / FILE_NAME).read_bytes()
    assert Trainer(tiny_space, tiny_dataset, PLAN, copy).run() == copy / FILE_NAME
    assert load_tensors(copy / FILE_NAME)[1].training["steps_done"] == STEPS
    assert (copy / FILE_NAME).read_bytes() == before
    assert not (copy / LOG_NAME).exists()


def test_a_damaged_supernet_of_a_finished_training_is_written_again(copy, tiny_space, tiny_dataset):
    before = (copy / FILE_NAME).read_bytes()
    for damaged in (before[:-100], b""):
        (copy / FILE_NAME).write_bytes(damaged)
        trainer = Trainer(tiny_space, tiny_dataset, PLAN, copy)
        trainer.run()
        assert trainer.has_written and (copy / FILE_NAME).read_bytes() == before
    trainer = Trainer(tiny_space, tiny_dataset, PLAN, copy)
    trainer.run()
    assert not trainer.has_written


def test_the_hint_at_a_damaged_state_works(copy, tiny_space, tiny_dataset):
    (copy / STATE_NAME).write_bytes(b"")
    with pytest.raises(UserError, match="is damaged") as caught:
        Trainer(tiny_space, tiny_dataset, PLAN, copy)
    subprocess.run(["sh", "-c", caught.value.hint.splitlines()[-1]], check=True)
    assert Trainer(tiny_space, tiny_dataset, PLAN, copy).steps_done == 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_said_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    assert train.main(["--out", str(tmp_path / "out"), "--device", "cuda"]) == 2
    said = capfd.readouterr().err
    assert "this torch is built without CUDA" in said or "torch sees no GPU" in said
    assert "--device cpu" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("change", [{"seed": 1}, {"precision": "bfloat16"}, {"phases": PLAN.phases[:1]}, {"ema": 0.0}])
def test_another_plan_in_the_same_folder(copy, tiny_space, tiny_dataset, change):
    with pytest.raises(UserError, match="training with another") as caught:
        Trainer(tiny_space, tiny_dataset, replace(PLAN, **change), copy)
    name = "steps" if "phases" in change else next(iter(change))
    said = {
        "seed": "0 there, 1",
        "precision": "float32 there, bfloat16",
        "steps": "40 there, 24",
        "ema": "0.9 there, 0.0",
    }
    noun = "number of steps" if name == "steps" else name
    assert f"another {noun} ({said[name]} here)" in caught.value.what
    hints = {"seed": "--seed 0", "precision": "--precision float32", "steps": "--steps 40", "ema": "--set ema=0.9"}
    assert caught.value.hint.endswith(f"begun with: {hints[name]}")


def test_another_number_of_folds_is_told_as_that(copy, tiny_space, tiny_dataset):
    with pytest.raises(UserError, match=r"another number of folds \(1 there, 4 here\)\n.*begun with: --folds 1$"):
        Trainer(tiny_space, replace(tiny_dataset, held_out=0), PLAN, copy, folds=4)


def test_a_damaged_ledger_is_told_before_the_training(tiny_space, tiny_dataset, tmp_path):
    (tmp_path / LEDGER_NAME).write_text("[]\n")
    with pytest.raises(UserError, match=r"ledger.*line 1, is damaged"):
        Trainer(tiny_space, tiny_dataset, PLAN, tmp_path)


def test_a_manifest_beside_ones_own_supernet_is_not_ours(copy):
    (copy / "manifest.json").write_text("[]")
    load_supernet(copy)


def test_images_are_known_by_what_they_are(copy, tiny_space, tiny_dataset):
    moved = Trainer(tiny_space, replace(tiny_dataset, name="imagefolder:/elsewhere"), PLAN, copy)
    assert moved.steps_done == STEPS
    labels = tiny_dataset.all_training.labels.copy()
    labels[0] = 3 - labels[0]
    relabelled = replace(tiny_dataset, all_training=Split(tiny_dataset.all_training.images, labels))
    removed = replace(tiny_dataset, all_training=tiny_dataset.all_training.take(np.arange(len(labels) - 1)))
    added = replace(tiny_dataset, all_training=tiny_dataset.all_training.take(np.r_[0, : len(labels)]))
    for changed in (relabelled, removed, added):
        with pytest.raises(UserError, match="another set of images"):
            Trainer(tiny_space, changed, PLAN, copy)


def test_a_folder_with_a_supernet_alone_is_not_written_to(copy, tiny_space, tiny_dataset):
    (copy / STATE_NAME).unlink()
    with pytest.raises(UserError, match="give another --out"):
        Trainer(tiny_space, tiny_dataset, PLAN, copy)


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole[: len(whole) // 2],
        lambda whole: whole[:-1],
        lambda whole: whole[:5],
        lambda whole: b"",
        lambda whole: b"\xff" * 8 + whole[8:],
        lambda whole: whole[:8] + b"?" + whole[9:],
    ],
)
@pytest.mark.parametrize("name", [FILE_NAME, STATE_NAME])
def test_damaged_checkpoint(copy, tiny_space, tiny_dataset, damage, name):
    path = copy / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="is damaged"):
        if name == FILE_NAME:
            load_supernet(copy)
        else:
            Trainer(tiny_space, tiny_dataset, PLAN, copy)


def test_checkpoint_of_another_format(copy):
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, copy / FILE_NAME)
    with pytest.raises(UserError, match="not a supernet checkpoint"):
        load_supernet(copy)


def test_missing_checkpoint(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_supernet(tmp_path)


@pytest.mark.parametrize(
    ("change", "said"), [({"class_names": ("a", "b")}, "does not fit space tiny"), ({"space": "x"}, "unknown space")]
)
def test_checkpoint_that_does_not_fit(copy, change, said):
    tensors, facts = load_tensors(copy / FILE_NAME)
    save_tensors(copy / FILE_NAME, tensors, replace(facts, **change))
    with pytest.raises(UserError, match=said):
        load_supernet(copy)


def test_state_of_another_shape_is_a_user_error(copy, tiny_space, tiny_dataset):
    tensors, facts = load_tensors(copy / STATE_NAME)
    del tensors["model.layers.stem.weight"]
    save_tensors(copy / STATE_NAME, tensors, facts)
    with pytest.raises(UserError, match="does not fit"):
        Trainer(tiny_space, tiny_dataset, PLAN, copy)


def test_class_count_mismatch(tiny_space, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match="space tiny has 9 classes, tiny 4"):
        Trainer(tiny_space.with_classes(9), tiny_dataset, PLAN, tmp_path)


def test_batch_larger_than_the_data(tiny_space, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=r"128 training images, a batch is 500\n  give --batch 128$"):
        Trainer(tiny_space, tiny_dataset, replace(PLAN, batch=500), tmp_path)


def test_a_subnet_of_another_space_alone(tiny_space, tiny_dataset, tmp_path):
    with pytest.raises(UserError, match=r"only=r99\.3x2 of a plan"):
        Trainer(tiny_space, tiny_dataset, replace(PLAN, only="r99.3x2"), tmp_path)


@pytest.mark.parametrize("change", ["recipe=progressive", "steps=5", "epochs=2", "batch=16", "resolutions=16"])
def test_what_has_an_option_of_its_own_is_no_value_of_a_plan(tmp_path, capfd, change):
    assert train.main(["--out", str(tmp_path / "out"), "--set", change]) == 2
    option = change.replace("resolutions", "resolution").replace("=", " ")
    assert f"has an option of its own\n  give --{option}\n" in capfd.readouterr().err


def test_the_default_batch_fits_the_parts_of_a_cross_validation(tiny_dataset, tmp_path, monkeypatch, capfd):
    few = replace(tiny_dataset, all_training=tiny_dataset.all_training.take(np.arange(122)), held_out=12)
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", lambda *args: few)
    command = ["--space", "tiny", "--steps", "4", "--folds", "2", "--dry-run", "--json", "--out", str(tmp_path)]
    assert train.main(command) == 0
    assert json.loads(capfd.readouterr().out)["plan"]["batch"] == 61
    assert train.main([*command, "--batch", "64"]) == 2
    said = capfd.readouterr().err
    assert "61 training images in a part of 2, a batch is 64\n  give --batch 61 or --folds 1\n" in said


def test_diverging_training_is_said(tiny_space, tiny_dataset, tmp_path):
    wild = replace(PLAN, phases=(Phase("largest", (), 400, 1e30, 1e30),))
    with pytest.raises(UserError, match="diverged at step"):
        Trainer(tiny_space, tiny_dataset, wild, tmp_path).run()
    assert not (tmp_path / STATE_NAME).exists()


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_training_that_ends_while_it_diverges_writes_no_supernet(tiny_space, tiny_dataset, tmp_path, ema):
    wild = make_plan("single-stage", 9, batch=16, rate_scale=1e30, ema=ema)
    with pytest.raises(UserError, match=r"diverged at step 9\n.*rate_scale=0.5"):
        Trainer(tiny_space, tiny_dataset, wild, tmp_path).run()
    assert not (tmp_path / FILE_NAME).exists()
    assert Trainer(tiny_space, tiny_dataset, wild, tmp_path).steps_done == 1, "no later state replaced the good one"
    assert "null" not in (tmp_path / LOG_NAME).read_text()


@pytest.mark.parametrize("name", ["weight", "norm.running_mean"])
def test_numbers_that_are_not_finite_replace_no_state(copy, tiny_space, tiny_dataset, name):
    before = (copy / STATE_NAME).read_bytes()
    trainer = Trainer(tiny_space, tiny_dataset, PLAN, copy)
    dict(trainer.supernet.named_tensors())[f"layers.stem.{name}"].data[0] = float("inf")
    with pytest.raises(UserError, match="diverged"):
        trainer._save()
    assert (copy / STATE_NAME).read_bytes() == before


def test_one_bad_step_is_skipped(tiny_space, tiny_dataset, tmp_path, monkeypatch):
    trainer = Trainer(tiny_space, tiny_dataset, PLAN, tmp_path)
    trainer.step()
    before = {name: tensor.clone() for name, tensor in trainer.supernet.named_parameters()}
    with monkeypatch.context() as patched:
        patched.setattr(torch.nn.utils, "clip_grad_norm_", lambda *args, **options: torch.tensor(float("nan")))
        trainer.step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in trainer.supernet.named_parameters())
    trainer.step()
    assert trainer.steps_done == 3
    assert any(not torch.equal(tensor, before[name]) for name, tensor in trainer.supernet.named_parameters())


def test_the_result_is_the_mean_of_the_weights(tiny_space, tiny_dataset, tmp_path):
    trainer = Trainer(tiny_space, tiny_dataset, PLAN, tmp_path)
    mean = trainer.supernet.get_parameter("layers.stem.weight").detach().clone()
    for number in range(15):
        trainer.step()
        decay = min(PLAN.ema, (1 + number) / (10 + number))
        mean += (1 - decay) * (trainer.supernet.get_parameter("layers.stem.weight").detach() - mean)
    torch.testing.assert_close(trainer.result.get_parameter("layers.stem.weight"), mean)
    plain = Trainer(tiny_space, tiny_dataset, replace(PLAN, ema=0.0), tmp_path)
    assert plain.result is plain.supernet


def test_a_teacher_of_another_space_teaches(trained, tiny_space, tiny_dataset, tmp_path):
    teacher = open_teacher(trained, tiny_dataset, CPU)
    trainer = Trainer(tiny_space, tiny_dataset, replace(PLAN, teacher_share=1.0), tmp_path, teacher=teacher)
    for _ in range(20):
        trainer.step()
    trainer.result.eval()
    assert Evaluator(tiny_dataset, tiny_dataset.test, 64).top1(trainer.result, tiny_space.largest) > 0.5
    assert trainer.facts().training["teacher"] == teacher.name
    with pytest.raises(UserError, match="knows other classes"):
        open_teacher(trained, replace(tiny_dataset, class_names=("a", "b", "c", "d")), CPU)


def test_a_folder_is_one_process_alone(tiny_space, tiny_dataset, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", lambda *args: tiny_dataset)
    command = ["--space", "tiny", "--steps", "2", "--batch", "16", "--accuracy-samples", "0", "--host-threads", "1"]
    with held(tmp_path):
        assert train.main([*command, "--out", str(tmp_path)]) == 2
    assert "is in use by process" in capfd.readouterr().err
    assert train.main([*command, "--out", str(tmp_path)]) == 0
    assert f"wrote {tmp_path / FILE_NAME}" in capfd.readouterr().out
    assert train.main([*command, "--out", str(tmp_path)]) == 0
    assert "wrote" not in capfd.readouterr().out


def test_few_images_are_cross_validated(tiny_space, tiny_dataset, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", lambda *args: tiny_dataset)
    command = ["--space", "tiny", "--steps", "8", "--batch", "16", "--accuracy-samples", "20", "--host-threads", "1"]
    command += ["--out", str(tmp_path / "out")]
    assert train.main([*command, "--dry-run"]) == 0
    assert "160 images, 8 steps of 16" in (said := capfd.readouterr().out) and "5 times for a cross-validation" in said
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert train.main(command) == 0
    assert "training 5 of 5: all images, 160 images" in capfd.readouterr().err
    (tmp_path / "out" / STATE_NAME).rename(tmp_path / "aside")
    (tmp_path / "out" / FILE_NAME).rename(tmp_path / "aside.safetensors")
    assert train.main([*command, "--folds", "3"]) == 2
    assert "another number of folds (4 there, 3 here)" in capfd.readouterr().err
    (tmp_path / "aside.safetensors").rename(tmp_path / "out" / FILE_NAME)
    supernet, facts = load_supernet(tmp_path / "out")
    held_out = open_held_out(tmp_path / "out", supernet, facts, tiny_dataset)
    samples = AccuracySamples(tiny_space, tmp_path / "out", sha256_file(tmp_path / "out" / FILE_NAME)[:16])
    assert (facts.folds, held_out.images, len(samples.top1)) == (4, 160, 20)
    assert samples.top1[tiny_space.largest.key] == held_out.top1(tiny_space.largest)
    part, fold = load_supernet(tmp_path / "out" / "fold-2")[0], tiny_dataset.folds(4)[1]
    mine = Evaluator(fold, fold.validation).answers(part, tiny_space.largest)
    assert (held_out.answers(tiny_space.largest)[40:80] == mine).all()
    (tmp_path / "out" / "fold-2").rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="lacks fold-2"):
        open_held_out(tmp_path / "out", supernet, facts, tiny_dataset)


def test_a_training_starts_from_a_supernet(trained, tiny_space, tiny_dataset, tmp_path):
    start, before = open_start(str(trained)), load_supernet(trained)[0].state_dict()
    other = replace(tiny_dataset, class_names=("a", "b", "c", "d"))
    plan = make_plan("fine-tune", 10, batch=16, resolutions=(16,))
    for dataset, keeps in ((tiny_dataset, True), (other, False)):
        trainer = Trainer(tiny_space, dataset, plan, tmp_path / str(keeps), start=start)
        now = trainer.supernet.state_dict()
        same = {name: torch.equal(now[name], value) for name, value in before.items()}
        assert all(value for name, value in same.items() if "classifier" not in name)
        assert same["layers.classifier.weight"] is keeps
        assert trainer.facts().training["init"] == start.name
        trainer.step()
        scales = {group["scale"]: group["lr"] for group in trainer._update._optimizer.param_groups}
        assert scales[0.3] == pytest.approx(0.3 * scales[1.0])
    assert {config.resolution for step in range(10) for config in step_subnets(tiny_space, plan, step)} == {16}
    with pytest.raises(UserError, match=re.escape(f"{trained} has weights of space tiny, not of mbv3-cifar")):
        Trainer(SPACES["mbv3-cifar"].with_classes(4), tiny_dataset, plan, tmp_path / "else", start=start)
    with pytest.raises(UserError, match="neither a supernet nor published weights"):
        open_start(str(tmp_path / "missing"))
    assert "airplane" in open_start("mbv3-cifar").class_names


def test_train_fine_tunes_at_one_resolution(trained, tiny_space, tiny_dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", lambda *args: tiny_dataset)
    command = ["--init", str(trained), "--resolution", "12", "--steps", "4", "--batch", "16", "--host-threads", "1"]
    command += ["--out", str(tmp_path / "out"), "--folds", "1", "--accuracy-samples", "20"]
    assert train.main(command) == 0
    _, facts = load_supernet(tmp_path / "out")
    assert (facts.resolutions, facts.space, facts.training["plan"]["recipe"]) == ((12,), "tiny", "fine-tune")
    samples = AccuracySamples(tiny_space, tmp_path / "out", sha256_file(tmp_path / "out" / FILE_NAME)[:16])
    assert {key.split(".")[0] for key in samples.top1} == {"r12"}
    capsys.readouterr()
    assert tune(["--supernet", str(tmp_path / "out"), "--coverage", "--json", "--logs", str(tmp_path / "logs")]) == 0
    assert json.loads(capsys.readouterr().out)["resolutions"] == [12], "sizes that it was not trained at are not tuned"


def test_a_subnet_alone(tiny_space, tiny_dataset, tmp_path):
    only = tiny_space.smallest
    trainer = Trainer(tiny_space, tiny_dataset, replace(PLAN, only=only.key), tmp_path)
    before = {name: value.clone() for name, value in trainer.supernet.state_dict().items()}
    for _ in range(STEPS):
        trainer.step()
    moved = {name for name, value in trainer.supernet.state_dict().items() if not torch.equal(value, before[name])}
    assert "layers.stem.weight" in moved
    trainer.result.eval()
    assert Evaluator(tiny_dataset, tiny_dataset.test, 64).top1(trainer.result, only) > 0.5


def test_mixed_images_have_their_share_of_each_label():
    images = torch.stack([torch.full((3, 16, 16), value, dtype=torch.uint8) for value in (10, 20, 30)])
    targets = torch.eye(3)
    for seed in range(20):
        mixed, shares = cut_mix(images, targets, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(shares.sum(1), torch.ones(3))
        for row, other in ((0, 2), (1, 0), (2, 1)):
            is_other = (mixed[row, 0] == images[other, 0, 0, 0]).float().mean()
            torch.testing.assert_close(shares[row, other], is_other)
            assert ((mixed[row] == images[row]) | (mixed[row] == images[other])).all()
    assert (images[0] == 10).all(), "the batch itself stays"


def test_what_a_training_will_cost(tiny_space, tiny_dataset, tmp_path):
    steps = [
        expected_cost(Trainer(tiny_space, tiny_dataset, make_plan("single-stage", count, batch=16), tmp_path))
        for count in (100, 10_000)
    ]
    assert 10 < steps[1].wall_s / steps[0].wall_s < 1000
    assert not list(tmp_path.iterdir())


def test_crops_are_windows_of_the_padded_image(tiny_dataset):
    images = tiny_dataset.train.images
    augment = CropAndFlip(images, CPU)
    rows = torch.tensor([3, 3, 3, 5, 5, 5])
    batch = augment(rows, torch.Generator().manual_seed(0))
    assert batch.shape == (6, 3, 16, 16) and batch.dtype == torch.uint8
    for row, crop in zip(rows.tolist(), batch, strict=True):
        padded = torch.nn.functional.pad(to_tensor(images[row : row + 1]).float(), (2,) * 4, mode="reflect")[0]
        windows = [padded[:, top : top + 16, left : left + 16] for top in range(5) for left in range(5)]
        assert any(torch.equal(crop.float(), view) for window in windows for view in (window, window.flip(2)))


@pytest.mark.parametrize("size", [5, 16, 33])
def test_padding_is_what_torch_reflects(size):
    images = np.random.default_rng(0).integers(0, 256, (3, size, size, 3), np.uint8)
    expected = torch.nn.functional.pad(to_tensor(images).float(), (size // 8,) * 4, mode="reflect")
    padded = CropAndFlip(images, CPU).padded
    assert padded.dtype == torch.uint8 and padded.is_contiguous()
    assert torch.equal(padded, expected.to(torch.uint8).permute(0, 2, 3, 1))


def forbidden(*args):
    raise AssertionError("the data set was loaded")


@pytest.mark.parametrize("samples", [1, MIN_HELD_OUT + MIN_SAMPLES - 1])
def test_too_few_accuracy_samples_are_refused_at_once(tmp_path, monkeypatch, capfd, samples):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    assert train.main(["--out", str(tmp_path / "out"), "--accuracy-samples", str(samples)]) == 2
    assert "--accuracy-samples 0 for none, or at least 20" in capfd.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("--seed", "9223372036854775807"),
        ("--steps", str(10**18)),
        ("--host-threads", "1000000000000"),
        ("--epochs", "inf"),
        ("--epochs", "nan"),
        ("--epochs", "1e300"),
    ],
)
def test_numbers_out_of_range_are_refused_at_once(tmp_path, monkeypatch, capfd, words):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    assert train.main(["--out", str(tmp_path / "out"), *words]) == 2
    said = capfd.readouterr().err
    assert words[0] in said and "Traceback" not in said
    assert not (tmp_path / "out").exists()


def test_damaged_accuracies_are_told_before_the_training(tiny_dataset, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    (tmp_path / "accuracy.jsonl").write_text("{}\n{}\n")
    assert train.main(["--space", "tiny", "--out", str(tmp_path)]) == 2
    assert "accuracy.jsonl" in (said := capfd.readouterr().err) and "line 1" in said


def test_the_fewest_accuracy_samples_are_enough(tiny_space, tmp_path):
    count = MIN_HELD_OUT + MIN_SAMPLES
    samples = AccuracySamples(tiny_space, tmp_path, "weights")
    rng = np.random.default_rng(0)
    samples.sample(count - 1, lambda config: rng.uniform())
    with pytest.raises(UserError, match="too few"):
        samples.report()
    samples.sample(count, lambda config: rng.uniform())
    assert samples.report().held_out == MIN_HELD_OUT


def test_images_that_are_shrunk_far_are_said(tiny_space, tiny_dataset, tmp_path, monkeypatch, capfd):
    big = replace(
        tiny_dataset, all_training=Split(np.zeros((160, 48, 48, 3), np.uint8), tiny_dataset.all_training.labels)
    )
    for dataset in (big, tiny_dataset):
        monkeypatch.setattr("ofa_tvm.training.session.load_dataset", lambda *args, dataset=dataset: dataset)
        command = ["--space", "tiny", "--steps", "1", "--batch", "16", "--accuracy-samples", "0", "--dry-run"]
        assert train.main([*command, "--out", str(tmp_path / "out")]) == 0
    said = [line for line in capfd.readouterr().err.splitlines() if "shrunk" in line]
    assert len(said) == 1
    assert "images of 48 pixels are shrunk to 16 at most" in said[0] and "mbv3-cifar takes 24-32" in said[0]


def test_an_output_folder_that_cannot_be_made_is_said_at_once(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    (tmp_path / "file").touch()
    assert train.main(["--out", str(tmp_path / "file")]) == 2
    assert capfd.readouterr().err == (
        f"error: {tmp_path / 'file'}: File exists\n"
        "  a file is where a folder is wanted: name another folder, or move the file away\n"
    )


def test_preprocess_normalises_and_resizes(tiny_dataset):
    facts = tiny_dataset.preprocess
    images = to_tensor(tiny_dataset.test.images[:2])
    same = preprocess_images(images, facts, 16)
    expected = (tiny_dataset.test.images[:2] / 255 - facts.mean) / facts.std
    torch.testing.assert_close(same.permute(0, 2, 3, 1).double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-5)
    assert preprocess_images(images, facts, 12).shape == (2, 3, 12, 12)


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize(
    "options", [["--data", "mnist"], ["--set", "no_such=1"], ["--resolution", "7"], ["--teacher", "nothing"]]
)
def test_a_training_that_cannot_begin_leaves_no_folder(
    tiny_space, tiny_dataset, tmp_path, monkeypatch, options, existed
):
    monkeypatch.setitem(SPACES, "tiny", tiny_space)
    monkeypatch.setitem(data.SOURCES, "tiny", lambda path, progress: tiny_dataset)
    out = tmp_path / "out"
    if existed:
        out.mkdir()
    assert train.main(["--space", "tiny", "--data", "tiny", "--out", str(out), *options]) == 2
    assert out.exists() == existed
    assert not list(tmp_path.rglob(".*")), "not even a lock"


def test_a_refused_training_leaves_the_lock_of_the_one_that_runs(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("ofa_tvm.training.session.load_dataset", forbidden)
    with held(tmp_path):
        for _ in range(2):
            assert train.main(["--out", str(tmp_path)]) == 2
            assert "is in use by process" in capfd.readouterr().err
        assert {path.name for path in tmp_path.iterdir()} == {".lock", ".holder"}
