"""Fit a network: windows, loss, AdamW, a moving average of the weights, validation, checkpoints.

Every random choice follows from (seed, step), and a checkpoint holds everything else, so a run
that was interrupted and resumed ends with the same weights as one that was not.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from monai.losses.dice import DiceCELoss
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from inference.domain.errors import ModelWeightsError
from inference.pipeline.network import build_network, load_network
from inference.pipeline.segment import segment_volume
from inference.pipeline.spec import ModelSpec, load_spec
from training.cases import Case, PreparedCase
from training.checkpoint import RunState, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.metrics import agreement, mean_of
from training.sampling import WindowSampler


class FitWatcher(Protocol):
    """Told how a run goes; the command draws its progress bar from it."""

    def step(self, done: int, total: int, loss: float) -> None:
        """Tell that a step was made; ``loss`` is smoothed over the last ones."""
        ...

    def validated(self, step: int, figures: dict[str, Any]) -> None:
        """Tell that the averaged weights were tried on the validation cases."""
        ...


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a run ended: whether all steps were made, and the averaged network."""

    is_finished: bool
    step: int
    seconds: float
    network: nn.Module
    history: list[dict[str, Any]]


def config_sha256(config: TrainConfig) -> str:
    """Hash of what decides the weights; where the data lies and when to pause do not."""
    table = config.model_dump(mode="json", exclude={"data_root": True, "fit": {"max_minutes"}})
    return hashlib.sha256(repr(table).encode()).hexdigest()


def fit(
    config: TrainConfig,
    cases: Sequence[PreparedCase],
    validation: Sequence[Case],
    run: Path,
    watcher: FitWatcher,
    *,
    resume: bool = False,
    start_from: Path | None = None,
) -> FitResult:
    """Train, or go on training, in the folder ``run``.

    Parameters
    ----------
    start_from : a model folder whose weights a new run begins with (fine-tuning), instead of
        random ones; a resumed run has its own

    Raises
    ------
    CheckpointError
        ``resume`` is asked for and the folder holds nothing that fits the configuration.
    ModelError
        The model of ``start_from`` is not whole, or its network is another one.
    """
    return _Run(config, cases, validation, run, watcher, resume=resume, start_from=start_from).go()


class _Run:
    """One run: the network, its average, the optimizer and where it stands."""

    def __init__(
        self,
        config: TrainConfig,
        cases: Sequence[PreparedCase],
        validation: Sequence[Case],
        run: Path,
        watcher: FitWatcher,
        *,
        resume: bool,
        start_from: Path | None,
    ) -> None:
        self._config, self._fit, self._run, self._watcher = config, config.fit, run, watcher
        self._spec = config.spec()
        if self._fit.threads:
            torch.set_num_threads(self._fit.threads)
        self._device = torch.device(self._fit.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._network = build_network(self._spec)
        if start_from is not None and not resume:
            weights = load_network(start_from, load_spec(start_from)).state_dict()
            load_weights(self._network, weights, folder=start_from)
        self._network = self._network.to(self._device).train()
        self._averaged = copy.deepcopy(self._network).requires_grad_(False)
        self._optimizer = torch.optim.AdamW(
            self._network.parameters(),
            lr=self._fit.learning_rate,
            weight_decay=self._fit.weight_decay,
        )
        self._state = RunState(config_sha256=config_sha256(config))
        if resume:
            self._state = load_checkpoint(
                run,
                self._state.config_sha256,
                self._network,
                self._averaged,
                self._optimizer,
            )
        self._sampler = WindowSampler(
            cases,
            self._spec.window.roi_size,
            config.augment,
            seed=config.seed,
            batch_size=self._fit.batch_size,
            foreground=self._fit.foreground,
            padding_value=self._spec.preprocessing.intensity.padding_value,
        )
        self._loss = DiceCELoss(
            softmax=True,
            to_onehot_y=True,
            include_background=self._fit.include_background_in_dice,
            batch=True,
        )
        self._validation = [(case.id, case.read()) for case in validation]

    def go(self) -> FitResult:
        """Make the steps that are left, or as many as the time allows."""
        began = time.monotonic() - self._state.seconds
        started = time.monotonic()
        limit_s = math.inf if self._fit.max_minutes is None else self._fit.max_minutes * 60
        smooth: float | None = None
        with SummaryWriter(str(self._run / "tensorboard")) as board:
            while self._state.step < self._fit.steps and time.monotonic() - started < limit_s:
                rate = learning_rate(self._config, self._state.step)
                loss = self._step(rate)
                self._state.step += 1
                step = self._state.step
                smooth = loss if smooth is None else 0.95 * smooth + 0.05 * loss
                board.add_scalar("train/loss", loss, step)
                board.add_scalar("train/learning_rate", rate, step)
                self._watcher.step(step, self._fit.steps, smooth)
                self._state.seconds = time.monotonic() - began
                is_last = step == self._fit.steps
                if self._validation and (step % self._fit.validate_every == 0 or is_last):
                    self._validate(board)
                if step % self._fit.checkpoint_every == 0 or is_last:
                    self._save()
        self._save()
        return FitResult(
            is_finished=self._state.step >= self._fit.steps,
            step=self._state.step,
            seconds=self._state.seconds,
            network=self._averaged.eval(),
            history=self._state.history,
        )

    def _step(self, rate: float) -> float:
        """One batch forward and back; returns the loss."""
        images, labels = self._sampler.batch(self._state.step)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(
            self._device.type, dtype=torch.bfloat16, enabled=self._fit.autocast_bf16
        ):
            logits = self._network(images.to(self._device))
        loss = self._loss(logits.float(), labels.to(self._device))
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._network.parameters(), self._fit.clip_gradient_norm)
        self._optimizer.step()
        self._average()
        return float(loss.detach())

    def _average(self) -> None:
        """Move the average towards the weights; faster at the beginning, when they move far."""
        step = self._state.step
        decay = min(self._fit.ema_decay, (step + 1) / (step + 10))
        with torch.no_grad():
            pairs = zip(
                self._averaged.state_dict().values(),
                self._network.state_dict().values(),
                strict=True,
            )
            for average, current in pairs:
                if average.is_floating_point():
                    average.lerp_(current, 1 - decay)
                else:
                    average.copy_(current)

    def _validate(self, board: SummaryWriter) -> None:
        """Try the averaged weights on whole volumes, the way serving runs them."""
        threads = torch.get_num_threads()
        figures = validate(self._spec, copy.deepcopy(self._averaged).eval(), self._validation)
        torch.set_num_threads(threads)
        step = self._state.step
        for label, found in figures.items():
            for name, value in found.items():
                if value is not None:
                    board.add_scalar(f"validation/{name}/{label}", value, step)
        self._state.history.append({"step": step, **figures})
        self._watcher.validated(step, figures)

    def _save(self) -> None:
        save_checkpoint(self._run, self._state, self._network, self._averaged, self._optimizer)


def load_weights(network: nn.Module, weights: dict[str, Tensor], *, folder: Path) -> None:
    """Put a model's weights into a network of the same architecture.

    Raises
    ------
    ModelWeightsError
    """
    try:
        network.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        raise ModelWeightsError(
            f"{folder}: its network is not the one of [model.network]: {error}"
        ) from error


def learning_rate(config: TrainConfig, step: int) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    fit_table = config.fit
    warm = min(1.0, (step + 1) / max(fit_table.warmup_steps, 1))
    fall = 0.5 * (1 + math.cos(math.pi * step / fit_table.steps))
    return fit_table.learning_rate * warm * (0.01 + 0.99 * fall)


def validate(
    spec: ModelSpec, network: nn.Module, cases: Sequence[tuple[str, Any]]
) -> dict[str, dict[str, float | None]]:
    """Return mean Dice and mean HD95 (mm) of each label over read cases, on their own grids."""
    found: dict[str, list[Any]] = {label.name: [] for label in spec.labels}
    for _, case in cases:
        volume = case.volume
        labels = segment_volume(volume.array, volume.affine_lps, spec, network).labels
        for label in spec.labels:
            found[label.name].append(
                agreement(labels == label.value, case.labels == label.value, volume.affine_lps)
            )
    return {
        name: {
            "dice": mean_of([each.dice for each in figures]),
            "hd95_mm": mean_of([each.hd95_mm for each in figures]),
        }
        for name, figures in found.items()
    }
