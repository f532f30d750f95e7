#!/bin/bash
# What a GPU computes and how fast, on a machine that has its driver and nothing else: no Node, no network, no compiler.
#
#   test/device/run.sh PACK [OUT] [--software] [--only TASKS] [--wheels DIR]
#
# PACK is what `node dist/test/device/pack.js` wrote. OUT (default ./device-out) gets report.md and the logs of each task.
# --software accepts an adapter that is the processor, such as SwiftShader; else that is a failure. --only names some of
# adapter, transformer, training, vae and bench, with commas between them. --wheels has Python packages (diffusers and peft)
# for PyTorch's side of the benchmarks, where the machine's Python has PyTorch without them. Ends with 0 if every task passed.
set -euo pipefail

pack=${1:?"PACK is missing: what node dist/test/device/pack.js wrote"}
shift
out=device-out
if [[ $# -gt 0 && $1 != --* ]]; then
  out=$1
  shift
fi
mkdir -p "$out"
out=$(realpath "$out")
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
tar -xzf "$pack" -C "$home"

# The driver's own Vulkan library is found by a file that says where it is; some images keep it beside the driver.
for icd in /usr/share/vulkan/icd.d /etc/vulkan/icd.d /usr/local/nvidia/share/vulkan/icd.d; do
  if [[ -z ${VK_DRIVER_FILES:-}${VK_ICD_FILENAMES:-} && -e $icd/nvidia_icd.json ]]; then
    export VK_DRIVER_FILES=$icd/nvidia_icd.json
  fi
done
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}${LD_LIBRARY_PATH:+:}$home/lib
export XDG_CACHE_HOME=$home/cache XDG_RUNTIME_DIR=$home/runtime
mkdir -p -m 700 "$XDG_RUNTIME_DIR"
cd "$home"
"$home/bin/node" dist/test/device/device.js --out "$out" "$@"
