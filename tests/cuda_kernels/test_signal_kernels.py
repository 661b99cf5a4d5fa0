"""The streaming kernels equal their references and scipy, however the signal is cut."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import signal as scipy_signal

from cuda_kernels.errors import KernelInputError
from cuda_kernels.polyphase import PolyphaseResampler, polyphase_reference
from cuda_kernels.slope_envelope import slope_envelope, slope_envelope_reference
from cuda_kernels.sos_filter import sos_filter, sos_filter_reference

SIGNAL = np.random.default_rng(1).normal(size=1999)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_sos_filter_is_its_reference_bit_for_bit_and_scipys_result(order: int) -> None:
    sos = scipy_signal.butter(order, [6, 15], btype="band", fs=250.0, output="sos")
    out = sos_filter(sos, SIGNAL, np.zeros((order, 2)))
    assert np.array_equal(out, sos_filter_reference(sos, SIGNAL, np.zeros((order, 2))))
    np.testing.assert_allclose(out, scipy_signal.sosfilt(sos, SIGNAL), atol=1e-12)


@pytest.mark.parametrize("chunk", [1, 7, 500])
def test_chunks_give_the_bits_of_the_whole(chunk: int) -> None:
    sos = scipy_signal.butter(2, 20, fs=250.0, output="sos")
    parts = np.split(SIGNAL, range(chunk, len(SIGNAL), chunk))
    state = np.zeros((1, 2))
    assert np.array_equal(
        np.concatenate([sos_filter(sos, part, state) for part in parts]),
        sos_filter(sos, SIGNAL, np.zeros((1, 2))),
    )
    memory, ring, place = np.zeros(5), np.zeros(30), np.zeros(1, np.int64)
    cut = np.concatenate([slope_envelope(part, memory, ring, place) for part in parts])
    whole = slope_envelope(SIGNAL, np.zeros(5), np.zeros(30), np.zeros(1, np.int64))
    assert np.array_equal(cut, whole)
    np.testing.assert_allclose(whole, slope_envelope_reference(SIGNAL, 30), atol=1e-12)
    resampler = PolyphaseResampler(360, 250)
    assert np.array_equal(
        np.concatenate([resampler.push(part) for part in parts]),
        PolyphaseResampler(360, 250).push(SIGNAL),
    )


@pytest.mark.parametrize(("rate_in", "rate_out"), [(360, 250), (250, 500), (500, 125), (125, 125)])
def test_resampling_is_its_reference_and_scipys_upfirdn(rate_in: int, rate_out: int) -> None:
    resampler = PolyphaseResampler(rate_in, rate_out)
    out = resampler.push(SIGNAL)
    up, down, taps = resampler.up, resampler.down, resampler.taps
    np.testing.assert_allclose(out, polyphase_reference(SIGNAL, taps, up, down), atol=1e-12)
    expected = scipy_signal.upfirdn(taps, SIGNAL, up, down)[: len(out)]
    np.testing.assert_allclose(out, expected, atol=1e-12)
    assert len(out) == -(-len(SIGNAL) * up // down)


def test_resampling_keeps_a_sine_and_goes_on_from_a_state() -> None:
    sine = np.sin(2 * np.pi * 5 * np.arange(3600) / 360)
    first = PolyphaseResampler(360, 250)
    begin = first.push(sine[:1001])
    second = PolyphaseResampler(360, 250)
    second.restore(first.state())
    out = np.concatenate([begin, second.push(sine[1001:])])
    delay = first.delay_raised_samples / (360 * first.up)
    expected = np.sin(2 * np.pi * 5 * (np.arange(len(out)) / 250 - delay))
    np.testing.assert_allclose(out[300:-300], expected[300:-300], atol=2e-3)  # the filter's ripple


def test_wrong_arrays_are_refused() -> None:
    with pytest.raises(KernelInputError):
        sos_filter(np.zeros((1, 5)), SIGNAL, np.zeros((1, 2)))
    with pytest.raises(KernelInputError):
        slope_envelope(SIGNAL.astype(np.float32), np.zeros(5), np.zeros(3), np.zeros(1, np.int64))
    with pytest.raises(KernelInputError):
        PolyphaseResampler(0, 250)
