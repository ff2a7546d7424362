#!/usr/bin/env bash
# A Ray cluster inside a Slurm allocation, for one job: sbatch docs/clusters/slurm.sh jobs/sweep_lambda.py --preset ...
# The home folder, with the checkout, its .venv and results, must be one that all nodes see. docs/cluster.md says more.
#SBATCH --job-name=raypref
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --gpus-per-node=8
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

cd "${SLURM_SUBMIT_DIR:?run this by sbatch}"
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_TRAIN_ENABLE_STATE_TRACKING=1
export RAYPREF_ROOT="${RAYPREF_ROOT:-$PWD/results}"
ray get-auth-token --generate > /dev/null # into the shared home folder: ~/.ray/auth_token

mapfile -t hosts < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head="${hosts[0]}"
address=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')
port=$((20000 + SLURM_JOB_ID % 10000))     # several jobs may share a node
dashboard=$((30000 + SLURM_JOB_ID % 10000))
export RAY_API_SERVER_ADDRESS="http://127.0.0.1:$dashboard"

# One step a node, all that Ray starts inside it: Slurm ends it with the job, by SIGTERM and then SIGKILL.
srun --nodes=1 --ntasks=1 -w "$head" --overlap ray start --head --block --disable-usage-stats \
  --node-ip-address="$address" --port="$port" --dashboard-host=127.0.0.1 --dashboard-port="$dashboard" \
  --num-cpus="$SLURM_CPUS_PER_TASK" &
sleep 20
for host in "${hosts[@]:1}"; do
  srun --nodes=1 --ntasks=1 -w "$host" --overlap ray start --block --disable-usage-stats \
    --address="$address:$port" --num-cpus="$SLURM_CPUS_PER_TASK" &
done

# A requeued job goes on: what is done is not repeated.
RAY_ADDRESS="$address:$port" srun --nodes=1 --ntasks=1 -w "$head" --overlap python "$@"
