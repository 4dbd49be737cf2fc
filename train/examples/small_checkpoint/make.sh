#!/usr/bin/env bash
# Makes the small checkpoint from nothing: manuals of Debian 12 packages are rendered, pages are set in fonts of others, seven stages
# train on them, the last one is exported and evaluated on manuals and fonts of further packages. usage:
#   make.sh FOLDER                       makes and evaluates it
#   make.sh FOLDER evaluate CHECKPOINT   evaluates a finished one, such as ingest/small, in some twenty minutes
# Some five hours on 2 cores with AVX-512, 13 GB of memory; every stage can be run again alone, from the one before.
set -euo pipefail
cd "$(dirname "$0")/../../.."
mkdir -p "$1"
work=$(realpath "$1")

training="texlive-latex-base-doc texlive-latex-recommended-doc texlive-publishers-doc texlive-humanities-doc texlive-science-doc
    octave-doc gap-doc asymptote-doc gretl-doc"
held_out="valgrind gnuplot-doc libtasn1-doc debian-policy developers-reference maxima-doc r-doc-pdf pari-doc
    shared-mime-info"
training_fonts="fonts-dejavu-core fonts-dejavu-extra fonts-liberation2 fonts-lato fonts-open-sans fonts-linuxlibertine fonts-cantarell
    fonts-inconsolata fonts-hack fonts-lmodern fonts-texgyre fonts-crosextra-carlito fonts-ebgaramond fonts-cabin fonts-quattrocento
    fonts-junicode fonts-oldstandard fonts-sil-gentium-basic fonts-sil-charis fonts-sil-andika fonts-comic-neue
    fonts-roboto-unhinted fonts-freefont-otf fonts-urw-base35 fonts-courier-prime fonts-jetbrains-mono fonts-lobster
    fonts-mononoki fonts-play fonts-prociono fonts-rufscript fonts-stix fonts-tuffy fonts-yanone-kaffeesatz fonts-noto-mono
    fonts-clear-sans fonts-adf-accanthis fonts-adf-baskervald fonts-adf-berenis fonts-adf-gillius fonts-adf-romande
    fonts-adf-universalis fonts-adf-verana fonts-averia-sans-gwf fonts-averia-serif-gwf fonts-arkpandora"
held_out_fonts="fonts-crosextra-caladea fonts-vollkorn fonts-croscore fonts-firacode fonts-go fonts-gfs-didot fonts-sil-doulos
    fonts-league-spartan fonts-humor-sans fonts-anonymous-pro fonts-adf-libris fonts-adf-ikarius fonts-fantasque-sans fonts-f500
    fonts-ocr-a"
# Not for text.
no_text='math|symbol|dingbat|d050|swash|initial|ornament|stixsiz|stixint|stixnonuni|stixvar|smallcaps|capsc|caps[0-9-]|outline|keyboard'

# unpack PACKAGE
unpack() {
    if [ ! -d "$work/$1" ]; then
        (cd "$work" && apt-get download "$1" && dpkg-deb -x "$1"_*.deb "$1" && rm "$1"_*.deb)
    fi
}

# manuals NAME PACKAGES...: the list NAME.txt of the packages' PDFs of some size
manuals() {
    for package in "${@:2}"; do
        unpack "$package"
        find "$work/$package" -name '*.pdf.gz' -exec gunzip -f {} +
        find "$work/$package" -name '*.pdf' -size +40k
    done | sort >"$work/$1.txt"
}

# fonts NAME PACKAGES...: the list NAME.txt of up to twelve text fonts of each package
fonts() {
    for package in "${@:2}"; do
        unpack "$package"
        find "$work/$package" -name '*.[ot]tf' | grep -viE "$no_text" | sort |
            awk '{ font[NR] = $0 } END { n = NR < 12 ? NR : 12; for (i = 0; i < n; i++) print font[1 + int(i * NR / n)] }'
    done >"$work/$1.txt"
}

manuals held_out $held_out
fonts training_fonts $training_fonts
fonts held_out_fonts $held_out_fonts

cargo build --release --workspace --example small_checkpoint
program="${CARGO_TARGET_DIR:-target}/release/examples/small_checkpoint"
# pages FOLDER ARGUMENTS...: made once
pages() {
    [ -f "$work/$1/pages.jsonl" ] || "$program" "${@:2}" --out "$work/$1"
}

# evaluate CHECKPOINT: on pages of manuals, and on ones that are set in fonts never seen, in fonts of the training, and so in running
# text alone; words are of manuals that the training did not see
evaluate() {
    pages held-out pages --files "$work/held_out.txt" --per-file 8
    pages evaluation pages --files "$work/held_out.txt" --per-file 16 --zoom 1 --seed 5
    pages set-evaluation synthetic --fonts "$work/held_out_fonts.txt" --words "$work/held-out" --count 320 --seed 5
    pages set-alike synthetic --fonts "$work/training_fonts.txt" --words "$work/held-out" --count 320 --seed 7
    pages set-in-order synthetic --fonts "$work/training_fonts.txt" --words "$work/held-out" --count 320 --seed 7 --in-order
    for set in evaluation set-evaluation set-alike set-in-order; do
        echo "$set"
        "$program" evaluate --checkpoint "$1" --pages "$work/$set"
    done
}
if [ "${2:-}" = evaluate ]; then
    evaluate "$3"
    exit
fi

manuals training $training
# Two of three are enough.
awk 'NR % 3 != 0' "$work/training.txt" >"$work/some.txt" && mv "$work/some.txt" "$work/training.txt"
pages pages pages --files "$work/training.txt" --per-file 3
pages held-out pages --files "$work/held_out.txt" --per-file 8
pages set synthetic --fonts "$work/training_fonts.txt" --words "$work/pages" --count 3000
[ -f "$work/tokenizer.json" ] || "$program" vocabulary --pages "$work/pages" --out "$work/tokenizer.json"

# The program has threads of its own; memory that is given back to the system after each operation costs a third of the time.
export RAYON_NUM_THREADS=1 MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=100000000000 MALLOC_TOP_PAD_=100000000
from=()
real=pages
# stage NAME ARGUMENTS...: goes on from the stage before
stage() {
    out="$work/$1.safetensors"
    [ -f "$out.done" ] || "$program" train "${@:2}" ${from[@]+"${from[@]}"} --pages "$work/$real" "$work/set" \
        --held-out "$work/held-out" --tokenizer "$work/tokenizer.json" --out "$out" | tee "$work/$1.log"
    touch "$out.done"
    from=(--from "$out")
}
stage reading --stage reading
stage words --stage words
stage lines --stage lines
stage blocks --stage blocks
# The long ones: an hour, an hour and a half, and an hour.
stage long --stage blocks --steps 14000
stage longer --stage blocks --steps 18000 --seed 6
# Seven of ten pages are set ones now, as those are harder.
mkdir -p "$work/half"
awk 'NR % 2' "$work/pages/pages.jsonl" >"$work/half/pages.jsonl"
find "$work/pages" -name '*.png' -exec ln -sf -t "$work/half" {} +
real=half
stage tiles --stage tiles
"$program" export "${from[@]}" --tokenizer "$work/tokenizer.json" --tiles tiles --out "$work/checkpoint"
unset RAYON_NUM_THREADS
evaluate "$work/checkpoint"
