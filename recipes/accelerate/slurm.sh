#!/usr/bin/env bash
# Several nodes under Slurm, whatever the engine; what stands behind the recipe goes to `hf-distill run`:
#
#     CONFIG=recipes/accelerate/fsdp2.yaml sbatch --nodes 4 recipes/accelerate/slurm.sh my.yaml --set seeds=[0]
#
# Two minutes before the time is up, or when the job is pre-empted, all processes save a checkpoint and end. The job goes
# back into the queue, and the same command goes on where it was.
#SBATCH --job-name=hf-distill
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

export CONFIG=${CONFIG:-recipes/accelerate/ddp_nodes.yaml}
export GPUS=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-8}))
names=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
export HEAD=${names%%$'\n'*}
# One cache for all nodes, where this folder is on a shared disk: one download of a revision instead of one a node.
export HF_HOME=${HF_HOME:-$PWD/.hf_home}
# The launcher on each node would end its processes with SIGKILL 30 s after SIGTERM, saved or not.
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-100}

# With `B:` the signal comes to this shell, which knows by it that the job is to go on later: the launcher ends with its
# own exit code 1 then, and not with the 143 of the processes.
signals=0
job=
trap 'signals=$((signals + 1)); [[ -z $job ]] || kill -TERM "$job" 2>/dev/null || true' TERM

# shellcheck disable=SC2016  # The node's own number is known on the node.
srun --wait=110 bash -c 'exec accelerate launch --config_file "$CONFIG" --num_machines "$SLURM_NNODES" \
    --num_processes "$GPUS" --machine_rank "$SLURM_NODEID" --main_process_ip "$HEAD" --main_process_port 29500 \
    -m hf_distill run "$@"' hf-distill "$@" &
job=$!
((signals == 0)) || kill -TERM "$job" 2>/dev/null || true

# A signal ends `wait`, but not the job; the exit code of a job that has ended meanwhile is kept for the next `wait`.
while true; do
    before=$signals
    code=0
    wait "$job" || code=$?
    ((signals > before)) || break
done
if ((signals > 0 || code == 143)); then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
