"""The one loop. Supervised training is distillation with no teacher; what a method is, the loop does not know."""

from __future__ import annotations

import copy
import importlib.util
import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from posestill.data.batches import PlannedBatches
from posestill.engine.checkpoint import TrainingState, cut_back, load_state, save_state
from posestill.engine.config import RunConfig, dump_run
from posestill.engine.log import RunLog
from posestill.engine.optim import build_optimiser, learning_rate_factor, set_learning_rate
from posestill.engine.sense import settled, told_of
from posestill.engine.setup import BuiltRun, Sources, open_sources, set_up
from posestill.engine.surroundings import run_hash, surroundings
from posestill.engine.unreadable import PassedOver
from posestill.evaluation.evaluate import Evaluation, Share, batch_loader, evaluate_model
from posestill.files import refuse_taken, write_json
from posestill.methods.base import Distiller
from posestill.models.average import move_average, warm_decay
from posestill.models.device import trains_on_cpu
from posestill.models.pose_model import PoseModel, read_description
from posestill.models.threads import try_threads
from posestill.schema import UserError
from posestill.teachers.bridge import worth_knowing
from posestill.types import PoseBatch

WRITTEN_BY_RUNS = (
    "config.yaml", "metrics.jsonl", "eval.json", "control.json", "beside.json", "report.html", "best/config.json",
    "best/model.safetensors", "last/training.pt",
)  # fmt: skip
"""a run folder is known by its config.yaml"""


@dataclass(frozen=True)
class FitResult:
    """What a run left behind."""

    folder: Path
    sources: Sources
    evaluation: Evaluation
    """of the last step"""
    seconds: float
    """of training in this process, evaluation left out"""
    is_main_process: bool
    """False in all but one of several processes: leave writing to that one"""


def fit(
    config: RunConfig,
    folder: Path,
    *,
    resume: bool = False,
    sources: Sources | None = None,
    quiet: bool = False,
) -> FitResult:
    """Train what `config` describes into the run folder.

    `resume` goes on from `folder/last`, bit for bit on a CPU. `sources` that are open already can be handed in.
    """
    accelerator = _accelerator(config, folder)
    main = accelerator.is_main_process
    log = RunLog(folder if main else None, quiet=quiet or not main)
    opened = sources or open_sources(config, log=log, device=accelerator.device)
    config = settled(config, opened.train.skeleton, log)
    built = set_up(config, opened, device=accelerator.device, world=accelerator.num_processes, log=log)
    _check_folder(config, folder, resume)  # by every process, before the first one writes
    accelerator.wait_for_everyone()
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text(dump_run(config))
    if config.train.trackers:
        accelerator.init_trackers("posestill", config=_flat(config.model_dump(mode="json")))

    run = _Run(config, folder, built, accelerator, log)
    start = run.restore() if resume else 0
    log.say(
        f"{type(built.distiller).__name__}: {built.total_steps} steps of {config.train.batch_size} persons "
        f"({int(built.labels.shown.sum())} labelled of {len(built.labels.shown)}), "
        f"{sum(each.numel() for each in built.distiller.student.parameters()):,} student parameters, "
        f"{accelerator.num_processes} x {accelerator.device.type}, {config.train.precision}"
    )
    if built.distiller.chosen:
        log.say(built.distiller.chosen)
    if built.distiller.teacher is not None:
        for line in worth_knowing(built.distiller.teacher, built.distiller.student):
            log.say(line)
    run.choose_threads(start)
    planned = PlannedBatches(
        built.batches,
        start=start,
        stop=built.total_steps,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )
    loader = batch_loader(built.dataset, planned, workers=config.train.workers)
    evaluation: Evaluation | None = None
    passed_over = PassedOver(built.dataset, log)
    with log.bar("training", built.total_steps, start) as bar:
        for step, (wanted, batch) in enumerate(zip(planned, loader, strict=True), start=start):
            passed_over.look(step, wanted, batch)
            run.train_step(step, batch.to(accelerator.device))
            done = step + 1
            note = run.log_losses(done) if done % config.train.log_every == 0 or done == built.total_steps else None
            bar.advance(1, note)
            if built.is_due(done, config.evaluate.every):
                evaluation = run.evaluate(done)
                run.save(done)
            elif config.train.save_every and built.is_due(done, config.train.save_every):
                run.save(done)
    if evaluation is None:  # nothing was left to train
        evaluation = run.figures()
    accelerator.end_training()
    return FitResult(
        folder=folder, sources=built.sources, evaluation=evaluation, seconds=run.seconds, is_main_process=main
    )


class _Run:
    """The mutable state of one training run."""

    def __init__(self, config: RunConfig, folder: Path, built: BuiltRun, accelerator: Accelerator, log: RunLog) -> None:
        self.config, self.folder, self.built, self.accelerator, self.log = config, folder, built, accelerator, log
        self.distiller = built.distiller
        self.averaged: Distiller | None = None
        if config.train.ema is not None:
            self.averaged = copy.deepcopy(self.distiller).eval().requires_grad_(False).to(accelerator.device)
        if config.train.compile:
            _compile(self.distiller.student, log)
        optimiser = build_optimiser(config.train.optimiser, self.distiller, self.distiller.parameter_groups())
        self.wrapped, self.optimiser = accelerator.prepare(self.distiller, optimiser)
        self.sums: dict[str, Tensor] = {}
        self.summed = 0
        self.best: float | None = None
        self.seconds = 0.0
        self.trained = 0
        """steps taken in this process"""
        self.threads: int | None = config.train.threads
        """of this process on a CPU; None: not chosen yet"""

    def choose_threads(self, step: int) -> None:
        """Take the threads that were asked for or saved, else those that a few steps of a copy run fastest with."""
        if self.accelerator.device.type != "cpu":
            return
        if self.threads is None:
            distiller = copy.deepcopy(self.distiller).train()  # its steps are thrown away
            rank, world = self.accelerator.process_index, self.accelerator.num_processes
            batch = self.built.dataset.__getitems__(self.built.batches.batch(step, rank=rank, world=world))
            trial = try_threads(lambda: torch.stack(list(distiller(batch, 0.5).values())).sum().backward())
            self.threads = torch.get_num_threads()
            if trial is not None:
                self.log.say(f"threads: {trial}; train.threads fixes the number")
        torch.set_num_threads(self.threads)

    def train_step(self, step: int, batch: PoseBatch) -> None:
        """One optimiser step."""
        began = time.monotonic()
        config, accelerator = self.config.train, self.accelerator
        # Dropout and other draws inside the networks follow from (seed, step, process): nothing to save or restore.
        torch.manual_seed(hash((self.config.seed, step, accelerator.process_index)) & 0x7FFF_FFFF)
        total = self.built.total_steps
        factor = learning_rate_factor(config.optimiser, step, total=total, unit=self.built.unit)
        set_learning_rate(self.optimiser, factor)
        self.wrapped.train()
        losses: dict[str, Tensor] = self.wrapped(batch, step / total)
        accelerator.backward(torch.stack(list(losses.values())).sum())
        if config.clip_norm is not None:
            accelerator.clip_grad_norm_(self.wrapped.parameters(), config.clip_norm)
        self.optimiser.step()
        self.optimiser.zero_grad()
        if not accelerator.optimizer_step_was_skipped:
            self.distiller.after_step()
            if self.averaged is not None:
                move_average(self.averaged, self.distiller, warm_decay(config.ema or 0.0, step))
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, torch.zeros_like(value)) + value.detach()
        self.summed += 1
        self.trained += 1
        self.seconds += time.monotonic() - began

    def log_losses(self, step: int) -> str:
        """Write the mean losses since the last call, and return them for the progress bar."""
        shares = torch.stack(list(self.sums.values())) / self.summed
        over_processes = self.accelerator.reduce(shares, "mean").tolist()
        means = dict(zip(self.sums, over_processes, strict=True))
        self.sums, self.summed = {}, 0
        for name, value in means.items():
            if not -1e30 < value < 1e30:
                raise UserError(
                    f"the loss '{name}' was not finite by step {step}: lower train.optimiser.learning_rate, set "
                    "train.clip_norm=1, or use train.precision=fp32"
                )
        rate = self.trained * self.config.train.batch_size / self.seconds
        row = {"step": step, "learning_rate": self.optimiser.param_groups[0]["lr"], **means}
        watched = self.distiller.watch()
        self.log.row({**row, "persons_per_second": round(rate, 1), **({"watched": watched} if watched else {})})
        self.accelerator.log({f"train/{name}": value for name, value in row.items() if name != "step"}, step=step)
        return f"loss {sum(means.values()):.4g} · {rate:.0f} persons/s"

    def shipped(self) -> PoseModel:
        """What would be deployed now: the averaged weights where there are any."""
        return (self.averaged or self.distiller).deployable()

    def figures(self) -> Evaluation:
        """The figures of what would be deployed now."""
        shipped = self.shipped()
        if self.accelerator.num_processes > 1:
            # Each process has its own batch-norm statistics since the last step; the first one's are deployed.
            for buffer in shipped.buffers():
                torch.distributed.broadcast(buffer, src=0)
        return evaluate_model(
            shipped,
            self.built.sources.val,
            self.config.evaluate,
            Share(
                device=self.accelerator.device,
                rank=self.accelerator.process_index,
                world=self.accelerator.num_processes,
                workers=self.config.train.workers,
            ),
        )

    def evaluate(self, step: int) -> Evaluation:
        """Evaluate, tell, and keep the model in `best/` if it is the best so far."""
        evaluation = self.figures()
        metrics, conditions = evaluation.metrics, evaluation.conditions
        figure = metrics[self.config.evaluate.best_by]
        against = f"agreement with {conditions['truth']}: " if "truth" in conditions else ""
        self.log.say(
            f"step {step}/{self.built.total_steps}: {against}mean OKS {100 * metrics['mean_oks']:.1f} · "
            f"AP {100 * metrics['AP']:.1f} · PCK {100 * metrics['PCK']:.1f} ({conditions['boxes']} boxes, flip test "
            f"{'on' if conditions['flip_test'] else 'off'}, input {'x'.join(map(str, conditions['input_size']))})"
        )
        for note in evaluation.notes:
            self.log.say(f"  {note}")
        self.log.row({"step": step, "evaluation": metrics})
        self.accelerator.log({f"val/{name}": value for name, value in metrics.items()}, step=step)
        if self.accelerator.is_main_process:
            measured = {
                "trained_on": told_of(self.built.sources.train),
                "seed": self.config.seed,
                "settings_hash": run_hash(self.config),
                "surroundings": surroundings(),
            }
            if self.best is None or math.isnan(self.best) or figure > self.best:
                self.best = figure
                shipped = self.shipped()
                shipped.lineage.update(self._lineage(step))
                shipped.save(self.folder / "best")
            best = {"best_step": read_description(self.folder / "best")["lineage"]["step"]}
            write_json(self.folder / "eval.json", {"step": step, **best, **evaluation.as_json(), **measured})
        return evaluation

    def save(self, step: int) -> None:
        """Write the training state to `last/`."""
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = TrainingState(
                step=step,
                distiller=self.distiller.state_dict(),
                averaged=None if self.averaged is None else self.averaged.state_dict(),
                optimiser=self.optimiser.state_dict(),
                scaler=None if scaler is None else scaler.state_dict(),
                best=self.best,
                losses=self.sums,
                summed=self.summed,
                threads=self.threads,
            )
            save_state(self.folder / "last", state)
        self.accelerator.wait_for_everyone()

    def restore(self) -> int:
        """Go back to the state in `last/` and return its step; 0 where none was saved yet."""
        state = load_state(self.folder / "last")
        if self.accelerator.is_main_process:
            cut_back(self.folder / "metrics.jsonl", 0 if state is None else state.step)
        if state is None:
            return 0
        self.distiller.load_state_dict(state.distiller)
        if self.averaged is not None and state.averaged is not None:
            self.averaged.load_state_dict(state.averaged)
        self.optimiser.load_state_dict(state.optimiser)
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.best = state.best
        self.sums = {name: value.to(self.accelerator.device) for name, value in state.losses.items()}
        self.summed = state.summed
        self.threads = self.threads or state.threads  # sums in another order would end in other last digits
        self.log.say(f"going on from step {state.step}")
        return state.step

    def _lineage(self, step: int) -> dict[str, Any]:
        teacher = self.distiller.teacher
        return {
            "method": self.config.model_dump(mode="json")["method"]["name"],
            "origin": self.distiller.origin,
            "seed": self.config.seed,
            "step": step,
            "teacher": None if teacher is None else teacher.lineage,
        }


def _accelerator(config: RunConfig, folder: Path) -> Accelerator:
    precision = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}[config.train.precision]
    if precision == "fp16" and not torch.cuda.is_available():
        raise UserError("train.precision: fp16 needs a CUDA GPU; on a CPU take bf16 or fp32")
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with it
    torch.use_deterministic_algorithms(config.train.deterministic)
    missing = [name for name in config.train.trackers if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"train.trackers: {', '.join(missing)} not installed: pip install {' '.join(missing)}")
    AcceleratorState._reset_state()  # a second run in this process may want another precision
    return Accelerator(
        # Without `cpu`, processes on CPUs alone would not find each other.
        cpu=trains_on_cpu(config.train.device),
        mixed_precision=precision,
        log_with=list(config.train.trackers) or None,
        project_dir=str(folder),
        step_scheduler_with_optimizer=False,
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by dotted key, as trackers show them."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        nested = isinstance(value, dict)
        found.update(_flat(value, f"{prefix}{key}.") if nested else {f"{prefix}{key}": str(value)})
    return found


def _check_folder(config: RunConfig, folder: Path, resume: bool) -> None:
    described, path = dump_run(config), folder / "config.yaml"
    if not path.is_file():
        refuse_taken(folder, WRITTEN_BY_RUNS, what="the run folder")
    if path.is_file() and not resume:
        raise UserError(f"{folder} holds a run already: choose another --out, or go on with it by --resume")
    if path.is_file() and (before := path.read_text()) != described:
        pairs = zip(before.splitlines(), described.splitlines(), strict=False)
        changed = next((f"{one.strip()} -> {other.strip()}" for one, other in pairs if one != other), "its length")
        raise UserError(f"--resume: {path} describes another run ({changed}): resume it with its own settings")


def _compile(student: PoseModel, log: RunLog) -> None:
    try:
        torch.compile(nn.Linear(1, 1))(torch.zeros(1, 1))
    except Exception as error:  # whatever the compiler lacks on this machine, the run goes on without it
        log.say(f"train.compile: not available here ({type(error).__name__}); going on eagerly")
        return
    student.compile()
