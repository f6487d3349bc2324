#!/bin/bash
# Starts the head of a Ray cluster on this machine.
set -euo pipefail

export RAY_USAGE_STATS_ENABLED=0
exec ray start --head --port="${PORT:-6379}" --include-dashboard=false --disable-usage-stats
