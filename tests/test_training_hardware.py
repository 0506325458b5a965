"""What trains in which precision: as asked, and by itself in bfloat16 only where the processor is quick at it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training import hardware
from training.hardware import CPU, Hardware, bfloat16_is_fast_on_cpu, choose_hardware
from training.loop import Schedule, fit, generators


@pytest.fixture
def products_take(monkeypatch):
    """A function that sets how many seconds a matrix product takes in float32 and in bfloat16."""
    now = [0.0]

    def set_seconds(float32: float, bfloat16: float) -> None:
        def multiply(matrix, _):
            now[0] += {torch.float32: float32, torch.bfloat16: bfloat16}[matrix.dtype]

        monkeypatch.setattr(hardware.torch, "mm", multiply)

    monkeypatch.setattr(hardware.time, "perf_counter", lambda: now[0])
    bfloat16_is_fast_on_cpu.cache_clear()
    yield set_seconds
    bfloat16_is_fast_on_cpu.cache_clear()


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(4.0, 1.0, torch.bfloat16), (4.0, 3.5, torch.float32), (1.0, 75.0, torch.float32)],
)
def test_a_processor_gets_bfloat16_only_where_it_is_much_faster(products_take, float32, bfloat16, expected):
    products_take(float32, bfloat16)
    assert choose_hardware("cpu").dtype == expected
    products_take(bfloat16, float32)
    assert choose_hardware("cpu").dtype == expected  # measured once


def test_what_is_asked_for_is_not_measured(products_take):
    products_take(1.0, 75.0)
    assert choose_hardware("cpu", "bfloat16") == Hardware(torch.device("cpu"), torch.bfloat16)
    assert choose_hardware("cpu", "float32") == CPU


@pytest.mark.parametrize(
    ("options", "message"),
    [(("cpu", "float16"), "dtype is 'float16', expected one of auto, float32, bfloat16"), (("tpu",), "'tpu'")],
)
def test_other_hardware_is_refused_with_what_there_is(options, message):
    with pytest.raises(ValueError, match=message):
        choose_hardware(*options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_computes_in_the_dtype_and_leaves_the_weights_float32(dtype):
    layer = nn.Linear(2, 2)
    with Hardware(torch.device("cpu"), dtype).autocast():
        assert layer(torch.ones(1, 2)).dtype == dtype
    assert layer.weight.dtype == torch.float32 and layer(torch.ones(1, 2)).dtype == torch.float32


def test_data_live_where_batches_are_drawn_by_the_processor():
    assert CPU.home(torch.ones(3)) == torch.device("cpu") and not CPU.is_gpu
    assert Hardware(torch.device("mps"), torch.float32).home() == torch.device("cpu")


def test_data_live_on_a_gpu_that_has_room(monkeypatch):
    gpu = Hardware(torch.device("cuda"), torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 9000))
    assert gpu.home(torch.ones(100)) == gpu.device
    assert gpu.home(torch.ones(100), torch.ones(100)) == torch.device("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_run_goes_on_on_another_device(tmp_path):
    def line(minutes: float, where: Hardware, *, resume: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = nn.Linear(1, 1)
        working = where.working_copy(model)
        home = where.home(torch.ones(1))
        assert home.type == where.device.type

        def compute_losses(step):
            _, rng = generators(1, step, home)
            x = torch.randn(32, 1, generator=rng, device=home)
            return {"mse": (working(x.to(where.dtype)).float() - 3 * x).square().mean()}

        schedule = Schedule(minutes, learning_rate=0.05, warmup_steps=1, validate_every=0.0)
        options = {"resume": resume, "hardware": where, "working": working}
        return fit(model, compute_losses, lambda m: {}, schedule, tmp_path, **options).weight

    gpu = Hardware(torch.device("cuda"), torch.bfloat16)
    for minutes, where in ((0.001, CPU), (0.01, gpu), (0.02, CPU)):
        weight = line(minutes, where, resume=where != CPU or minutes > 0.01)
        assert weight.device.type == "cpu" and weight.isfinite().all()
