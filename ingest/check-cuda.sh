#!/bin/sh
# Checks the GPU code on a machine without a GPU. Not part of the default CI: it takes minutes.
#
#   ingest/check-cuda.sh types      Rust type-check of `cuda` and `flash-attn`, NO KERNELS COMPILED: a stand-in nvcc writes
#                                   empty files. About two CPU-minutes. Never build or test from its target folder.
#   ingest/check-cuda.sh kernels    `cuda` with the real nvcc: candle's kernels are compiled, for compute capability 8.0.
#                                   Nine minutes on two cores. nvcc comes from Python wheels (104 MB) unless CUDA_HOME is set.
#
# Work files go to $CHECK_CUDA_DIR, by default target/check-cuda. candle-flash-attn's own kernels (53 files, minutes each)
# are compiled only by a real build on a machine with CUDA and git: cargo build --features flash-attn.
set -eu

cd "$(dirname "$0")/.."
work="${CHECK_CUDA_DIR:-target/check-cuda}"
mkdir -p "$work"
work="$(cd "$work" && pwd)"
export CUDA_COMPUTE_CAP=80

types() {
    stand_in="$work/stand-in"
    mkdir -p "$stand_in/bin" "$stand_in/include" "$stand_in/lib64"
    cat >"$stand_in/bin/nvcc" <<'NVCC'
#!/bin/sh
# Stands in for nvcc: writes empty outputs.
case "$*" in
*--version*) printf "nvcc: NVIDIA (R) Cuda compiler driver\nCopyright\nBuilt\nCuda compilation tools, release 13.0, V13.0.88\nBuild\n"; exit ;;
*--list-gpu-code*) echo sm_80; exit ;;
esac
folder= last=
while [ $# -gt 0 ]; do
    case "$1" in
    -o) : >"$2"; exit ;;
    --output-directory) folder="$2"; shift ;;
    esac
    last="$1"; shift
done
[ -z "$folder" ] || : >"$folder/$(basename "$last" .cu).ptx"
NVCC
    # The kernels' headers are not needed either: a clone is an empty folder.
    cat >"$stand_in/bin/git" <<'GIT'
#!/bin/sh
case "$1" in
clone) for last; do :; done; mkdir -p "$last/include" ;;
esac
GIT
    chmod +x "$stand_in/bin/nvcc" "$stand_in/bin/git"
    echo "Rust type-check of cuda and flash-attn, no kernels compiled"
    for name in CUDA_HOME CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR; do export "$name=$stand_in"; done
    PATH="$stand_in/bin:$PATH" CUDAFORGE_HOME="$work/cudaforge" CARGO_TARGET_DIR="$work/types" \
        cargo check -p colqwen-index-ingest --features flash-attn --lib --test parity
}

kernels() {
    if [ -z "${CUDA_HOME:-}" ]; then
        python3 -m pip install --quiet --target "$work/wheels" --upgrade nvidia-cuda-nvcc==13.0.88 nvidia-nvvm==13.0.88 \
            nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cccl==13.0.85
        CUDA_HOME="$work/wheels/nvidia/cu13"
        chmod -R +x "$CUDA_HOME/bin" "$CUDA_HOME/nvvm/bin"
    fi
    echo "cuda with $CUDA_HOME/bin/nvcc"
    for name in CUDA_PATH CUDA_ROOT CUDA_TOOLKIT_ROOT_DIR; do export "$name=$CUDA_HOME"; done
    export CUDA_HOME
    PATH="$CUDA_HOME/bin:$PATH" CARGO_TARGET_DIR="$work/kernels" cargo check -p colqwen-index-ingest --features cuda --lib --test parity
}

case "${1:-}" in
types) types ;;
kernels) kernels ;;
*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
