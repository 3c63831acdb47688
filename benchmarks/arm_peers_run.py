"""Run a model on one engine under the emulated arm64 Python; ``arm_peers.py`` counts what that executes.

``python3 arm_peers_run.py ENGINE MODEL IMAGE.npy LOGITS.npy MAPS.txt RUNS``: MODEL without its extension, for LiteRT
a file in a folder of the engine's name beside it; one thread, runs after a warm-up. Needs numpy and the engine only.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

WARM_UP = 1
Run = Callable[[Any], Any]


def ort(model: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(f"{model}.onnx", options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(None, {"image": image})[0]


def ncnn(model: str) -> Run:
    engine = import_module("ncnn.ncnn")
    net = engine.Net()
    net.opt.num_threads = 1
    # It computes in half precision by default where the CPU can.
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(net.opt, f"use_{name}", False)
    net.load_param(f"{model}.ncnn.param")
    net.load_model(f"{model}.ncnn.bin")

    def run(image: Any) -> Any:
        with net.create_extractor() as extractor:
            extractor.input("in0", engine.Mat(image[0]))
            return np.array(extractor.extract("out0")[1])[None]

    return run


def mnn(model: str) -> Run:
    engine = import_module("_mnncengine")
    interpreter = engine.Interpreter(f"{model}.mnn")
    session = interpreter.createSession({"backend": "CPU", "numThread": 1, "precision": "high"})
    given, found = interpreter.getSessionInput(session), interpreter.getSessionOutput(session)
    logits = np.zeros(found.getShape(), np.float32)
    layout = engine.Tensor_DimensionType_Caffe

    def run(image: Any) -> Any:
        given.copyFrom(engine.Tensor(image.shape, engine.Halide_Type_Float, image, layout))
        interpreter.runSession(session)
        copy = engine.Tensor(logits.shape, engine.Halide_Type_Float, logits, layout)
        found.copyToHostTensor(copy)
        return np.array(copy.getNumpyData())

    return run


def litert(model: str, name: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(Path(model).parent / name / "model.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    given, found = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def run(image: Any) -> Any:
        interpreter.set_tensor(given, image)
        interpreter.invoke()
        return interpreter.get_tensor(found)

    return run


def main() -> None:
    name, model, image_file, logits_file, maps_file, runs = sys.argv[1:]
    image = np.load(image_file)
    if name.startswith("litert"):
        run = litert(model, name)
    else:
        run = {"ort": ort, "ncnn": ncnn, "mnn": mnn}[name](model)
        image = np.ascontiguousarray(image.transpose(0, 3, 1, 2))
    for _ in range(WARM_UP + int(runs)):
        logits = run(image)
    np.save(logits_file, np.array(logits, np.float32).reshape(1, -1))
    Path(maps_file).write_text(Path("/proc/self/maps").read_text())


if __name__ == "__main__":
    main()
