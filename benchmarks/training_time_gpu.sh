#!/usr/bin/env bash
# Trainings of 12 seconds on one GPU, in 12 minutes: what a search finds, beside the network of the
# CIFAR-10 speed record by its own recipe, a searched one and the default, and two networks of timm's.
#
#   benchmarks/training_time_gpu.sh cifar10.tar.gz [OUT]
#
# A search has fewer trials than on CPUs. What did not fit in, the next call does.
set -euo pipefail
here=$(dirname "$0") data=$1 out=${2:-runs/training-time-gpu}
cells() {
  python "$here/training_time.py" --data "$data" --out "$out" --time 12s "$@"
}
within_time() {
  cells --ways found --seeds 2 --trials 40
  cells --ways own a --seeds 2 --networks cifar_speed_record
  cells --ways a --seeds 1 --networks resnet18 resnet10t
  cells --ways b --seeds 1 --networks cifar_speed_record --recipe-trials 15
}
export -f cells within_time
export here data out
timeout 700 bash -euo pipefail -c within_time || echo "stopped after 700 s; call it again to go on"
cells --table
