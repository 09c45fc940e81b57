#!/usr/bin/env bash
# install_torch.sh PYTHON REQUIREMENT: PyTorch's CPU build if there is one, else what pip finds.
set -uo pipefail
python=$1 torch=$2
here=$(dirname "$0")
index=${TORCH_INDEX:-https://download.pytorch.org/whl/cpu}
pip() { "$python" -m pip --disable-pip-version-check install --quiet "$@"; }

# The constraint refuses builds that bring CUDA. What pip is set up for may have one without it, as
# on macOS; else PyTorch's own index of CPU builds has.
pip --constraint "$here/no-cuda.txt" "$torch" 2>/dev/null && exit
echo "PyTorch: its CPU build, from $index"
pip --constraint "$here/no-cuda.txt" --retries 1 --timeout 15 --extra-index-url "$index" "$torch" \
  2>/dev/null && exit
echo "PyTorch: no CPU build could be reached, so this installs the build with CUDA:" \
  "about 3 GB to download, 7 GB on disk, and some minutes."
pip "$torch" || pip "${torch%%[=<>]*}"
