#!/usr/bin/env bash
# What is to be measured on one GPU, without ray and deepspeed: torch, transformers, peft and raypref's small dependencies.
#
#   bash benchmarks/on_gpu.sh --out FOLDER [--model FOLDER | --model PART --model PART ...] [--short] [--seconds S] [PART ...]
#
# Parts, all by default, in this order:
#   check   the GPU, and FlexAttention compiled against the dense mask (pytest -m gpu)
#   engine  a training step: the published way, prefix sharing, TRL, ours by documents and by FlexAttention; 1 B full and
#           LoRA, 8 B LoRA with K = 19, 135 M; and an evaluation, greedy and with 5 beams
#   study   the model of --model reads the histories of MovieLens 100K (in $RAYPREF_DATA/ml-100k), then its main study, a
#           seed after the other
# --model: a folder in the Hugging Face layout, or a GGUF file, whole or in parts. --short: a tiny model, a few steps, also
# on a CPU: to see that it runs. --seconds: no new command begins after so many (default 1500). What was not reached is said
# at the end. FOLDER then holds at most 8 files: log.txt, check.txt, engine.json, evaluation.json, rows of the study.
set -u
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" TOKENIZERS_PARALLELISM=true HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore
PYTHON=${PYTHON:-python3}
out= short= seconds=1500 models=() parts=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --model) models+=("$2"); shift 2 ;;
    --short) short=1; shift ;;
    --seconds) seconds=$2; shift 2 ;;
    check | engine | study) parts+=("$1"); shift ;;
    *) echo "error: unknown argument $1; see the head of benchmarks/on_gpu.sh" >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { echo "error: --out FOLDER is missing" >&2; exit 2; }
[ ${#parts[@]} -gt 0 ] || parts=(check engine study)
mkdir -p "$out"
out=$(cd "$out" && pwd)
scratch=${RAYPREF_ROOT:-$out/../on_gpu_scratch}
mkdir -p "$scratch/engine"
not_reached=()

run() { # run NAME COMMAND...: unless time is up; its output goes to the log
  local name=$1 began=$SECONDS
  shift
  if [ "$SECONDS" -ge "$seconds" ]; then not_reached+=("$name"); return 0; fi
  echo "== $name: $*" >> "$out/log.txt"
  timeout $((seconds - SECONDS + 60)) "$@" >> "$out/log.txt" 2>&1
  local code=$?
  [ "$code" = 0 ] || not_reached+=("$name (exit code $code)")
  echo "$name: exit $code, $((SECONDS - began)) s" | tee -a "$out/log.txt"
}

engine() { # engine NAME OPTIONS...
  local name=$1
  shift
  run "engine $name" "$PYTHON" benchmarks/engine.py "$@" --alone --write "$scratch/engine/$name"
}

for part in "${parts[@]}"; do
  case $part in
    check)
      (nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv || echo "no GPU") > "$out/check.txt" 2>&1
      run flex "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu tests/models/test_flex_on_gpu.py
      ;;
    engine)
      if [ -n "$short" ]; then
        engine tiny --shape tiny --negatives 1 3 --repeats 2
        engine tiny-lora --shape tiny --lora 4 --negatives 3 --repeats 2
      else
        engine 1b-lora --shape 1b --lora 8 --micro 8 --copies 16 --negatives 3 15 19 --peak-tflops 989
        engine 1b --shape 1b --micro 16 --copies 16 --batch 64 --only published flex-compiled --negatives 3 15 --peak-tflops 989
        engine 8b-lora --shape 8b --lora 8 --only flex flex-compiled --micro 2 --negatives 3 19 --checkpointing --peak-tflops 989
        engine 135m --shape 135m --micro 32 --copies 64 --only published flex flex-compiled --negatives 3 15 --peak-tflops 989
      fi
      "$PYTHON" - "$scratch/engine" "$out/engine.json" << 'END'
import json, pathlib, sys
found = {path.parent.name: json.loads(path.read_text()) for path in sorted(pathlib.Path(sys.argv[1]).glob("*/*.json"))}
pathlib.Path(sys.argv[2]).write_text(json.dumps(found, indent=1) + "\n")
END
      ;;
    study)
      model=$(IFS=,; echo "${models[*]:-}") # parts of one file with commas between
      if [ -n "$short" ]; then
        study=(--preset smoke --dataset generated --resources.engine torch --only sft sdpo)
      else
        study=(--preset smollm2-gpu --dataset ml-100k --prompt.no-chat --sft.learning-rate 1e-4 --sft.max-steps 100)
        study+=(--sft.validations 1 --align.learning-rate 5e-5 --align.max-steps 60)
        study+=(--only random popularity sasrec zero-shot sft sdpo recpo simpo dpo-3 dpo napo eapo)
        reads=(--adapt.tokenizer own --adapt.counted titles --adapt.copy-steps 0 --adapt.histories 0.5 --adapt.batch 32)
        reads+=(--adapt.steps 700 --adapt.learning-rate 1e-3 --adapt.longest 60 --adapt.warmup 50 --adapt.validation 256)
        [ -d "$scratch/adapted" ] || run "reading histories" "$PYTHON" -m raypref.cli adapt --preset smollm2-gpu --dataset ml-100k --prompt.no-chat \
          ${model:+--model.path "$model"} --root "$scratch/store" --out "$scratch/adapted" "${reads[@]}"
        model=$scratch/adapted
      fi
      [ -z "$model" ] || study+=(--model.path "$model")
      for seeds in 1 2 3; do
        run "study of $seeds seed(s)" "$PYTHON" jobs/replicate.py --study main "${study[@]}" \
          --seeds "$seeds" --no-ray --root "$scratch/store"
        for folder in "$scratch"/store/sweeps/replicate-main-*; do # also of one that was cut off
          for name in users.parquet results.parquet claims.csv; do
            [ ! -f "$folder/$name" ] || cp "$folder/$name" "$out/study-$name"
          done
        done
        [ -z "$short" ] || break
      done
      ;;
  esac
done
[ ${#not_reached[@]} = 0 ] && echo "all was reached" || printf 'not reached: %s\n' "${not_reached[@]}"
