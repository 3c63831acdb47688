"""What each thing that is checked is for: what works with it, and what does not without it."""

from __future__ import annotations

MEANINGS = {
    "Python": "runs everything here; a device needs none",
    "TVM": "generates all code: tune, search, deploy, bench and compile need it",
    "torch": "holds the supernet: train, search, deploy and adopt need it; a bundle does not",
    "xgboost": "the latency model: search and predict need it",
    "onnx": "adopt reads models with it, deploy writes model.onnx",
    "onnxruntime (optional)": "another engine that bench compares with; adopt checks models against it",
    "openvino (optional)": "another engine that bench compares with",
    "LiteRT (optional)": "another engine that bench compares with",
    "linker": "links kernels, libraries and the runner: nothing is tuned, searched or deployed without it",
    "C compiler": "compiles a few steps of training, which is several times slower without",
    "runner's header": "lets the program 'run' of a bundle read .png and .jpg",
    "tuning logs": "tune keeps here what it measures, so that nothing is measured twice",
    "cache": "data sets, compiled kernels and runners are kept here, so that the next command is quick",
    "compiled code": "kernels and runners, made once and checked before they are linked; the least used go first",
    "temporary files": "libraries are linked there before they are loaded",
    "damaged": "what a full or failing disk spoilt; it is never linked",
    "left by kills": "unfinished files of processes that were killed",
    "what else is kept": "data sets and accuracies; removing them costs a download or an evaluation",
    "CPU": "this machine's targets compile for this CPU; its vector width decides how fast networks can be",
    "energy": "how the energy in ledgers and reports is found; an estimate has wide bounds",
    "CIFAR-10": "the images of the supernets that ship: search and deploy calibrate and test on them",
    "shipped supernet": "spares a training: search and deploy take it by its name, mbv3-cifar where none is given",
    "target": "what --target names: code is compiled for this chip; logs of another fingerprint do not count",
    "worker": "runs trials, so that code that crashes costs one trial and not the run",
    "tiny kernel": "shows that code for this target compiles and is right: tune can begin",
    "cross compiler": "links libraries and the runner for this target's processor",
    "qemu": "runs the target's code on this machine: bundles are checked, and instructions counted, with it",
    "llvm-mca": "turns instructions into cycles, for estimated times",
    "llvm-objdump": "reads compiled kernels, for estimated times",
    "instruction counter": "counts instructions under qemu, for estimated times",
    "emulated board": "stands in for a board in tests; nothing can be timed on it",
    "tracker": "lists the boards that measure for this target",
    "network": "who reaches a tracker can run programs on its boards",
    "boards": "measure for this target; without one, times are estimates",
    "board": "measures for this target",
    "CUDA compiler": "makes a GPU's machine code: tune, search and deploy for GPUs need it",
    "CUDA headers": "let --dtype float16 compile",
    "tiny CUDA kernel": "shows that code for this GPU compiles",
    "GPU": "where networks for GPUs are timed; another machine's GPU is used by packs",
    "GPU driver": "an old one cannot load what is compiled here",
    "GPU energy": "what tuning and training on the GPU cost, in ledgers and reports",
    "CUDA runtime": "TVM's library for GPUs loads it: networks run on this machine's GPU with it",
}


def meaning(check: str) -> str:
    """What the thing that a check of this name looks at is for."""
    return MEANINGS.get(check) or MEANINGS[check.partition(" ")[0]]
