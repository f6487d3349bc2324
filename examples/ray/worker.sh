#!/bin/bash
# Lets this machine join the Ray cluster whose head is named: bash worker.sh HEAD
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0
exec ray start --address="${1:?the name of the head is missing: bash worker.sh HEAD}:${PORT:-6379}" --disable-usage-stats
