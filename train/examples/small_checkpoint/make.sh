#!/usr/bin/env bash
# Makes the small checkpoint from nothing: manuals of Debian 12 packages are rendered, four stages train on them, the last one is
# exported and evaluated on manuals of other packages. usage: make.sh FOLDER
# About an hour on a 2-core Xeon with AVX-512, 8 GB of memory; every stage can be run again alone, from the one before.
set -euo pipefail
cd "$(dirname "$0")/../../.."
mkdir -p "$1"
work=$(realpath "$1")

training="texlive-latex-base-doc texlive-latex-recommended-doc texlive-publishers-doc texlive-humanities-doc texlive-science-doc
    octave-doc gap-doc asymptote-doc gretl-doc"
held_out="valgrind gnuplot-doc libtasn1-doc debian-policy developers-reference maxima-doc r-doc-pdf pari-doc
    shared-mime-info"

# manuals NAME PACKAGES...: the list NAME.txt of the packages' PDFs of some size
manuals() {
    for package in "${@:2}"; do
        if [ ! -d "$work/$package" ]; then
            (cd "$work" && apt-get download "$package" && dpkg-deb -x "$package"_*.deb "$package" && rm "$package"_*.deb)
            find "$work/$package" -name '*.pdf.gz' -exec gunzip -f {} +
        fi
        find "$work/$package" -name '*.pdf' -size +40k
    done | sort >"$work/$1.txt"
}
manuals training $training
# Two of three are enough.
awk 'NR % 3 != 0' "$work/training.txt" >"$work/some.txt" && mv "$work/some.txt" "$work/training.txt"
manuals held_out $held_out

cargo build --release --workspace --example small_checkpoint
program="${CARGO_TARGET_DIR:-target}/release/examples/small_checkpoint"
[ -f "$work/pages/pages.jsonl" ] || "$program" pages --files "$work/training.txt" --per-file 3 --out "$work/pages"
[ -f "$work/held-out/pages.jsonl" ] || "$program" pages --files "$work/held_out.txt" --per-file 8 --out "$work/held-out"
[ -f "$work/tokenizer.json" ] || "$program" vocabulary --pages "$work/pages" --out "$work/tokenizer.json"

# The program has threads of its own; memory that is given back to the system after each operation costs a third of the time.
export RAYON_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=100000000
from=()
for stage in reading words lines blocks; do
    out="$work/$stage.safetensors"
    [ -f "$out.done" ] || "$program" train --stage "$stage" "${from[@]}" --pages "$work/pages" --held-out "$work/held-out" \
        --tokenizer "$work/tokenizer.json" --out "$out" | tee "$work/$stage.log"
    touch "$out.done"
    from=(--from "$out")
done
"$program" export "${from[@]}" --tokenizer "$work/tokenizer.json" --tiles blocks --out "$work/checkpoint"
unset RAYON_NUM_THREADS
[ -f "$work/evaluation/pages.jsonl" ] ||
    "$program" pages --files "$work/held_out.txt" --per-file 16 --seed 5 --out "$work/evaluation"
"$program" evaluate --checkpoint "$work/checkpoint" --pages "$work/evaluation"
