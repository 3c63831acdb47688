"""A bundle is whole, or it is not there; and nothing of it is used unchecked."""

import json
import math
import os

import fuzzed_runner
import pytest

from ofa_tvm.bundle.card import costs_of
from ofa_tvm.bundle.folder import (
    LIBRARY,
    MANIFEST,
    ONNX,
    README,
    bundle_bytes,
    load_manifest,
    verify_bundle,
    write_bundle,
)
from ofa_tvm.bundle.manifest import Accuracy, InputFacts, Latency, Manifest, Preparation, SupernetSource, TargetFacts
from ofa_tvm.nas.result import load_search_result
from ofa_tvm.reporting.deployment_text import manifest_text
from ofa_tvm.support.amounts import size
from ofa_tvm.support.errors import UserError
from ofa_tvm.support.ledger import estimated


def manifest(subnet="r16.3x2.3x2"):
    return Manifest(
        ofa_tvm="0",
        created_at="2026-01-01T00:00:00+00:00",
        space="tiny",
        subnet=subnet,
        supernet=SupernetSource(file="supernet.safetensors", sha256="0", weights_sha256="1"),
        input=InputFacts(name="image", layout="NHWC", shape=(1, 16, 16, 3), dtype="float32", resolution=16),
        preprocess=Preparation(mean=(0.5, 0.5, 0.5), std=(0.3, 0.3, 0.3)),
        class_names=("cat", "dog"),
        classes=2,
        macs=10,
        parameters=5,
        accuracy=Accuracy(data="tiny", how="", test_images=0, compared_images=1, max_relative_logit_difference=1e-6),
        latency=Latency(provenance="measured", measured_ms=1.0, repeats_ms=(1.0, 1.1), conditions={}),
        target=TargetFacts(name="x86", fingerprint="f", attributes={}, threads=1, tuned_kernels=1, default_kernels=0),
        versions={"tvm": "0"},
        cost=(estimated("deploy", 1.0, 2.0),),
    )


def fill(folder, subnet="r16.3x2.3x2"):
    (folder / LIBRARY).write_bytes(b"machine code")
    (folder / ONNX).write_bytes(b"graph")
    return manifest(subnet)


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", fill)
    return tmp_path / "bundle"


def test_what_is_written_is_what_is_read(tmp_path):
    out = tmp_path / "deep" / "bundle"
    written = write_bundle(out, fill)
    assert written.files.keys() == {LIBRARY, ONNX}
    assert written.files[ONNX].bytes == 5
    assert load_manifest(out) == verify_bundle(out) == written
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    assert json.loads((out / MANIFEST).read_text())["schema_version"] == 1


@pytest.mark.parametrize("name", [LIBRARY, ONNX])
def test_damaged_and_missing_files_are_named(bundle, name):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[:-1] + b"?")
    with pytest.raises(UserError, match=f"{name} is damaged"):
        verify_bundle(bundle)
    (bundle / name).unlink()
    with pytest.raises(UserError, match=f"{name} is missing"):
        verify_bundle(bundle)


def test_manifest_must_vouch_for_every_file_it_needs(bundle):
    record = json.loads((bundle / MANIFEST).read_text())
    del record["files"][LIBRARY]
    (bundle / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(UserError, match=f"does not vouch for {LIBRARY}"):
        verify_bundle(bundle)


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/../../b", "..", "", "."])
def test_manifest_may_not_point_outside(bundle, name):
    record = json.loads((bundle / MANIFEST).read_text())
    record["files"][name] = record["files"][LIBRARY]
    (bundle / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(UserError, match=r"does not vouch|is missing from"):
        verify_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "schema version 2"),
        ({"format": "else"}, "not the manifest of a bundle"),
        ({"classes": "many"}, "'classes'"),
        ({"surprise": 1}, "'surprise'"),
        ({"schema_version": True}, "schema_version"),
        ({"class_names": ["cat"]}, "1 class names for 2 classes"),
        ({"class_names": ["cat", "\x1b[31mdog"]}, "cannot be printed on one line"),
        ({"preprocess": {"mean": [0.5, 0.5, 0.5], "std": [0, 0, 0]}}, "preprocess"),
        ({"preprocess": {"mean": [1e300, 0.5, 0.5], "std": [1, 1, 1]}}, "preprocess"),
        ({"latency": {"provenance": "measured", "measured_ms": 0, "conditions": {}}}, "'latency.measured_ms'"),
        ({"latency": {"provenance": "measured", "measured_ms": -math.inf, "conditions": {}}}, "'latency.measured_ms'"),
        ({"accuracy": {"data": "", "how": "", "test_images": 1, "test_top1": 7.0, "compared_images": 1}}, "test_top1"),
    ],
)
def test_bad_manifests_are_explained(bundle, change, message):
    record = json.loads((bundle / MANIFEST).read_text())
    (bundle / MANIFEST).write_text(json.dumps({**record, **change}))
    with pytest.raises(UserError, match=message):
        load_manifest(bundle)


def test_no_bundle_at_all(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        load_manifest(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"manifest\.json does not exist"):
        load_manifest(tmp_path)


def test_an_older_bundle_is_replaced_whole(bundle):
    (bundle / LIBRARY).chmod(0o444)
    write_bundle(bundle, lambda folder: fill(folder, "r16.5x2.3x2"))
    assert verify_bundle(bundle).subnet == "r16.5x2.3x2"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_replacing_works_without_a_swap_in_one_step(bundle, monkeypatch):
    monkeypatch.setattr("ofa_tvm.bundle.folder._exchange", lambda first, second: False)
    write_bundle(bundle, lambda folder: fill(folder, "r16.5x2.3x2"))
    assert verify_bundle(bundle).subnet == "r16.5x2.3x2"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_failure_half_way_leaves_everything_as_it_was(bundle, error):
    before = load_manifest(bundle)

    def interrupted(folder):
        fill(folder)
        raise error

    for out in (bundle, bundle.with_name("fresh")):
        with pytest.raises(error):
            write_bundle(out, interrupted)
    assert verify_bundle(bundle) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


def test_only_bundles_are_overwritten(bundle, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    write_bundle(mine, fill)
    (mine / "notes.txt").write_text("precious")
    with pytest.raises(UserError, match=r"notes\.txt, which is no part"):
        write_bundle(mine, fill)
    (mine / MANIFEST).unlink()
    with pytest.raises(UserError, match="is not a bundle"):
        write_bundle(mine, fill)
    assert (mine / "notes.txt").read_text() == "precious"
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is a file"):
        write_bundle(tmp_path / "file", fill)


def test_a_card_may_be_edited_and_is_not_overwritten_then(tmp_path):
    def with_card(folder):
        (folder / README).write_text("card")
        return fill(folder)

    out = tmp_path / "bundle"
    written = write_bundle(out, with_card)
    write_bundle(out, with_card)
    (out / README).write_text("my card")
    assert verify_bundle(out) == written
    with pytest.raises(UserError, match=r"README\.md was edited"):
        write_bundle(out, fill)
    assert (out / README).read_text() == "my card"
    (out / README).unlink()
    verify_bundle(out)
    write_bundle(out, fill)
    (out / README).write_text("of the user")
    with pytest.raises(UserError, match=r"README\.md, which is no part"):
        write_bundle(out, fill)


def test_the_size_of_a_bundle_is_that_of_all_its_files(bundle):
    whole = sum(path.stat().st_size for path in bundle.iterdir())
    assert bundle_bytes(bundle, load_manifest(bundle)) == whole
    text = manifest_text(load_manifest(bundle), estimated("total", 1.0, 1.0), bundle)
    assert f"{size(whole)} with its manifest (model.onnx 5 bytes, model.so 12 bytes)" in text


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "bundle", fill)


def test_an_empty_folder_is_taken(tmp_path):
    out = tmp_path / "empty"
    out.mkdir()
    write_bundle(out, fill)
    assert verify_bundle(out).classes == 2
    assert os.access(out / MANIFEST, os.R_OK)


RESULT = {
    "schema_version": 1,
    "space": "tiny",
    "supernet": "supernet.safetensors",
    "target": "x86",
    "threads": 1,
    "fingerprint": "f",
    "picks": [
        {
            "number": 1,
            "subnet": "r16.3x2.3x2",
            "predicted_ms": 0.5,
            "predicted_low_ms": 0.4,
            "predicted_high_ms": 0.6,
            "macs": 1000,
            "parameters": 100,
            "rank": 3,
        }
    ],
    "cost": [estimated("search", 3.0, 4.0).record()],
}


def test_search_results_are_read(tmp_path):
    (tmp_path / "result.json").write_text(json.dumps({**RESULT, "extra": 1}))
    (tmp_path / "supernet.safetensors").write_text("")
    result = load_search_result(tmp_path)
    assert result.pick(1).predicted_ms == 0.5
    assert result.pick(1).measured_ms is None
    assert result.cost[0].cpu_s == 4.0
    assert result.supernet == tmp_path / "supernet.safetensors"
    with pytest.raises(UserError, match=r"no pick 2\n.*1: r16.3x2.3x2"):
        result.pick(2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        ("{", "damaged"),
        ('{"schema_version": 1}', "'space'"),
        (json.dumps({**RESULT, "picks": 3}), "'picks'"),
    ],
)
def test_bad_search_results_are_explained(tmp_path, content, message):
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_search_result(tmp_path)


@pytest.mark.parametrize(("path", "value"), fuzzed_runner.NONSENSE)
def test_a_manifest_that_makes_no_sense_is_refused(bundle, path, value):
    file = bundle / MANIFEST
    record = {**json.loads(file.read_text()), "classes": 3, "class_names": ["ant", "bee", "cow"]}
    file.write_text(json.dumps(record))
    assert load_manifest(bundle).classes == 3
    file.write_text(json.dumps(fuzzed_runner.changed(record, path, value)))
    with pytest.raises(UserError, match=r"is (damaged|not JSON)") as refused:
        load_manifest(bundle)
    assert refused.value.what.isprintable()


@pytest.mark.parametrize("name", ["\x1b[2Jx", "a\nb"])
def test_names_in_messages_are_printable(bundle, name):
    record = json.loads((bundle / MANIFEST).read_text())
    record["files"][name] = record["files"][LIBRARY]
    (bundle / MANIFEST).write_text(json.dumps(record))
    with pytest.raises(UserError, match="has control characters") as refused:
        load_manifest(bundle)
    assert refused.value.what.isprintable()


def test_manifests_of_older_versions_do_not_spell_out_the_preparation(bundle):
    record = json.loads((bundle / MANIFEST).read_text())
    for key in ("order", "crop", "stored_size"):
        del record["preprocess"][key]
    (bundle / MANIFEST).write_text(json.dumps(record))
    assert load_manifest(bundle).preprocess == manifest().preprocess


@pytest.mark.parametrize(
    ("latency", "said"),
    [
        (Latency(provenance="measured", measured_ms=1.0, conditions={}), "latency measured"),
        (Latency(provenance="measured", search_measured_ms=1.0, conditions={}), "latency measured"),
        (Latency(provenance="estimated", estimated_ms=1.0, conditions={}), "latency estimated"),
        (Latency(provenance="estimated", search_estimated_ms=1.0, conditions={}), "latency estimated"),
        (Latency(provenance="estimated", estimated_ms=1.0, search_measured_ms=2.0, conditions={}), "latency measured"),
    ],
)
def test_a_cards_inference_says_how_its_latency_was_obtained(latency, said):
    *_, inference = costs_of(manifest().model_copy(update={"latency": latency}))
    assert inference.phase == "inference of 1,000,000 images"
    assert said in inference.method
