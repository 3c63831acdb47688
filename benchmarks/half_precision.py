"""What float16 costs in accuracy: ``python benchmarks/half_precision.py --subnets 4 --images 1000``.

Random subnets of the shipped supernet, compiled as for a GPU with ``--dtype float16`` (float16 maps and weights,
float32 sums) but for this CPU, without tuning: the numbers are a GPU's up to the order of sums. Their logits and
accuracy on test images are compared with float32 torch.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from store import keep

from ofa_tvm.compiler.scheduled.virtual_machine import VirtualMachineModel, compile_loops
from ofa_tvm.compiler.tvm_api.names import Target

# isort: split
from ofa_tvm.graph.parity import relative_error
from ofa_tvm.hardware.machine import native_mcpu
from ofa_tvm.supernet.augment import preprocess, to_tensor
from ofa_tvm.supernet.checkpoint import load_supernet
from ofa_tvm.supernet.evaluate import Evaluator, supernet_images
from ofa_tvm.supernet.facts import checkpoint_path
from ofa_tvm.support.console import log
from ofa_tvm.support.shipped import shipped_supernet

BATCH = 50


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--subnets", type=int, default=4)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    checkpoint = checkpoint_path(shipped_supernet())
    supernet, facts = load_supernet(checkpoint)
    dataset = supernet_images(None, facts, checkpoint, log)
    test, target = dataset.test, Target({"kind": "llvm", "mcpu": native_mcpu(), "num-cores": 1})
    rows = []
    for config in supernet.space.sample_configs(np.random.default_rng(options.seed), options.subnets):
        subnet = Evaluator(dataset, test).subnet(supernet, config)
        with tempfile.TemporaryDirectory() as name:
            library = Path(name) / "network.so"
            compile_loops(subnet.network, subnet.folded(), target, library, BATCH, "float16")
            model = VirtualMachineModel(library)
            found, expected = [], []
            for start in range(0, options.images, BATCH):
                given = to_tensor(test.images[start : start + BATCH])
                images = preprocess(given, facts.preprocess, config.resolution)
                expected.append(subnet(images).numpy())
                found.append(model(np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())))
        half, full = np.concatenate(found), np.concatenate(expected)
        labels = test.labels[: options.images]
        rows.append(
            {
                "subnet": config.key,
                "float32_top1": float((full.argmax(1) == labels).mean()),
                "float16_top1": float((half.argmax(1) == labels).mean()),
                "decided_otherwise": int((half.argmax(1) != full.argmax(1)).sum()),
                "images": options.images,
                "relative_logit_difference": relative_error(half, full),
            }
        )
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    keep("half_precision", {"rows": rows})


if __name__ == "__main__":
    main()
