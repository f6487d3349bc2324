#!/bin/bash
# One training, shared by the GPUs of this machine, or of NODES machines on each of which this script is started.
set -euo pipefail

RECIPE=${RECIPE:-coco-sample}         # change: a recipe's name or path
OUT=${OUT:-runs/torchrun}             # change: the run folder, on a disk that all machines see
GPUS=${GPUS:-8}                       # change: processes on each machine, one a GPU
NODES=${NODES:-1}                     # machines
HEAD=${HEAD:-localhost}               # one of them, which all reach
PORT=${PORT:-29500}

export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}

torchrun --nnodes="$NODES" --nproc-per-node="$GPUS" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$HEAD:$PORT" --rdzv-id="$(basename "$OUT")" \
    -m posestill train "$RECIPE" --out "$OUT" --resume
