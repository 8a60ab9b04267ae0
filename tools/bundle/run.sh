#!/usr/bin/env bash
# Runs what this bundle holds: correctness first, then compute-sanitizer, then the benches, within a budget of time. Every step writes its results at once; none stops those after it.
#
#   ./run.sh [--budget-s SECONDS] [--output FOLDER] [--brief]     (480 seconds; $OUT, or ./results)
#
# The exit status is 0 if no step of correctness failed. On a machine without a GPU the steps of the device say so, and the others are run; of those, --brief runs what shows that the programs work.
set -u

budget=480
output=${OUT:-$PWD/results}
brief=no
while [ $# -gt 0 ]; do
  case $1 in
    --budget-s) budget=${2:?seconds}; shift 2 ;;
    --output) output=${2:?a folder}; shift 2 ;;
    --brief) brief=yes; shift ;;
    *) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 2 ;;
  esac
done
case $budget in '' | *[!0-9]*) echo "--budget-s takes a number of seconds" >&2; exit 2 ;; esac

here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$output" && output=$(cd "$output" && pwd) || exit 2
scratch=$(mktemp -d) || exit 2
trap 'rm -rf "$scratch"' EXIT
rm -f "$output"/{machine,suite,conformance,sanitizer,log,summary}.txt "$output"/{check,bench}.json
export CUDA_CACHE_PATH=$scratch/cache HOME=$scratch TMPDIR=$scratch LD_LIBRARY_PATH=$here${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}

# Carried about, files may lose their permissions.
programs=$here
for name in peft-kernels suite conformance; do
  if [ ! -x "$here/$name" ]; then
    programs=$scratch/programs
    mkdir -p "$programs"
    cp "$here/peft-kernels" "$here/suite" "$here/conformance" "$programs"
    chmod +x "$programs"/*
    break
  fi
done
cd "$scratch" || exit 2

began=$SECONDS
elapsed() { echo $((SECONDS - began)); }

has_gpu=no
if [ -e /dev/nvidiactl ] || nvidia-smi -L >/dev/null 2>&1; then has_gpu=yes; fi

# ---- results -------------------------------------------------------------------------------------------------------------------------------------------------

failed=0
summarise() {  # step, status, seconds
  printf '%-22s %-12s %5d s\n' "$1" "$2" "$3" | tee -a "$output/summary.txt"
}

# step NAME SHARE KIND FILE COMMAND...: runs the command within its share (in hundredths) of the budget, or what is left of it. KIND is `must` (a failure, or no time, fails the run) or `may`
# (only a failure does). Standard output is added to FILE, errors to log.txt.
step() {
  local name=$1 share=$2 kind=$3 file=$4 start=$SECONDS limit left status
  shift 4
  limit=$((budget * share / 100))
  left=$((budget - $(elapsed)))
  [ "$limit" -le "$left" ] || limit=$left
  if [ "$limit" -lt 2 ]; then
    status="no time left"
  else
    printf '\n==== %s\n' "$name" >>"$output/log.txt"
    case $file in *.txt) printf '\n==== %s: %s\n' "$name" "$*" >>"$output/$file" ;; esac
    timeout -k 5 "$limit" "$@" >>"$output/$file" 2>>"$output/log.txt" </dev/null
    case $? in
      0) status=passed ;;
      124 | 137) status="out of time" ;;
      *) status=FAILED ;;
    esac
  fi
  if [ "$status" = FAILED ] || { [ "$kind" = must ] && [ "$status" != passed ]; }; then failed=1; fi
  summarise "$name" "$status" $((SECONDS - start))
}

on_device() {
  if [ $has_gpu = yes ]; then step "$@"; else summarise "$1" "no device" 0; fi
}

# ---- the machine -----------------------------------------------------------------------------------------------------------------------------------------------

{
  echo "date $(date -u +%Y-%m-%dT%H:%M:%SZ)"
  cat "$here/VERSION"
  uname -srm
  getconf GNU_LIBC_VERSION
  grep -m1 'model name' /proc/cpuinfo
  echo "processors $(nproc)"
  "$programs/peft-kernels" info
  if command -v nvidia-smi >/dev/null; then
    nvidia-smi --query-gpu=index,name,driver_version,vbios_version,pci.bus_id,memory.total,clocks.max.sm,clocks.max.mem,power.limit,ecc.mode.current --format=csv
    nvidia-smi
  else
    echo "no nvidia-smi"
  fi
} >"$output/machine.txt" 2>&1

printf 'budget %d s, GPU: %s\n%s\n\n' "$budget" "$has_gpu" "$(head -n 1 "$here/VERSION")" | tee "$output/summary.txt"
step files 10 must log.txt sh -c 'cd "$1" && sha256sum --quiet --check SHA256SUMS' - "$here"

# ---- correctness -----------------------------------------------------------------------------------------------------------------------------------------------

on_device device-trials 25 must suite.txt env PEFT_KERNELS_REQUIRE=device "$programs/suite" /cuda
on_device device-check 20 must check.json "$programs/peft-kernels" check --json --queue cuda:0
on_device device-conformance 15 must conformance.txt env PEFT_KERNELS_REQUIRE=device "$programs/conformance" /cuda
step operations 5 must suite.txt "$programs/suite" operations::
if command -v python3 >/dev/null; then
  step shared-library 5 must suite.txt python3 -c '
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
count = ctypes.c_int32(-1)
status = library.pk_device_count(ctypes.byref(count))
print("ABI", library.pk_abi_version(), "- pk_device_count:", status, count.value)
found = status == 0 and count.value > 0
sys.exit(found != (sys.argv[2] == "yes"))
' "$here/libpeft_kernels.so" $has_gpu
fi

# ---- compute-sanitizer, over one call of every operation, and over the primitives ----------------------------------------------------------------------------

sanitizer=
for candidate in "$here/sanitizer/compute-sanitizer" "$(command -v compute-sanitizer)" /usr/local/cuda/bin/compute-sanitizer; do
  if [ -f "$candidate" ]; then sanitizer=$candidate; break; fi
done
if [ -n "$sanitizer" ] && [ ! -x "$sanitizer" ]; then
  cp -r "$(dirname "$sanitizer")" "$scratch/sanitizer"
  sanitizer=$scratch/sanitizer/compute-sanitizer
  chmod +x "$sanitizer"
fi
sanitize() {  # tool, program, filter
  if [ -z "$sanitizer" ]; then summarise "$1-$2" "not found" 0; return; fi
  on_device "$1-$2" 7 may sanitizer.txt "$sanitizer" --tool "$1" --error-exitcode 99 --print-limit 20 "$programs/$2" --test-threads 1 "$3"
}
for tool in memcheck racecheck synccheck; do sanitize $tool suite each_call_gives_the_same_bits_twice/cuda; done
# Of memory that the host writes in place, initcheck knows nothing: these kernels' operands are copied.
for tool in memcheck racecheck synccheck initcheck; do sanitize $tool conformance tensor_product::a_tiled_product_is_right_at_every_shape_and_seed/cuda; done

# ---- benches, with the time that is left but for a reserve -----------------------------------------------------------------------------------------------------

if "$programs/peft-kernels" bench --help >/dev/null 2>&1; then
  left=$((budget - $(elapsed) - budget / 20))
  [ $left -ge 5 ] || left=5
  on_device benches 100 may log.txt "$programs/peft-kernels" bench --queue cuda:0 --budget $left --output "$output/bench.json"
else
  summarise benches "not built" 0
fi

# ---- the emulator's side, on this processor --------------------------------------------------------------------------------------------------------------------

if [ $has_gpu = no ]; then
  if [ $brief = yes ]; then of_check=(--family haar) of_suite=(small_shapes/bf16); else of_check=() of_suite=(); fi
  step host-check 30 must check.json "$programs/peft-kernels" check --json --queue cpu --queue emulator "${of_check[@]}"
  step host-conformance 30 must conformance.txt "$programs/conformance"
  step host-suite 90 must suite.txt env PEFT_KERNELS_TEST_SEEDS=1 "$programs/suite" "${of_suite[@]}"
else
  step host-conformance 15 may conformance.txt "$programs/conformance" /emulator
fi

printf '\n%s after %d s\n' "$([ $failed = 0 ] && echo passed || echo FAILED)" "$(elapsed)" | tee -a "$output/summary.txt"
exit $failed
