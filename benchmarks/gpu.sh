#!/usr/bin/env bash
# Everything that only a GPU can tell, as one JSON file; stopped after 20 minutes.
#
#   bash benchmarks/gpu.sh                       # writes gpu.json
#   bash benchmarks/gpu.sh --device cpu --tiny   # on a CPU: whether the script runs
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
exec python benchmarks/gpu.py "$@"
