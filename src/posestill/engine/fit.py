"""The one loop. Supervised training is distillation with no teacher; what a method is, the loop does not know."""

from __future__ import annotations

import copy
import math
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from torch import Tensor

from posestill.data.batches import PlannedBatches
from posestill.data.loading import training_batches
from posestill.engine.accelerator import compile_student, flat, open_accelerator
from posestill.engine.checkpoint import TrainingState, check_state, checksum, cut_back, load_state, save_state
from posestill.engine.config import RunConfig
from posestill.engine.folder import check_folder, check_place, held_by_this_run, write_description
from posestill.engine.log import RunLog, Speed
from posestill.engine.optim import build_optimiser, learning_rate_factor, set_learning_rate
from posestill.engine.sense import settled, told_of
from posestill.engine.setup import BuiltRun, Sources, open_sources, set_up
from posestill.engine.stopping import AskedToStop, Stop, Stopped
from posestill.engine.surroundings import run_hash, surroundings
from posestill.engine.together import Beginning, Signals, agree, agree_on_state, company, sent_by_the_first
from posestill.engine.unreadable import PassedOver
from posestill.evaluation.evaluate import Evaluation, Share, evaluate_model
from posestill.files import write_json
from posestill.methods.base import Distiller
from posestill.models.average import move_average, warm_decay
from posestill.models.pose_model import PoseModel, read_description
from posestill.models.ranks import seed_of_process
from posestill.models.threads import try_threads
from posestill.schema import UserError
from posestill.teachers.bridge import worth_knowing
from posestill.types import PoseBatch


@dataclass(frozen=True)
class FitResult:
    """What a run left behind."""

    folder: Path
    sources: Sources
    evaluation: Evaluation
    """of the last step"""
    seconds: float
    """of training, evaluation left out; those before it was resumed count, too"""
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

    `resume` goes on from `folder/last`, bit for bit on a CPU, and starts where nothing is there yet. `sources` that are
    open already can be handed in. Ctrl-C and SIGTERM end it by `Stopped`, once the step under way is saved.
    """
    with Stop() as stop:
        accelerator = open_accelerator(config, folder)
        with company(accelerator.num_processes), ExitStack() as held:
            return _fit(config, folder, accelerator, stop, held, resume=resume, sources=sources, quiet=quiet)


def _fit(
    config: RunConfig, folder: Path, accelerator: Accelerator, stop: Stop, held: ExitStack, *,
    resume: bool, sources: Sources | None, quiet: bool,
) -> FitResult:  # fmt: skip
    main = accelerator.is_main_process
    log = RunLog(folder if main else None, quiet=quiet or not main)
    if accelerator.num_processes == 1:
        check_place(folder)  # before the data take their time
    opened = sources or open_sources(config, log=log, device=accelerator.device)
    config = settled(config, opened.train.skeleton, log)
    built = set_up(config, opened, device=accelerator.device, world=accelerator.num_processes, log=log)
    state = _begin(config, folder, built, accelerator, held, resume=resume)
    if main:
        write_description(folder, config)
    if config.train.trackers:
        accelerator.init_trackers("posestill", config=flat(config.model_dump(mode="json")))

    run = _Run(config, folder, built, accelerator, log, stop)
    start = run.restore(state)
    if resume:
        log.say(f"going on from step {start}" if start else f"nothing to resume in {folder}: starting at step 0")
    log.say(
        f"{type(built.distiller).__name__}: {built.total_steps} steps of {config.train.batch_size} persons "
        f"({int(built.labels.shown.sum())} labelled of {built.people}), "
        f"{sum(each.numel() for each in built.distiller.student.parameters()):,} student parameters, "
        f"{accelerator.num_processes} x {accelerator.device.type}, {config.train.precision}"
    )
    if built.distiller.chosen:
        log.say(built.distiller.chosen)
    if built.distiller.teacher is not None:
        for line in worth_knowing(built.distiller.teacher, built.distiller.student):
            log.say(line)
    run.choose_threads(start)
    evaluation = run.train(start, evaluate_first=state is not None and not state.evaluated)
    if evaluation is None:  # nothing was left to train
        evaluation = run.figures()
    accelerator.end_training()
    return FitResult(
        folder=folder, sources=built.sources, evaluation=evaluation, seconds=run.seconds, is_main_process=main
    )


def _begin(
    config: RunConfig, folder: Path, built: BuiltRun, accelerator: Accelerator, held: ExitStack, *, resume: bool
) -> TrainingState | None:
    """The state that every process goes on from, once all have agreed on it; None: from the beginning."""
    state, error = None, ""
    try:
        if accelerator.is_main_process:
            held.enter_context(held_by_this_run(folder))
        state = load_state(folder / "last") if resume else None
        reached = None if state is None else state.step
        if accelerator.is_main_process:  # the only one that writes
            follows = built.distiller.follows_progress
            check_folder(config, folder, resume=resume, reached=reached, follows_progress=follows)
            check_state(state, total=built.total_steps, version=config.method.version)
    except UserError as found:
        if accelerator.num_processes == 1:
            raise
        error = str(found)
    if accelerator.num_processes == 1:
        return state
    own = Beginning(
        settings=f"{run_hash(config)} {checksum(*built.whom)}",
        weights=checksum(built.distiller.student.state_dict()),
        reached=None if state is None else state.step,
        error=error,
    )
    return sent_by_the_first(state, accelerator.device) if agree(own) else state


class _Run:
    """The mutable state of one training run."""

    def __init__(
        self, config: RunConfig, folder: Path, built: BuiltRun, accelerator: Accelerator, log: RunLog, stop: Stop
    ) -> None:
        self.config, self.folder, self.built, self.accelerator, self.log = config, folder, built, accelerator, log
        self.stop, self.signals = stop, Signals(accelerator.device)
        stop.alone = accelerator.num_processes == 1
        self.distiller = built.distiller
        self.averaged: Distiller | None = None
        if config.train.ema is not None:
            self.averaged = copy.deepcopy(self.distiller).eval().requires_grad_(False).to(accelerator.device)
        if config.train.compile:
            compile_student(self.distiller.student, log)
        optimiser = build_optimiser(config.train.optimiser, self.distiller, self.distiller.parameter_groups())
        self.wrapped, self.optimiser = accelerator.prepare(self.distiller, optimiser)
        self.sums: dict[str, Tensor] = {}
        self.summed = 0
        self.best: float | None = None
        self.seconds = 0.0
        """of training, evaluation left out, before the run was resumed and since"""
        self.speed = Speed()
        self.saved_at = time.monotonic()
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

    def train(self, start: int, *, evaluate_first: bool) -> Evaluation | None:
        """Take the steps that are left; returns the last evaluation, None where there was none."""
        built, config = self.built, self.config
        rank, world = self.accelerator.process_index, self.accelerator.num_processes
        planned = PlannedBatches(built.batches, start=start, stop=built.total_steps, rank=rank, world=world)
        loader = training_batches(built.dataset, planned, workers=config.train.workers)
        passed_over = PassedOver(built.dataset, self.log)
        self.stop.gently = True
        evaluation = self.evaluate_and_save(start) if evaluate_first else None
        self.clock = time.monotonic()
        with self.log.bar("training", built.total_steps, start) as bar:
            for step, (wanted, batch) in enumerate(zip(planned, loader, strict=True), start=start):
                passed_over.look(step, wanted, batch)
                self.train_step(step, batch.to(self.accelerator.device))
                done = step + 1
                logs = done % config.train.log_every == 0 or done == built.total_steps
                bar.advance(1, self.log_losses(done) if logs else None)
                stop, save = self.signals.exchange(stop=self.stop.asked, save=self._is_time_to_save())
                if built.is_due(done, config.evaluate.every):
                    evaluation = self.evaluate_and_save(done)
                elif stop or save or (config.train.save_every and built.is_due(done, config.train.save_every)):
                    self.save(done)
                if stop and done < built.total_steps:
                    self._leave(done)
        self.stop.gently = False
        return evaluation

    def evaluate_and_save(self, step: int) -> Evaluation:
        """Evaluate and save; a run that is asked to stop meanwhile saves that it is to be evaluated yet."""
        try:
            evaluation = self.evaluate(step)
        except AskedToStop:
            self.save(step, evaluated=False)
            self._leave(step)
        self.save(step)
        return evaluation

    def _leave(self, step: int) -> NoReturn:
        raise Stopped(f"interrupted after step {step}, which is saved: --resume goes on from there")

    def _is_time_to_save(self) -> bool:
        minutes = self.config.train.save_every_minutes
        return (
            minutes is not None
            and self.accelerator.is_main_process
            and (time.monotonic() - self.saved_at >= 60 * minutes)
        )

    def train_step(self, step: int, batch: PoseBatch) -> None:
        """One optimiser step, whose time began when the one before it, a saving or an evaluation had ended."""
        config, accelerator = self.config.train, self.accelerator
        # Dropout and other draws inside the networks follow from (seed, step, process): nothing to save or restore.
        torch.manual_seed(seed_of_process(hash((self.config.seed, step, 0)) & 0x7FFF_FFFF))
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
        now = time.monotonic()
        self.seconds += now - self.clock
        self.speed.add(config.batch_size, now - self.clock)
        self.clock = now

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
        rate = self.speed.persons_per_second()
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
                # Several processes would leave it at different persons: they end it first.
                progress=self.stop.check if self.accelerator.num_processes == 1 else None,
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
                "trained_on": {**told_of(self.built.sources.train), "seen": self.built.people},
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

    def save(self, step: int, *, evaluated: bool = True) -> None:
        """Write the training state to `last/`."""
        sums = {name: self.accelerator.reduce(value.clone(), "mean") for name, value in self.sums.items()}
        if self.accelerator.is_main_process:
            scaler = self.accelerator.scaler
            state = TrainingState(
                step=step,
                distiller=self.distiller.state_dict(),
                averaged=None if self.averaged is None else self.averaged.state_dict(),
                optimiser=self.optimiser.state_dict(),
                scaler=None if scaler is None else scaler.state_dict(),
                best=self.best,
                losses=sums,
                summed=self.summed,
                threads=self.threads,
                seconds=self.seconds,
                evaluated=evaluated,
                method_version=self.config.method.version,
            )
            save_state(self.folder / "last", state)
        self.accelerator.wait_for_everyone()
        self.saved_at = self.clock = time.monotonic()

    def restore(self, state: TrainingState | None) -> int:
        """Go back to a saved state and return its step; 0 where there is none."""
        if self.accelerator.is_main_process:
            cut_back(self.folder / "metrics.jsonl", 0 if state is None else state.step)
        if state is not None:
            try:
                self._take(state)
            except (RuntimeError, ValueError, KeyError) as error:
                raise UserError(
                    f"{self.folder / 'last'} is of another model ({' '.join(str(error).split())[:200]}): choose "
                    "another --out, or remove it to start anew"
                ) from None
        step = 0 if state is None else state.step
        if self.accelerator.num_processes > 1:
            averaged = None if self.averaged is None else self.averaged.state_dict()
            agree_on_state(checksum(self.distiller.state_dict(), averaged, self.optimiser.state_dict()), step)
        return step

    def _take(self, state: TrainingState) -> None:
        self.distiller.load_state_dict(state.distiller)
        if self.averaged is not None and state.averaged is not None:
            self.averaged.load_state_dict(state.averaged)
        self.optimiser.load_state_dict(state.optimiser)
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        self.best = state.best
        self.sums = {name: value.to(self.accelerator.device) for name, value in state.losses.items()}
        self.summed = state.summed
        self.seconds = state.seconds
        self.threads = self.threads or state.threads  # sums in another order would end in other last digits

    def _lineage(self, step: int) -> dict[str, Any]:
        teacher = self.distiller.teacher
        return {
            "method": self.config.model_dump(mode="json")["method"]["name"],
            "origin": self.distiller.origin,
            "seed": self.config.seed,
            "step": step,
            "teacher": None if teacher is None else teacher.lineage,
        }
