#!/bin/bash
# Trains the runs of a plan on the Ray cluster that this machine belongs to, and writes its table.
set -euo pipefail

PLAN=${PLAN:-plan.yaml}   # change: your plan
GPUS=${GPUS:-1}           # change: of a run; 0.25 for four runs a GPU, 0 for none

exec posestill compare "$PLAN" --on ray --gpus "$GPUS"
