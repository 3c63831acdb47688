"""Numbers as people read them, places on axes, and the area that a front dominates."""

from __future__ import annotations

import pytest

from ofa_tvm.nas.result import Verified
from ofa_tvm.reporting import units
from ofa_tvm.reporting.axis import Axis
from ofa_tvm.reporting.layer_section import kernel_text
from ofa_tvm.reporting.progress_section import hypervolumes
from ofa_tvm.support import amounts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.energy(1.67e-8), "16.7 µWh"),
        (units.energy(1.67e-5), "16.7 mWh"),
        (units.energy(0.0032), "3.20 Wh"),
        (units.energy(1.25), "1.25 kWh"),
        (units.energy(0), "0 µWh"),
        (units.grams(1234), "1.23 kg"),
        (units.grams(0.078), "78.0 mg"),
        (units.duration(0.0021), "0.002 s"),
        (units.duration(1.7), "1.70 s"),
        (units.duration(59.4), "59 s"),
        (units.duration(59.6), "1 min 00 s"),
        (units.duration(293), "4 min 53 s"),
        (units.duration(3599.8), "1 h 00 min"),
        (units.duration(90_000), "25 h 00 min"),
        (amounts.size(742_000), "742 kB"),
        (amounts.size(1_680_000), "1.68 MB"),
        (amounts.size(5_500_000), "5.50 MB"),
        (amounts.size(999_700), "1.00 MB"),
        (amounts.size(17), "17 bytes"),
        (units.count(12_340_000), "12.3 M"),
        (units.count(640), "640"),
        (units.digits(0.09712), "0.097"),
        (units.digits(12.345), "12.35"),
        (units.digits(1234.5), "1,234"),
        (units.milliseconds(None), "–"),  # noqa: RUF001
        (units.with_error(0.9141, 0.0028), "91.41 ± 0.28 %"),
        (units.span("81.0 mWh", "324 mWh"), "81.0 to 324 mWh"),
        (units.span("396 mWh", "1.58 Wh"), "396 mWh to 1.58 Wh"),
        (units.plural(1, "core"), "1 core"),
        (units.plural(2_000, "call"), "2,000 calls"),
        (units.titled("", "the rest"), "The rest"),
        (units.titled("x86", "the rest"), "x86: the rest"),
        (
            kernel_text("expand_depthwise_14x14_24-96_k5s2_relu_bias_b1"),
            "5x5 expand and depthwise, fused /2, 24 → 96 channels, 14 px, ReLU",
        ),
        (kernel_text("dense_1x1_384-10_bias_b1"), "dense, 384 → 10 channels"),
        (
            kernel_text("conv_4x4_192-96_k1s1_bias_scaled_residual_b1"),
            "1x1 convolution, 192 → 96 channels, 4 px, scaled by squeeze-excite, with residual",
        ),
        (kernel_text("dense_1x1_16-48_hard_sigmoid_bias_b1_i8"), "dense, 16 → 48 channels, hard sigmoid"),
        (kernel_text("something else"), "something else"),
        (units.interval(0.05551, 0.05592), "0.0555 to 0.0559"),
        (units.interval(0.0555, 0.0555), "0.056 to 0.056"),
        (units.interval(0.169, 0.1814), "0.169 to 0.181"),
        (units.interval(9.5, 10.2), "9.50 to 10.20"),
        (units.interval(0.05555551, 0.05555552), "0.056 to 0.056"),
    ],
)
def test_numbers_as_people_read_them(text, expected):
    assert text == expected


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0, 1, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        (0.9, 5.2, ["1", "2", "3", "4", "5"]),
        (90.01, 90.06, ["90.01", "90.02", "90.03", "90.04", "90.05", "90.06"]),
        (0, 700, ["0", "200", "400", "600"]),
    ],
)
def test_ticks_are_round(low, high, labels):
    axis = Axis(low, high)
    assert [label for _, label in axis.ticks] == labels
    assert all(0 <= place <= 100 for place, _ in axis.ticks)


@pytest.mark.parametrize("values", [[1.0], [0.0], [1.0, 1.0], [-2.0, 3.0]])
def test_every_value_lies_on_its_axis(values):
    axis = Axis.over(values, is_upwards=True)
    assert all(0 < axis(value) < 100 for value in values)
    assert axis(axis.high) == 0


def verified(latency_ms, top1):
    return Verified(
        subnet="r32.3x2",
        predicted_ms=1,
        predicted_low_ms=1,
        predicted_high_ms=1,
        verified_ms=latency_ms,
        predicted_top1=0.5,
        validation_top1=top1,
        is_new=True,
    )


@pytest.mark.parametrize(
    ("rounds", "shares"),
    [
        ([], []),
        ([[]], [0.0]),
        ([[verified(1, 0.9)]], [1.0]),
        ([[verified(3, 0.5), verified(2, 0.6)], [verified(1, 0.6)]], [0.5, 1.0]),
        ([[verified(3, 0.5), verified(1, 0.7)], [verified(2, 0.6)]], [1.0, 1.0]),
    ],
)
def test_share_of_the_final_front(rounds, shares):
    assert hypervolumes(rounds) == pytest.approx(shares)
